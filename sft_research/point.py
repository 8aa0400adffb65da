"""One point of a grid: the command that makes it, the process in which it runs, and what its folder says of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from threading import Thread
from typing import IO, Any, Protocol, Self

from sft_research import lock
from sft_research.untrusted import read_json

LIFELINE = "SFT_LIFELINE"  # in the environment of a run whose standard input ends with its grid
GRID = "SFT_GRID"  # the grid that a run is a point of
LOST = 3  # in the place of a run's status where it has none: its tail is the cause
STANDING_BACK_S = 120.0  # for a process of this run that is still saving what it did elsewhere


@dataclass(frozen=True)
class Point:
    """One run of a grid: its overrides, its folder, and the command that makes it in the grid's directory."""

    overrides: tuple[str, ...]
    folder: Path
    command: tuple[str, ...]
    label: str  # the overrides that tell it from the other points
    grid: str = ""  # what its grid is called, for the tracker's group
    cwd: str = field(default_factory=os.getcwd)  # a cluster's worker starts elsewhere

    @property
    def name(self) -> str:
        """Its folder's, and where it pauses: the rungs of a search are jobs of one run."""
        return " ".join([self.folder.name, *(word for word in self.command if word.startswith("pause_at="))])

    @property
    def held(self) -> bool:
        """Whether another process is writing its folder."""
        return lock.is_held(lock.of(Path(self.cwd, self.folder)))


@dataclass(frozen=True)
class Ended:
    """How a point's process ended; `tail` is the end of what it said to standard error."""

    status: int
    tail: str


class Child(Protocol):
    """A process as subprocess.Popen gives it."""

    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self) -> int | None: ...
    def send_signal(self, sig: int) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: Any) -> None: ...


# Starts a point's command with an environment, a file for what it says, and open files that it inherits.
Begin = Callable[[Point, Mapping[str, str], IO[bytes], Sequence[int]], Child]


def begun(point: Point, environment: Mapping[str, str], said: IO[bytes], keeps: Sequence[int]) -> Child:
    """By a new interpreter."""
    return subprocess.Popen(
        point.command,
        cwd=point.cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=said,
        start_new_session=True,
        env=environment,
        pass_fds=keeps,
    )


@dataclass
class Process:
    """A point's process on this machine, in a session of its own: a signal reaches it through its grid alone.

    Its standard input ends with the grid, however that ends, and it saves and stops then. What it says goes to a
    file and not to a pipe, so that it may still say what it does when nobody reads.
    """

    point: Point
    environment: Mapping[str, str]
    keeps: Sequence[int] = ()  # open files that it inherits
    begin: Begin = begun

    def __post_init__(self) -> None:
        state = Path(self.point.cwd, self.point.folder, "state.json")
        if read_json(state).get("state") != "paused":  # a run that rests does so until it goes on
            with suppress(OSError):  # what an earlier process did last is not what this one does
                state.unlink()
        self._said: IO[bytes] = TemporaryFile()  # noqa: SIM115, closed in `ended`
        environment = {**self.environment, LIFELINE: "stdin", GRID: self.point.grid}
        self._process = self.begin(self.point, environment, self._said, self.keeps)

    def ended(self, wait: bool = False) -> Ended | None:
        """How it ended; None while it goes on."""
        if self._process.poll() is None and not wait:
            return None
        with self._process, self._said:  # closed, and waited for
            status = self._process.wait()
            self._said.seek(0)
            assert status is not None
            return Ended(status, self._said.read().decode(errors="replace")[-2000:])

    def signal(self, number: int) -> None:
        self._process.send_signal(number)


def run_point(point: Point) -> Ended:
    """Run one point's command to its end, as a job of a cluster."""
    stand_back(point)
    ended = Process(point, os.environ).ended(wait=True)
    assert ended
    return ended


def stand_back(point: Point) -> None:
    """Wait, for a while, until no other process writes the point's folder."""
    until = time.monotonic() + STANDING_BACK_S
    while point.held and time.monotonic() < until:
        time.sleep(1)


def grid_name() -> str:
    """In a run: of the grid that started it; empty in one that is alone."""
    return os.environ.get(GRID, "")


def stop_with_the_grid() -> None:
    """In a run: get SIGTERM, at which it saves, when the grid that started it is gone, however it ended."""
    if os.environ.pop(LIFELINE, None):
        Thread(target=_watch, daemon=True, name="lifeline").start()


def _watch() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
