"""One point of a grid: the command that makes it, and the process in which it runs."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

_running: set[subprocess.Popen] = set()  # the points of this process's grid


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
    """Run one point's command to its end, wherever this is called."""
    with subprocess.Popen(
        point.command, cwd=point.cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        _running.add(process)
        try:
            _, said = process.communicate()
        finally:
            _running.discard(process)
    return Ended(process.returncode, said[-2000:])


def pass_on(number: int) -> None:
    """A signal to the grid is one to its runs, which save; a terminal's Ctrl-C has reached them already."""
    for process in list(_running) if number != signal.SIGINT else []:
        process.send_signal(number)
