"""A grid: one process a run, so that no GPU memory, W&B run or random state is shared.

Each point is the command a person would have typed, so a point can be repeated alone, and a grid
that is run again skips what is finished.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from sft_research import result, secrets, stopping
from sft_research.config import MAIN, ConfigError, compose, config_dir_of
from sft_research.console import speaking
from sft_research.point import Ended, Here, Point, run_point
from sft_research.stopping import Stopped

log = logging.getLogger("sft_research")


class GridFailed(Exception):
    """At least one point of a grid failed: which ones, and why."""


def points_of(job_overrides: Iterable[Sequence[str]], config: DictConfig) -> list[Point]:
    """The grid's points; raises ConfigError where two of them would write one folder."""
    if config.plan:
        raise ConfigError("plan=true is of one run, and this is a grid. Fix: plan=false, or leave out -m")
    config_dir = config_dir_of(config.hydra)
    if config.hydra.job.config_name != MAIN:
        raise ConfigError("the config of a run's folder makes one run. Fix: leave out -m")
    experiment = config.hydra.runtime.choices.get("experiments")
    points = []
    grid = [tuple(overrides) for overrides in job_overrides]
    for overrides in grid:
        typed = [f"experiments={experiment}", *overrides] if experiment else list(overrides)
        typed = list(dict.fromkeys(typed))
        run = compose(typed, config_dir)
        flags = ["--config-dir", config_dir] if config_dir else []
        command = (sys.executable, "-m", "sft_research.train", *flags, *typed, "hydra.mode=RUN")
        label = " ".join(o for o in overrides if len(grid) == 1 or any(o not in other for other in grid))
        points.append(Point(overrides, run.folder, command, secrets.redact(label)))
    if len({point.folder for point in points}) < len(points):
        raise ConfigError(
            "two points of this grid have the same overrides. Fix: leave out the repeated value"
        )
    return points


def redact_what_hydra_wrote(config: DictConfig) -> None:
    """Strike secrets out of multirun.yaml, in which Hydra keeps what was typed, before the first run."""
    file = Path(config.hydra.sweep.dir) / "multirun.yaml"
    if file.is_file():
        file.write_text(secrets.redact(file.read_text()))


def launch_local(points: list[Point], n: int) -> list[JobReturn]:
    """At most `n` processes at a time on this machine. A signal is passed on to them, and no more are started;
    raises Stopped when they have ended."""
    if n < 1:
        raise ConfigError(f"hydra.launcher.n={n} starts no run. Fix: hydra.launcher.n=1")
    here = Here()
    with stopping.listening(here.pass_on), speaking(), ThreadPoolExecutor(n) as pool:
        waiting = {pool.submit(here.run, point): i for i, point in enumerate(points)}
        ended = {}
        try:
            for future in as_completed(waiting):
                index, end = waiting[future], future.result()
                if end and not here.asked:  # what a signal has ended says so in its own folder
                    ended[index] = end
                    _say(len(ended), points, points[index], end)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # leaving the block alone would run them all
            raise
    if here.asked:
        stopped = Stopped(here.asked)
        stopped.args = ("Interrupted. The same command goes on with the grid.",)
        raise stopped
    return _returns(points, [ended[i] for i in range(len(points))])


def launch_slurm(points: list[Point], folder: Path, parameters: dict[str, Any]) -> list[JobReturn]:
    """One job of a Slurm array a point, through submitit."""
    submitit = _library("submitit", "slurm")
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
    except RuntimeError as error:
        raise ConfigError(f"{error}. Fix: hydra/launcher=local, or run this where sbatch is") from error
    executor.update_parameters(name="sft_research", **parameters)
    jobs = executor.map_array(run_point, points)
    ended = []
    with speaking():
        for number, (point, job) in enumerate(zip(points, jobs, strict=True), start=1):
            lost = job.exception()
            ended.append(job.result() if lost is None else Ended(1, str(lost)))
            _say(number, points, point, ended[-1])
    return _returns(points, ended)


def launch_ray(points: list[Point], address: str | None, cpus: float, gpus: float) -> list[JobReturn]:
    """One Ray task a point, on an existing cluster or one started here."""
    ray = _library("ray", "ray")
    ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    try:
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(run_point)
        futures = [task.remote(point) for point in points]
        ended = []
        with speaking():
            for number, (point, future) in enumerate(zip(points, futures, strict=True), start=1):
                try:
                    ended.append(ray.get(future))
                except ray.exceptions.RayError as error:
                    ended.append(Ended(1, str(error)))
                _say(number, points, point, ended[-1])
    finally:
        ray.shutdown()
    return _returns(points, ended)


def _returns(points: list[Point], ended: list[Ended]) -> list[JobReturn]:
    """Hydra's answer a point: its held-out loss. Raises GridFailed, after all have ended, naming each failure."""
    causes = [_cause(point, end) for point, end in zip(points, ended, strict=True)]
    failed = [f"  {point.label}: {cause}" for point, cause in zip(points, causes, strict=True) if cause]
    if failed:
        raise GridFailed(f"{len(failed)} of {len(points)} runs failed\n" + "\n".join(failed))
    return [
        JobReturn(overrides=point.overrides, status=JobStatus.COMPLETED, _return_value=_loss(point))
        for point in points
    ]


def _cause(point: Point, end: Ended) -> str:
    """Why a run failed, in one line; empty where it did not."""
    if end.status == 0:
        return "" if (point.folder / "result.json").is_file() else "ended without a result"
    failure = point.folder / "failure.json"
    if end.status == 1 and failure.is_file():
        found = json.loads(failure.read_text())
        return f"{found['error']}: {found['message']}; {failure}"
    if end.status == -9:
        return "killed by signal 9, as a system that is out of memory does; plan=true says what it needs"
    lines = end.tail.strip().splitlines()
    return lines[-1] if lines else f"ended with status {end.status}"


def _loss(point: Point) -> float | None:
    return result.read(point.folder / "result.json").after.loss


def _say(number: int, points: list[Point], point: Point, end: Ended) -> None:
    cause = _cause(point, end)
    loss = None if cause else _loss(point)
    outcome = "failed" if cause else "done" if loss is None else f"held-out loss {loss:.4f}"
    log.info("%s", f"[{number}/{len(points)}] {point.label}  {outcome}  {point.folder}")


def _library(name: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f'hydra/launcher={extra} needs {name}. Fix: pip install -e ".[{extra}]", or hydra/launcher=local'
        ) from error
