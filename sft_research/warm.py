"""Runs of a local grid, forked from a process that has done their imports: of a short run those are most.

    grid --- asks ----------------> parent    one a backend: Unsloth, torch, trl, peft are imported, and nothing else
      \\                               |
       `--- waits for, signals ---> run       a session, standard input and standard error of its own, as any other

The parent forks twice, and a run whose own parent has ended becomes the child of the grid. So the grid gets its
exit status at first hand, and a warm parent that cannot be had, or dies, costs nothing but speed: the grid starts
processes as it would without.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO

from sft_research import gpus, hardware
from sft_research.config import Run
from sft_research.grid import Grid
from sft_research.point import GRID, LIFELINE, Begin, Child, Point, begun

OF_A_RUN = (sys.executable, "-m", "sft_research.train")  # how the command of a run begins
BACKENDS = ("sft_research.backend.Transformers", "sft_research.backend.Unsloth")
# Arrow's allocator starts a thread when it is imported; in the parent alone, which must have none.
QUIET = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
GIVEN = {gpus.NAMES, LIFELINE, GRID}  # what the environment of a run has of its own
IMPORTS_S = 300.0  # after which a parent is given up
ANSWER_S = 60.0
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)


def backend_of(point: Point, run: Run) -> str | None:
    """The backend whose warm parent may fork this run; None where it must have a process of its own from the start.

    Imports look at a GPU, and what has touched one cannot be forked. Only Linux hands a run over to the grid.
    """
    if sys.platform != "linux" or hardware.gpu() or point.command[: len(OF_A_RUN)] != OF_A_RUN:
        return None
    if run.cfg.devices > 1:  # its other ranks are new processes, and all should count alike
        return None
    backend = str(run.cfg.backend._target_)
    return backend if backend in BACKENDS else None


class Warm:
    """The warm parents of a grid: one for each backend of which two or more points are to run."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._backends: dict[Point, str | None] = {}
        self._parents: dict[str | None, Parent] = {}

    def expect(self, grid: Grid, points: Sequence[Point]) -> None:
        """Start the imports for these points."""
        runs = dict(zip(grid.points, grid.runs, strict=True))
        self._backends |= {point: backend_of(point, runs[point]) for point in points}
        for backend, count in Counter(self._backends.values()).items():
            if backend and count > 1 and backend not in self._parents:
                self._parents[backend] = Parent(backend, self._environment)

    def begin(self, point: Point) -> Begin | None:
        """What starts this point's process; None while its parent is at its imports."""
        parent = self._parents.get(self._backends[point])
        if parent is None or parent.gone:
            return begun
        return parent.fork if parent.ready() else None


class Parent:
    """A warm parent as its grid sees it. It ends when the grid does, or has no more use for it."""

    def __init__(self, backend: str, environment: Mapping[str, str]) -> None:
        self._environment, self._cwd = dict(environment), os.getcwd()
        self._until = time.monotonic() + IMPORTS_S
        self._ready = self.gone = False
        self._asks, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "sft_research.warm_parent", backend, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C is for the grid
                env=QUIET | self._environment,
                pass_fds=[theirs.fileno()],
            )
        self.pid = process.pid
        self._end = weakref.finalize(self, _end, self._asks, process)

    def ready(self) -> bool:
        """Whether it may be asked, or has gone."""
        if not self._ready and not self.gone:
            try:
                self._asks.setblocking(False)
                self._heard()
                self._ready = True
            except BlockingIOError:
                if time.monotonic() < self._until:
                    return False
                self._give_up()
            except OSError:
                self._give_up()
        return True

    def fork(
        self, point: Point, environment: Mapping[str, str], said: IO[bytes], keeps: Sequence[int]
    ) -> Child:
        """A forked run; where that cannot be, a process as any other."""
        differs = dict(environment.items() ^ self._environment.items()).keys()
        if point.cwd != self._cwd or not GIVEN.issuperset(differs):  # it might import something else
            return begun(point, environment, said, keeps)
        asked = {
            "arguments": point.command[len(OF_A_RUN) :],
            "set": {name: environment[name] for name in differs if name in environment},
            "unset": [name for name in {**QUIET, **self._environment} if name not in environment],
        }
        reading, lifeline = os.pipe()
        try:
            self._asks.settimeout(ANSWER_S)
            with _adopting():
                socket.send_fds(self._asks, [json.dumps(asked).encode()], [reading, said.fileno(), *keeps])
                run = Forked(int(self._heard()), lifeline)
            os.write(lifeline, b"\n")  # it waits for this: a run that the grid has not heard of never begins
            return run
        except OSError:
            self._give_up()
            os.close(lifeline)
            return begun(point, environment, said, keeps)
        finally:
            os.close(reading)

    def _heard(self) -> bytes:
        if said := self._asks.recv(64):
            return said
        raise ConnectionError("it has ended")

    def _give_up(self) -> None:
        self.gone = True
        self._end()


def _end(asks: socket.socket, process: subprocess.Popen[bytes]) -> None:
    asks.close()
    process.kill()  # it may be at its imports still
    process.wait()


class Forked:
    """A run that was forked elsewhere and is our child, as subprocess.Popen gives one."""

    def __init__(self, pid: int, lifeline: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._lifeline = lifeline

    def poll(self) -> int | None:
        return self._waited(os.WNOHANG)

    def wait(self) -> int | None:
        return self._waited(0)

    def _waited(self, how: int) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, how)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lifeline)
        self.wait()


@contextmanager
def _adopting() -> Iterator[None]:
    """Inside, this process becomes the parent of what a child of its leaves behind; raises OSError where it cannot."""
    prctl = ctypes.CDLL(None).prctl
    if prctl(SUBREAPER, 1, 0, 0, 0):
        raise OSError("prctl(2) makes no subreaper")
    try:
        yield
    finally:
        prctl(SUBREAPER, 0, 0, 0, 0)
