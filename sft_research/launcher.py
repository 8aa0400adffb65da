"""Drives a grid: what is finished is skipped, the rest runs wherever the engine runs it, and all of it is shown.

Each point is the command a person would have typed, in a process of its own, so that no GPU memory, W&B run
or random state is shared, and a point can be repeated alone.
"""

from __future__ import annotations

import importlib
import logging
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from sft_research import secrets, stopping
from sft_research.config import ConfigError
from sft_research.console import speaking
from sft_research.grid import Grid
from sft_research.live import Live
from sft_research.point import Ended, Point
from sft_research.stopping import Stopped

log = logging.getLogger("sft_research")
LOOK_S = 0.2  # between two looks at what goes on


class GridFailed(Exception):
    """At least one point of a grid failed: which ones, and why."""


class Engine(Protocol):
    """Where points run. Nothing here waits, but for a scheduler's answer."""

    def start(self, grid: Grid, points: Sequence[Point]) -> None:
        """Take on the points that are not finished; again with those that a search adds.

        Raises ConfigError where that cannot be.
        """

    def poll(self) -> Iterator[tuple[Point, Ended]]:
        """Those that have ended since the last time; where there is room, others are started."""
        ...

    def running(self) -> Mapping[Point, tuple[str, str | None]]:
        """Those that go on: their host, and their job where there is a scheduler."""
        ...

    def stop(self, number: int) -> None:
        """The grid got this signal: no point is started any more."""

    @property
    def idle(self) -> bool:
        """Whether there is nothing left to wait for."""
        ...

    @property
    def left(self) -> str:
        """Of an engine that was stopped: what a person is to know about its points."""
        ...


def launch(grid: Grid, engine: Engine) -> list[JobReturn]:
    """Hydra's answer a point: its held-out loss.

    Raises GridFailed, after all have ended, naming each failure, and Stopped when a signal has ended the grid.
    """
    asked: list[int] = []
    with grid.held(), stopping.listening(lambda number, _: asked.append(number)), speaking() as console:
        todo = grid.look()
        if done := _finished(grid):
            log.info("%d of %d runs are finished already.", done, len(grid.points))
        if todo:
            with Live(grid, console) as live:
                _drive(grid, engine, todo, live, asked)
        grid.write()  # the disk may have had no room for the last change
        log.info("%s", grid.folder / "sweep.json")
        if _finished(grid) > 1:
            log.info("%s", shlex.join(["python", "-m", "sft_research.compare", str(grid.folder)]))
    if asked and _finished(grid) < len(grid.became):
        stopped = Stopped(asked[0])
        again = "without rerun=true " if any(run.cfg.rerun for run in grid.runs) else ""
        stopped.args = (f"Interrupted. {engine.left}The same command {again}goes on with the grid.",)
        raise stopped
    return _returns(grid)


def _finished(grid: Grid) -> int:
    return sum(became.state == "finished" for became in grid.became.values())


def _drive(grid: Grid, engine: Engine, todo: list[Point], live: Live, asked: list[int]) -> None:
    engine.start(grid, todo)
    told = 0
    while not engine.idle:
        for number in asked[told:]:
            engine.stop(number)
            told += 1
        for point, end in engine.poll():
            live.ended(point, grid.ended(point, end))
        if not asked and (more := grid.more()):
            engine.start(grid, more)
        grid.goes_on(engine.running())
        live.show()
        time.sleep(LOOK_S)


def _returns(grid: Grid) -> list[JobReturn]:
    failed = [(p, b) for p, b in grid.became.items() if b.state not in ("finished", "paused")]
    if failed:
        lines = (f"  {point.label}: {became.cause or became.state}" for point, became in failed)
        raise GridFailed(f"{len(failed)} of {len(grid.points)} runs failed\n" + "\n".join(lines))
    return [
        JobReturn(
            overrides=point.overrides, status=JobStatus.COMPLETED, _return_value=grid.became[point].loss
        )
        for point in grid.points
    ]


def redact_what_hydra_wrote(config: DictConfig) -> None:
    """Strike secrets out of multirun.yaml, in which Hydra's own sweepers keep what was typed."""
    file = Path(config.hydra.sweep.dir) / "multirun.yaml"
    if file.is_file():
        file.write_text(secrets.redact(file.read_text()))


def library(name: str, extra: str, group: str = "hydra/launcher", instead: str = "local") -> Any:
    """Import what only this option needs; raises ConfigError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f'{group}={extra} needs {name}. Fix: pip install -e ".[{extra}]", or {group}={instead}'
        ) from error
