"""One point of a grid: the command that makes it, and the process in which it runs."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from threading import RLock, Thread
from types import FrameType
from typing import IO, Any

LIFELINE = "SFT_LIFELINE"  # in the environment of a run whose standard input ends with its grid


@dataclass(frozen=True)
class Point:
    """One run of a grid: its overrides, its folder, and the command that makes it in the grid's directory."""

    overrides: tuple[str, ...]
    folder: Path
    command: tuple[str, ...]
    label: str  # the overrides that tell it from the other points
    cwd: str = field(default_factory=os.getcwd)  # a Ray worker starts elsewhere


@dataclass(frozen=True)
class Ended:
    """How a point's process ended; `tail` is the end of what it said to standard error."""

    status: int
    tail: str


def run_point(point: Point) -> Ended:
    """Run one point's command to its end, as a job of a cluster, which signals all processes of a job."""
    with TemporaryFile() as said, _start(point, said) as process:
        return _ended(process, said)


class Here:
    """The runs of a grid on this machine, each in a session of its own: a signal reaches it through the grid alone.

    So it comes as often as the grid gets it, whether a terminal's Ctrl-C or `kill` of the grid's process sends it.
    """

    def __init__(self) -> None:
        self.asked: int | None = None  # the first signal that came
        self._running: set[subprocess.Popen] = set()
        self._starting = RLock()  # again, by a second signal that comes while the first is passed on

    def run(self, point: Point) -> Ended | None:
        """Run one point's command to its end; None where the grid has been asked to stop."""
        with TemporaryFile() as said:
            with self._starting:  # a signal comes before a run is started, or finds it
                if self.asked is not None:
                    return None
                alone = {"stdin": subprocess.PIPE, "start_new_session": True}
                process = _start(point, said, **alone, env=os.environ | {LIFELINE: "stdin"})
                self._running.add(process)
            try:
                with process:
                    return _ended(process, said)
            finally:
                self._running.discard(process)

    def pass_on(self, number: int, frame: FrameType | None = None) -> None:
        """The grid's handler of every signal: no run is started any more, and those that go on are told."""
        with self._starting:
            self.asked = self.asked or number
            for process in self._running:
                process.send_signal(number)


def stop_with_the_grid() -> None:
    """In a run: get SIGTERM, at which it saves, when the grid that started it is gone, however it ended."""
    if os.environ.pop(LIFELINE, None):
        Thread(target=_watch, daemon=True, name="lifeline").start()


def _watch() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _start(point: Point, said: IO[bytes], **more: Any) -> subprocess.Popen:
    # Files and no pipes: a run whose grid is gone, and that saves, may still say what it does.
    return subprocess.Popen(point.command, cwd=point.cwd, stdout=subprocess.DEVNULL, stderr=said, **more)


def _ended(process: subprocess.Popen, said: IO[bytes]) -> Ended:
    status = process.wait()
    said.seek(0)
    return Ended(status, said.read().decode(errors="replace")[-2000:])
