"""hydra/launcher=local: `n` processes at a time on this machine, each with GPUs of its own where there are any."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sft_research import gpus, lock
from sft_research.config import ConfigError
from sft_research.gpus import Taken
from sft_research.grid import Grid
from sft_research.point import Ended, Point, Process
from sft_research.warm import Warm

LOOK_S = 3.0  # between two questions to all that wait, whether they go on elsewhere


@dataclass(frozen=True)
class _Running:
    process: Process
    has: Taken


class Local:
    """`n`: processes at a time; None for as many as the GPUs allow, or one for each two cores where there is none.

    It does not depend on how many points are left: the threads of a run decide how its sums are rounded.
    """

    left = ""  # a run that is told to stop saves and ends before its grid does

    def __init__(self, n: int | None, gpus_a_run: int) -> None:
        self._gpus = gpus.visible()
        each = gpus_a_run if self._gpus else 0
        if n is not None and (type(n) is not int or n < 1):
            raise ConfigError(f"hydra.launcher.n={n} starts no run. Fix: hydra.launcher.n=1, or null")
        if type(gpus_a_run) is not int or gpus_a_run < 0 or each > len(self._gpus):
            raise ConfigError(
                f"hydra.launcher.gpus={gpus_a_run}, and this machine has {len(self._gpus)}. "
                f"Fix: hydra.launcher.gpus={min(1, len(self._gpus))}"
            )
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.n = n or (len(self._gpus) // each if each else max(cores // 2, 1))
        self._each = each
        self._threads = {"OMP_NUM_THREADS": str(max(cores // self.n, 1))}
        self._warm = Warm({**self._threads, **os.environ})
        self._waiting: deque[Point] = deque()
        self._running: dict[Point, _Running] = {}
        self._elsewhere: set[Point] = set()  # of those that wait, as they were last asked
        self._next = 0.0
        self._asked = False

    def start(self, grid: Grid, points: Sequence[Point]) -> None:
        self._waiting.extend(points)
        self._warm.expect(grid, points)

    def poll(self) -> Iterator[tuple[Point, Ended]]:
        for point, running in list(self._running.items()):
            if end := running.process.ended():
                del self._running[point]
                running.has.give_back()
                yield point, end
        for point in [point for point in self._waiting if point not in self._elsewhere]:
            if self._asked or len(self._running) == self.n:
                return
            # One that goes on elsewhere, or saves after its grid was killed, has its turn when that has ended.
            begin = self._warm.begin(point)
            if begin is None:
                continue
            if point.held:
                self._elsewhere.add(point)
                continue
            if not (has := gpus.take(self._gpus, self._each)):
                return
            self._waiting.remove(point)
            environment = {**self._threads, **os.environ, **has.environment}
            self._running[point] = _Running(Process(point, environment, has.files, begin), has)

    def running(self) -> dict[Point, tuple[str, None]]:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LOOK_S
            self._elsewhere = {point for point in self._waiting if point.held}
        elsewhere = [point for point in self._waiting if point in self._elsewhere]
        here = dict.fromkeys(self._running, (lock.host(), None))
        return here | dict.fromkeys(elsewhere, ("elsewhere", None))

    def stop(self, number: int) -> None:
        """A run is told each time that the grid is: at a second Ctrl-C it leaves at once."""
        self._asked = True
        for running in self._running.values():
            running.process.signal(number)

    @property
    def idle(self) -> bool:
        return not self._running and (self._asked or not self._waiting)
