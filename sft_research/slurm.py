"""hydra/launcher=slurm: a job array on a Slurm cluster, through submitit; a driver that comes back finds its jobs.

A job is known by its name, which says the grid, and by its place in the array: whatever becomes of a driver, the
next one asks `squeue` for the names of this grid, and the points' folders for what has ended. slurmdbd is not needed.

runs/<experiment>/grids/<grid>/slurm/
  1.json        the points of batch 1, in the order of its array; written before it is submitted
  1.0.json      its first point: on which host it began, and how it ended
  %j/           submitit's files and the logs of each job
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sft_research.checkpoint import write_json
from sft_research.config import ConfigError
from sft_research.frozen import freeze
from sft_research.grid import Grid
from sft_research.launcher import library
from sft_research.point import Ended, Point
from sft_research.slurm_job import Job
from sft_research.untrusted import read_json

LOOK_S = 5.0  # between two questions to the scheduler
MISSED = 2  # looks in a row without a job, after which it is gone: a controller that restarts knows none


@dataclass(frozen=True)
class Queued:
    """A line of squeue: the job's id, its state (PENDING, RUNNING, ...) and its node."""

    job: str
    state: str
    node: str


class Slurm:
    """`parameters`: of submitit's SlurmExecutor; `requeues`: how often a job may run into its time limit."""

    def __init__(self, parameters: Mapping[str, Any], requeues: int) -> None:
        self._parameters, self._requeues = dict(parameters), requeues
        self._submitted: dict[Point, tuple[int, int]] = {}  # batch, place in its array
        self._queue: dict[tuple[int, int], Queued] = {}
        self._missed: dict[Point, int] = {}
        self._again: set[Point] = set()  # submitted once more, since their job never began
        self._next, self._asked = 0.0, False

    def start(self, grid: Grid, points: Sequence[Point]) -> None:
        library("submitit", "slurm")
        self._folder = (grid.folder / "slurm").resolve()
        self._folder.mkdir(exist_ok=True)
        self._name = f"sft-{hashlib.sha256(str(self._folder).encode()).hexdigest()[:8]}"
        self._frozen = freeze(grid, self._folder.parent / "code")
        self._queue = self._look()
        of_name = {point.folder.name: point for point in points}
        for batch in sorted(self._batches(), key=lambda file: int(file.stem)):
            for place, name in enumerate(read_json(batch)["points"]):
                if name in of_name and (int(batch.stem), place) in self._queue:
                    self._submitted[of_name[name]] = int(batch.stem), place
        self._submit([point for point in points if point not in self._submitted])

    def poll(self) -> Iterator[tuple[Point, Ended]]:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK_S
        try:
            self._queue = self._look()
        except ConfigError:  # a controller that is down; the jobs go on
            return
        lost = []
        for point, place in list(self._submitted.items()):
            self._missed[point] = 0 if place in self._queue else self._missed.get(point, 0) + 1
            noted = read_json(self._note(place))
            if place in self._queue or (self._missed[point] < MISSED and "status" not in noted):
                continue
            del self._submitted[point]
            if noted or point in self._again:
                yield point, self._ended(place, noted)
            else:
                lost.append(point)
        self._again.update(lost)
        self._submit(lost)

    def running(self) -> dict[Point, tuple[str, str]]:
        queued = {point: self._queue.get(place) for point, place in self._submitted.items()}
        return {point: (q.node, q.job) for point, q in queued.items() if q and q.state != "PENDING"}

    def stop(self, number: int) -> None:
        """The driver leaves; its jobs go on."""
        self._asked = True

    @property
    def idle(self) -> bool:
        return self._asked or not self._submitted

    @property
    def left(self) -> str:
        count = len(self._submitted)
        return f"{count} jobs go on in Slurm; scancel --name={self._name} ends them. " if count else ""

    def _submit(self, points: Sequence[Point]) -> None:
        """In arrays that the cluster allows, each noted before it is submitted."""
        size = _largest_array()
        for begin in range(0, len(points), size):
            chunk = points[begin : begin + size]
            number = 1 + max((int(file.stem) for file in self._batches()), default=0)
            write_json(self._folder / f"{number}.json", {"points": [point.folder.name for point in chunk]})
            jobs = [
                Job(replace(point, command=self._frozen.command(point)), self._note((number, i)))
                for i, point in enumerate(chunk)
            ]
            executor = self._executor(f"{self._name}-{number}")
            if len(jobs) == 1:
                executor.submit(jobs[0])
            else:
                executor.map_array(Job.__call__, jobs)
            self._submitted |= {point: (number, place) for place, point in enumerate(chunk)}

    def _executor(self, name: str) -> Any:
        import submitit

        try:
            executor = submitit.SlurmExecutor(self._folder / "%j", max_num_timeout=self._requeues)
        except RuntimeError as error:
            raise ConfigError(f"{error}. Fix: hydra/launcher=local, or run this where sbatch is") from error
        setup = [*self._frozen.setup, *self._parameters.get("setup", [])]
        executor.update_parameters(**self._parameters | {"setup": setup, "job_name": name})
        return executor

    def _batches(self) -> Iterator[Path]:
        return (file for file in self._folder.glob("*.json") if file.stem.isdigit())

    def _note(self, place: tuple[int, int]) -> Path:
        return self._folder / f"{place[0]}.{place[1]}.json"

    def _look(self) -> dict[tuple[int, int], Queued]:
        """This grid's jobs that wait or run."""
        found = {}
        for line in _asked("squeue", "--me", "--noheader", "--array", "--format=%i|%j|%T|%N").splitlines():
            job, name, state, node = line.strip().split("|")
            if name.rpartition("-")[0] == self._name:
                place = int(job.partition("_")[2] or 0)
                found[int(name.rpartition("-")[2]), place] = Queued(job, state, node)
        return found

    def _ended(self, place: tuple[int, int], noted: Mapping[str, Any]) -> Ended:
        """As the job itself said; of one that could not, as Slurm does."""
        if "status" in noted:
            return Ended(int(noted["status"]), str(noted["tail"]))
        return Ended(
            1, f"{_fate(str(noted.get('job', '')))}; its logs: {self._folder}/{noted.get('job', '')}"
        )


def _largest_array() -> int:
    """MaxArraySize is one more than the largest index."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _asked("scontrol", "show", "config"), re.MULTILINE)
    return int(found[1]) if found else 1000


def _fate(job: str) -> str:
    """What became of a job that left no word: Slurm's memory of it lasts some minutes, its database's for ever."""
    for command in (
        ("scontrol", "--oneliner", "show", "job", job),
        ("sacct", "-X", "-n", "-P", "--format=State,ExitCode,NodeList", "-j", job),
    ):
        try:
            said = _asked(*command).strip()
        except ConfigError:
            continue
        state = re.search(r"JobState=(\S+)", said)
        code, node = re.search(r" ExitCode=(\S+)", said), re.search(r" NodeList=(\S+)", said)
        if state:
            return f"job {job} was lost: {state[1]}, exit code {code and code[1]}, on {node and node[1]}"
        if said:
            return "job {} was lost: {}, exit code {}, on {}".format(job, *said.splitlines()[0].split("|"))
    return f"job {job} was lost, and Slurm does not know it any more"


def _asked(*command: str) -> str:
    """What a command of Slurm prints; raises ConfigError where it cannot be asked."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(
            f"{command[0]}: {error}. Fix: hydra/launcher=local, or run this where Slurm is"
        ) from error
    if done.returncode:
        raise ConfigError(
            f"{command[0]} failed: {done.stderr.strip()}. Fix: hydra/launcher=local, or ask who runs the cluster"
        )
    return done.stdout
