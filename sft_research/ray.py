"""hydra/launcher=ray: one task a run on a Ray cluster. What ends one task, an exception, a killed worker or a node
that is lost, leaves the others alone; a run whose worker or node was lost goes on elsewhere from its checkpoint.

Ray ends the tasks of a driver that dies, and their runs save; the same command goes on with the grid.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from sft_research.config import ConfigError
from sft_research.grid import Grid
from sft_research.launcher import library
from sft_research.point import LOST, Ended, Point, run_point

RETRIES = 3  # of a run whose worker or node is lost
ANSWERS_S = 5.0  # in which a cluster that is there takes a connection


class Ray:
    """`resources`: what a run takes of the cluster, as `ray.remote` names it."""

    left = "Its runs save and end. "

    def __init__(self, address: str | None, resources: dict[str, Any]) -> None:
        self._address, self._resources = address, resources
        self._run: Any = None  # what Ray makes of `run_point`, once there is a cluster
        self._tasks: dict[Any, Point] = {}
        self._asked = False

    def start(self, grid: Grid, points: Sequence[Point]) -> None:
        if self._run is None:
            self._connect()
        self._tasks |= {self._run.remote(point): point for point in points}

    def poll(self) -> Iterator[tuple[Point, Ended]]:
        if self.idle:
            return  # once shut down, Ray would begin anew when it is asked
        ended, _ = self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0)
        for task in ended:
            point = self._tasks.pop(task)
            try:
                yield point, self._ray.get(task)
            except self._ray.exceptions.RayError as error:
                yield point, Ended(LOST, f"Ray lost its task: {_line(error)}")

    def running(self) -> dict[Point, tuple[str, str | None]]:
        return {point: ("ray", None) for point in self._tasks.values() if point.held}

    def stop(self, number: int) -> None:
        self._asked = True
        self._ray.shutdown()

    @property
    def idle(self) -> bool:
        return self._asked or not self._tasks

    def _connect(self) -> None:
        ray = self._ray = library("ray", "ray")
        _require_listening(self._address)
        try:
            ray.init(
                address=self._address or "local",
                logging_level=logging.ERROR,
                log_to_driver=False,
                runtime_env={"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}},
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise _no_cluster(self._address, error) from error
        self._require_room(ray)
        self._run = ray.remote(**self._resources, max_retries=RETRIES)(run_point)

    def _require_room(self, ray: Any) -> None:
        """Ray waits for ever for what no node has."""
        asked = {
            "CPU": self._resources["num_cpus"],
            "GPU": self._resources["num_gpus"],
            "memory": self._resources.get("memory", 0),
            **self._resources.get("resources", {}),
        }
        asked = {name: amount for name, amount in asked.items() if amount}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0) >= amount for name, amount in asked.items()) for node in nodes):
            has = "; ".join(sorted({", ".join(f"{k} {node.get(k, 0):g}" for k in asked) for node in nodes}))
            raise ConfigError(
                f"no node of the Ray cluster has {', '.join(f'{k} {v:g}' for k, v in asked.items())}: {has}. "
                "Fix: hydra.launcher.cpus=1 hydra.launcher.gpus=0 hydra.launcher.memory_gb=null "
                "hydra.launcher.resources={}"
            )


def _require_listening(address: str | None) -> None:
    """Ray looks for many minutes for a cluster that is not there."""
    if address == "auto":  # the environment's, or that of the latest `ray start` here, which may be gone
        latest = Path(os.environ.get("RAY_TMPDIR") or gettempdir(), "ray", "ray_current_cluster")
        address = os.environ.get("RAY_ADDRESS") or (
            latest.read_text().strip() if latest.is_file() else address
        )
    found = address and re.fullmatch(r"(?:ray://)?(.+):(\d+)", address)
    if found:
        try:
            socket.create_connection((found[1], int(found[2])), timeout=ANSWERS_S).close()
        except OSError as error:
            raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: Exception) -> ConfigError:
    return ConfigError(
        f"hydra.launcher.address={address or 'null'}: {_line(error)}. Fix: the HOST:PORT that `ray start --head` has "
        "printed, hydra.launcher.address=auto on a node of the cluster, or null for a Ray of its own here"
    )


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")
