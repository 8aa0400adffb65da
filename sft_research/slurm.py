"""hydra/launcher=slurm: a job array on a Slurm cluster, through submitit; a driver that comes back finds its jobs.

A job is known by its name, which says the grid, and by its place in the array: whatever becomes of a driver, the
next one asks `squeue` for the names of this grid, and the points' folders for what has ended.

runs/<experiment>/grids/<grid>/slurm/
  1.json        the points of batch 1, in the order of its array; written before it is submitted
  1.0.json      its first point: on which host it began, and how it ended
  12_0/         submitit's files and the logs of job 12_0
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

from sft_research import scheduler
from sft_research.checkpoint import write_json
from sft_research.config import ConfigError
from sft_research.frozen import freeze
from sft_research.grid import Grid
from sft_research.launcher import library
from sft_research.point import LOST, Ended, Point
from sft_research.scheduler import Queued
from sft_research.slurm_job import Job
from sft_research.untrusted import read_json

log = logging.getLogger("sft_research")
LOOK_S = 5.0  # between two questions to the scheduler
MISSED = 2  # looks in a row without a job, after which it is gone: a controller that restarts knows none
# Why a job waits that is started by and by; of any other reason a person should know.
PATIENT = ("None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Cleaning", "Prolog")
OF_MEMORY = re.compile(r"^slurmstepd\S*: error: (.*(?:memory limit|oom).*)$", re.MULTILINE | re.IGNORECASE)
TIMEOUT = "TIMEOUT"  # Slurm's word for a job that its time limit has ended


@dataclass(frozen=True)
class Submitted:
    """The job of a point: its batch, its place in the array, and its id."""

    batch: int
    place: int
    job: str


class Slurm:
    """`parameters`: of submitit's SlurmExecutor; `requeues`: how often a job may run into its time limit."""

    def __init__(self, parameters: Mapping[str, Any], requeues: int) -> None:
        self._parameters, self._requeues = dict(parameters), requeues
        self._submitted: dict[Point, Submitted] = {}
        self._elsewhere: list[Point] = []  # those that another grid's jobs are writing
        self._queue: dict[tuple[int, int], Queued] = {}
        self._missed: dict[Point, int] = {}
        self._told: set[str] = set()  # reasons for which jobs wait
        self._next, self._begun, self._asked = 0.0, False, False

    def start(self, grid: Grid, points: Sequence[Point]) -> None:
        if not self._begun:
            self._begin(grid, points)
        rest = [point for point in points if point not in self._submitted]
        self._elsewhere += (held := [point for point in rest if point.held])
        self._submit([point for point in rest if point not in held])

    def poll(self) -> Iterator[tuple[Point, Ended]]:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK_S
        try:
            self._queue = scheduler.queue(self._name)
        except ConfigError:  # a controller that is down; the jobs go on
            return
        self._say_what_holds_up()
        yield from self._ended_elsewhere()
        for point, submitted in list(self._submitted.items()):
            queued = (submitted.batch, submitted.place) in self._queue
            self._missed[point] = 0 if queued else self._missed.get(point, 0) + 1
            noted = read_json(self._note(submitted.batch, submitted.place))
            # One that was stopped may be requeued, and be on its way into the queue.
            over = noted.get("status", 128) < 128
            if not queued and (over or self._missed[point] >= MISSED):
                del self._submitted[point]
                yield point, self._ended(submitted.job, noted)

    def _ended_elsewhere(self) -> Iterator[tuple[Point, Ended]]:
        """Points that no other grid's job writes any more: what it has not finished is submitted."""
        free = [point for point in self._elsewhere if not point.held]
        self._elsewhere = [point for point in self._elsewhere if point not in free]
        runs = dict(zip(self._grid.points, self._grid.runs, strict=True))
        done = [point for point in free if self._grid.rests(point, runs[point])]
        self._submit([point for point in free if point not in done])
        yield from ((point, Ended(0, "")) for point in done)

    def running(self) -> dict[Point, tuple[str, str | None]]:
        queued = {point: self._queue.get((s.batch, s.place)) for point, s in self._submitted.items()}
        found: dict[Point, tuple[str, str | None]] = dict.fromkeys(self._elsewhere, ("elsewhere", None))
        return found | {point: (q.node, q.job) for point, q in queued.items() if q and q.state != "PENDING"}

    def stop(self, number: int) -> None:
        """The driver leaves; its jobs go on."""
        self._asked = True

    @property
    def idle(self) -> bool:
        return self._asked or not (self._submitted or self._elsewhere)

    @property
    def left(self) -> str:
        jobs = sorted({submitted.job.partition("_")[0] for submitted in self._submitted.values()}, key=int)
        count = len(self._submitted)
        return f"{count} jobs go on in Slurm; scancel {' '.join(jobs)} ends them. " if count else ""

    def _begin(self, grid: Grid, points: Sequence[Point]) -> None:
        library("submitit", "slurm")
        self._folder = (grid.folder / "slurm").resolve()
        self._folder.mkdir(exist_ok=True)
        self._name = f"sft-{hashlib.sha256(str(self._folder).encode()).hexdigest()[:8]}"
        self._frozen = freeze(grid, self._folder.parent / "code")
        self._attach(points)
        self._begun, self._grid = True, grid

    def _attach(self, points: Sequence[Point]) -> None:
        """Find the jobs that an earlier driver of this grid has left."""
        of_name = {point.name: point for point in points}
        for (batch, place), queued in sorted(scheduler.queue(self._name).items()):
            if not (self._folder / queued.job / f"{queued.job}_submitted.pkl").is_file():
                scheduler.cancel(queued.job)  # its driver was killed meanwhile, and it would wait in vain
                continue
            names = read_json(self._batch(batch)).get("points", [])
            if place < len(names) and names[place] in of_name:
                self._submitted[of_name[names[place]]] = Submitted(batch, place, queued.job)
        if self._submitted:
            log.info("%d jobs of this grid are in Slurm already.", len(self._submitted))

    def _submit(self, points: Sequence[Point]) -> None:
        """In arrays that the cluster allows, each noted before it is submitted."""
        size = scheduler.largest_array() if points else 1
        for begin in range(0, len(points), size):
            chunk = points[begin : begin + size]
            batch = 1 + max((int(f.stem) for f in self._folder.glob("*.json") if f.stem.isdigit()), default=0)
            write_json(self._batch(batch), {"points": [point.name for point in chunk]})
            jobs = [
                Job(replace(point, command=self._frozen.command(point)), self._note(batch, place))
                for place, point in enumerate(chunk)
            ]
            for place, (point, job) in enumerate(zip(chunk, self._sbatch(batch, jobs), strict=True)):
                self._submitted[point] = Submitted(batch, place, job)

    def _sbatch(self, batch: int, jobs: Sequence[Job]) -> list[str]:
        """The ids of these, submitted; raises ConfigError where Slurm does not take them."""
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        setup = [*self._frozen.setup, *self._parameters.get("setup", [])]
        named = {"setup": setup, "job_name": f"{self._name}-{batch}"}
        try:
            with redirect_stderr(StringIO()):  # what sbatch says is in the error too
                executor = submitit.SlurmExecutor(self._folder / "%j", max_num_timeout=self._requeues)
                executor.update_parameters(**self._parameters | named)
                return [job.job_id for job in executor.submit_array(jobs)]
        except (RuntimeError, FailedJobError, FailedSubmissionError) as error:
            count = len(self._submitted)
            left = f" {count} jobs of this grid go on." if count else ""
            raise ConfigError(
                f"Slurm refuses the jobs: {str(error).strip()}.{left} "
                "Fix: hydra.launcher.partition=..., memory_gb, minutes, ... as the cluster has them (sinfo --long)"
            ) from error

    def _batch(self, number: int) -> Path:
        return self._folder / f"{number}.json"

    def _note(self, batch: int, place: int) -> Path:
        return self._folder / f"{batch}.{place}.json"

    def _say_what_holds_up(self) -> None:
        for queued in self._queue.values():
            if queued.state == "PENDING" and queued.reason not in {*PATIENT, *self._told}:
                self._told.add(queued.reason)
                log.warning("Job %s waits: %s (scontrol show job %s)", queued.job, queued.reason, queued.job)

    def _ended(self, job: str, noted: Mapping[str, Any]) -> Ended:
        """As the job itself said; of one that could not, as Slurm does."""
        if "status" in noted:
            return Ended(int(noted["status"]), str(noted["tail"]))
        logs = self._folder / job
        fate = scheduler.fate(job, began=bool(noted))
        said = OF_MEMORY.findall("".join(file.read_text(errors="replace") for file in logs.glob("*.err")))
        if said:
            fate += f"; {max(said, key=len)}. Fix: hydra.launcher.memory_gb=..."
        if TIMEOUT in fate:
            fate += "; Fix: hydra.launcher.grace_seconds=..., in which the run ends a step and saves"
        return Ended(LOST, f"{fate}; its logs: {logs}")
