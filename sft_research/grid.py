"""A grid: its points, what became of each of them, and sweep.json, which says so.

runs/<experiment>/grids/<what was typed>/
  sweep.json   slurm/   code/
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from sft_research import lock, secrets, stopping
from sft_research.checkpoint import write_json
from sft_research.composer import Composer, with_values
from sft_research.config import ConfigError, Run, folder_name
from sft_research.past_runs import GRIDS
from sft_research.pausing import paused
from sft_research.point import Ended, Point
from sft_research.record import Folder
from sft_research.typed import Typed
from sft_research.untrusted import read_json


@dataclass
class Became:
    """What is known of a point. `state`: waiting, running, finished, paused (`pause_at`), failed or interrupted."""

    state: str = "waiting"
    cause: str | None = None  # of a failure
    loss: float | None = None  # held out, after training, in nats a completion token
    seconds: float | None = None
    host: str | None = None
    job: str | None = None


@dataclass
class Grid:
    """The points, where the grid keeps its own files, and the command that makes it."""

    points: list[Point]
    runs: list[Run]
    folder: Path
    command: str
    became: dict[Point, Became] = field(default_factory=dict)
    warned: bool = False  # that sweep.json could not be written

    @contextmanager
    def held(self) -> Iterator[None]:
        """One process drives a grid; raises ConfigError where it is another."""
        lock.require_writable(self.folder)
        self.folder.mkdir(exist_ok=True)
        with lock.held(lock.of(self.folder), self.folder):
            yield

    def look(self) -> list[Point]:
        """Read what every point's folder says of it, and give those that are not finished."""
        self.became = {p: self.rests(p, r) or Became() for p, r in zip(self.points, self.runs, strict=True)}
        self.write()
        return [point for point in self.points if self.became[point].state == "waiting"]

    def more(self) -> list[Point]:
        """Points that what has ended asks for: a search has some, a grid none."""
        return []

    def goes_on(self, running: Mapping[Point, tuple[str, str | None]]) -> None:
        """Note those that run: their host and their job."""
        states = [became.state for became in self.became.values()]
        for point, became in self.became.items():
            if point in running and became.state == "waiting":
                became.state, (became.host, became.job) = "running", running[point]
            elif point not in running and became.state == "running":
                became.state = "waiting"
        if states != [became.state for became in self.became.values()]:
            self.write()

    def ended(self, point: Point, end: Ended) -> Became:
        """What a point's process has left behind."""
        run = self.runs[self.points.index(point)]
        # Asked anew: a model may be in the cache by now; and what rerun=true asked for is done.
        made = replace(run, cfg=with_values(run.cfg, ["rerun=false"])) if end.status == 0 else run
        became = self.rests(point, made) or _unfinished(point, end)
        was = self.became[point]
        became.host, became.job = became.host or was.host, was.job
        self.became[point] = became
        self.write()
        return became

    def write(self) -> None:
        """sweep.json. A full disk ends no grid: it is written again at the next change, and at the end."""
        found = {"command": self.command, "points": [self._said(point) for point in self.points]}
        try:
            write_json(self.folder / "sweep.json", found)
        except OSError as error:
            if not self.warned:
                logging.getLogger("sft_research").warning("sweep.json could not be written: %s", error)
            self.warned = True

    def rests(self, point: Point, run: Run) -> Became | None:
        """Of a point that has come to where it was sent."""
        return finished(run) or resting(run, run.cfg.pause_at)

    def _said(self, point: Point) -> dict[str, Any]:
        return {
            "overrides": [secrets.redact(override) for override in point.overrides],
            "label": point.label,
            "folder": str(Path("..", "..", point.folder.name)),
            **asdict(self.became.get(point, Became())),
        }


def finished(run: Run) -> Became | None:
    """What a finished run came to, read without importing torch."""
    result = Folder(run).finished()
    if result is None:
        return None
    environment = read_json(run.folder / "environment.json")
    return Became("finished", None, result.after.loss, result.seconds, environment.get("host"))


def resting(run: Run, at: float | None) -> Became | None:
    """What a run has come to that paused where it was asked to."""
    noted = paused(run, at)
    if noted is None:
        return None
    return Became("paused", loss=noted.loss, host=read_json(run.folder / "state.json").get("host"))


def _unfinished(point: Point, end: Ended) -> Became:
    state = read_json(point.folder / "state.json")
    asked = end.status > 128 or -end.status in stopping.SIGNALS  # the latter before its handlers are up
    cause = None if asked else why(point, end)
    return Became("interrupted" if asked else "failed", cause, host=state.get("host"))


def why(point: Point, end: Ended) -> str:
    """The cause of a failure, in one line."""
    if end.status == 0:
        return "ended without a result"
    file = point.folder / "failure.json"
    failure = read_json(file)
    # An older process may have left one: this one says its error last.
    if end.status == 1 and failure and str(failure.get("error")) in end.tail:
        return f"{failure.get('error')}: {failure.get('message')}; {file}"
    if end.status == -9:
        return "killed by signal 9, as a system that is out of memory does; plan=true says what it needs"
    lines = end.tail.strip().splitlines()
    return lines[-1] if lines else f"ended with status {end.status}"


def grid_of(job_overrides: Iterable[Sequence[str]], config: DictConfig) -> Grid:
    """The grid that Hydra's sweeper asks for; raises ConfigError where two of its points would write one folder."""
    typed = Typed(config)
    grid = [tuple(overrides) for overrides in job_overrides]
    runs = composed([typed.whole(overrides) for overrides in grid], typed.config_dir)
    if len({run.folder for run in runs}) < len(runs):
        raise ConfigError(
            "two points of this grid have the same overrides. Fix: leave out the repeated value"
        )
    folder = runs[0].folder.parent / GRIDS / folder_name(config.hydra.overrides.task)
    points = []
    for overrides, run in zip(grid, runs, strict=True):
        label = " ".join(o for o in overrides if len(grid) == 1 or any(o not in other for other in grid))
        points.append(typed.point(overrides, run, label, folder))
    return Grid(points, runs, folder, typed.command)


def composed(grid: Sequence[Sequence[str]], config_dir: str | None) -> list[Run]:
    """The run of each list of overrides, as `compose` makes it."""
    varied = {o for overrides in grid for o in overrides if not all(o in other for other in grid)}
    composer = Composer(config_dir)
    return [composer(overrides, varied) for overrides in grid]
