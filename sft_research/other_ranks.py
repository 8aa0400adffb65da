"""The other ranks of a run of several devices: processes that the run, itself rank 0, starts and ends.

Each is the same command again, told by its environment which rank it is, as torchrun tells it. torchrun itself is not
between them: USR1 and USR2, at which a run saves, kill it; it kills after 30 s what is still saving; and it makes one
exit status of all. Ranks that torchrun has started are taken as they are.

    kill -9 of another rank   ends the run, which says which rank was lost and how
    kill -9 of the run        ends the others: their standard input ends with it
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from threading import Event, Thread
from typing import IO

from sft_research import hardware, ranks, stopping
from sft_research.config import Run

LOOK_S = 0.5  # between two looks at whether all are there
NOTICE_S = 10.0  # in which a run notices that it waits for a rank that is gone; on a GPU it may never do
LEAVE_S = 30.0  # for a rank to end that has nothing left to do, or has failed
# What an error says that a lost rank leaves in those who wait for it.
OF_A_PEER = re.compile("gloo|nccl|connection (closed|reset|refused)|broken pipe|tcpstore", re.IGNORECASE)


_raised = Event()  # an error is on its way out of this process, and will be said without a watch


class RankFailed(RuntimeError):
    """Another rank has ended, and with it the run: which, how, and the last that it said."""

    def __init__(self, rank: int, status: int, said: str) -> None:
        self.said = f"rank {rank} said:\n{said}"  # with its traceback
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        last = said.partition("\nTraceback")[0]
        self.follows = bool(OF_A_PEER.search(last))  # since still another was lost
        super().__init__(f"rank {rank} of this run {how}{f', and said: {last}' if last else ''}")


@contextmanager
def beside(run: Run, leave: Callable[[BaseException], None]) -> Iterator[None]:
    """Inside, the other ranks of a run on several devices are there. Where one fails RankFailed is raised, or, where
    this process can no longer raise since it waits for that rank, `leave` is given it and the process ends."""
    if run.cfg.devices == 1 or ranks.count() > 1:  # alone, or started by torchrun
        yield
        return
    with TemporaryDirectory(prefix="sft-ranks-") as place:
        each = [_variables(rank, run.cfg.devices, Path(place, "meet")) for rank in range(run.cfg.devices)]
        others = _Others(run, each[1:])
        _raised.clear()
        watch = Thread(target=others.watch, args=(leave,), daemon=True, name="ranks")
        watch.start()
        try:
            with ranks.environment(each[0]):
                yield
            others.let_leave()
        except RuntimeError as error:
            if lost := others.lost_by(error):
                print(lost.said)  # into train.log
                raise lost from error
            raise
        finally:
            others.end()
            watch.join()


@contextmanager
def raising() -> Iterator[None]:
    """An error inside takes its time on the way out, where a tracker is told of it; all ranks may have raised it."""
    try:
        yield
    except BaseException:
        _raised.set()
        raise


class _Others:
    """Ranks 1 and up, in sessions of their own: a terminal's Ctrl-C reaches rank 0 alone, and it tells them."""

    def __init__(self, run: Run, variables: Sequence[dict[str, str]]) -> None:
        self._done = Event()
        self._said: dict[int, IO[bytes]] = {}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        for rank, of_rank in enumerate(variables, 1):
            self._said[rank] = TemporaryFile()  # noqa: SIM115, closed in `end`
            self._processes[rank] = subprocess.Popen(
                [sys.executable, *run.words, "hydra.mode=RUN"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._said[rank],
                start_new_session=True,
                env=os.environ | of_rank,
            )

    def lost(self) -> RankFailed | None:
        """Of the ranks that have ended and were not told to, as those are that stop with all, the first cause."""
        found = []
        for rank, process in self._processes.items():
            status = process.poll()
            if status and status - 128 not in stopping.SIGNALS:
                file = self._said[rank].fileno()
                said = os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace").strip()
                found.append(RankFailed(rank, status, said))
        return min(found, key=lambda lost: lost.follows, default=None)

    def lost_by(self, error: BaseException) -> RankFailed | None:
        """The rank whose end another's `error` is, if it is; how it ended is known when it has."""
        if not OF_A_PEER.search(str(error)):
            return None
        until = time.monotonic() + LEAVE_S
        while (not (lost := self.lost()) or lost.follows) and time.monotonic() < until:
            time.sleep(0.05)
        return lost

    def watch(self, leave: Callable[[BaseException], None]) -> None:
        while not self._done.wait(LOOK_S):
            if not self.lost() or self._done.wait(NOTICE_S) or _raised.is_set():
                continue
            if lost := self.lost():
                try:
                    print(lost.said)
                    leave(lost)
                finally:
                    self._kill()
                    os._exit(1)

    def let_leave(self) -> None:
        """They have done all that there was to do."""
        self._done.set()
        for process in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(LEAVE_S)

    def end(self) -> None:
        self._done.set()
        self._kill()
        for rank, process in self._processes.items():
            with process:  # waited for, and its standard input closed
                self._said[rank].close()

    def _kill(self) -> None:
        """With the workers of their dataloaders."""
        for process in self._processes.values():
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def end_with_the_run() -> None:
    """In a rank that a run has started: end at once when that run is gone, however it ended."""
    if ranks.MEET in os.environ and not ranks.first():
        Thread(target=_watch_the_run, daemon=True, name="lifeline").start()


def _watch_the_run() -> None:
    while os.read(0, 1):
        pass
    shutil.rmtree(
        Path(os.environ[ranks.MEET]).parent, ignore_errors=True
    )  # which a run that was killed has left
    os.killpg(0, signal.SIGKILL)  # it may wait for the others where no exception reaches it


def _variables(rank: int, count: int, meet: Path) -> dict[str, str]:
    """What torchrun sets, and how these find each other: on this machine alone."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    variables = {name: str(number) for name, number in numbers.items()} | {ranks.MEET: str(meet)}
    # They share the cores; in a torch that has read this already `ranks.joined` sets it.
    threads = int(os.environ.get(ranks.THREADS, "").partition(",")[0] or hardware.cores())
    variables[ranks.THREADS] = str(max(1, threads // count))
    # C++ warns on the screen of what is known: a search for unused weights, without which some models fail.
    variables["TORCH_CPP_LOG_LEVEL"] = os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR")
    if sys.platform == "linux":
        variables["GLOO_SOCKET_IFNAME"] = "lo"
    return variables
