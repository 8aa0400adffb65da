"""The process from which the runs of a grid are forked: python -m sft_research.warm_parent BACKEND SOCKET

It imports what a run does and forks before any thread or device is touched. A run goes on from there as
`python -m sft_research.train` does, to the same bits.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST = 1 << 20  # bytes of a request
FILES = 64


@dataclass(frozen=True)
class Asked:
    """A run: its arguments, in what its environment differs from ours, and its open files (standard input, standard
    error, others that it inherits)."""

    arguments: list[str]
    set: dict[str, str]
    unset: list[str]
    files: list[int]


class Present:
    """Standard output or error as it is when a run writes: a library that logs keeps what it finds when it is imported,
    and a run has a log of its own."""

    followed = False  # in the parent, where Unsloth wraps what it finds for a while

    def __init__(self, name: str) -> None:
        vars(self).update(_name=name, _own=getattr(sys, name))

    @property
    def _now(self) -> Any:
        now = getattr(sys, self._name)
        return now if self.followed and now is not self else self._own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now, name)

    def __setattr__(self, name: str, value: Any) -> None:  # W&B puts a `write` of its own in
        setattr(self._now, name, value)


def become_ready(backend: str) -> None:
    """Import what every run of this backend imports."""
    for name in ("stdout", "stderr"):
        setattr(sys, name, Present(name))
    gc.disable()
    from hydra.utils import get_class

    get_class(backend)().activate()
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401
    import peft  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401
    from hydra.core.plugins import Plugins

    from sft_research import metrics, overlap, plan, preflight, prepare, recording, train, training  # noqa: F401

    Plugins.instance()  # Hydra's search for them
    gc.enable()
    gc.freeze()  # the pages of what is imported stay shared


def require_alone() -> None:
    """Exit where a thread is alive, which a forked child would lack."""
    if not (trial := os.fork()):
        os._exit(0)
    os.waitpid(
        trial, 0
    )  # OpenBLAS has ended its threads for the fork, and starts them again where it needs them
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        sys.exit(f"{len(threads)} threads are alive after the imports")


def serve(asks: socket.socket) -> Asked | None:
    """Fork a run for each request: gives its own in each of them, and None in the parent, when the grid is gone."""
    imported = stamps()
    asks.send(b"ready")
    while True:
        text, files, _, _ = socket.recv_fds(asks, MOST, FILES, socket.MSG_CMSG_CLOEXEC)
        if not text or stamps() != imported:  # edited since: a new process would run the new text
            return None
        pid = fork_twice()
        if pid == 0:
            asks.close()
            return Asked(**json.loads(text), files=files)
        for file in files:
            os.close(file)
        asks.send(str(pid).encode())


def fork_twice() -> int:
    """The number of a new process whose parent has ended; 0 in it."""
    reading, writing = os.pipe()
    between = os.fork()
    if not between:
        if not (run := os.fork()):
            os.close(reading)
            os.close(writing)
            return 0
        os.write(writing, str(run).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        pid = int(told.read())
    os.waitpid(between, 0)
    return pid


def stamps() -> dict[str, tuple[int, int]]:
    """Size and time of every file that was imported."""
    files = {file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    found = ((file, os.stat(file)) for file in files if os.path.exists(file))
    return {file: (stat.st_size, stat.st_mtime_ns) for file, stat in found}


def become(asked: Asked) -> None:
    """Be the run from here on, when the grid has heard of it."""
    os.setsid()
    lifeline, said, *_ = asked.files  # the others stay open: they are locks
    os.dup2(lifeline, 0)
    os.dup2(said, 2)
    os.close(lifeline)
    os.close(said)
    if not os.read(0, 1):
        os._exit(0)
    for name in asked.unset:
        os.environ.pop(name, None)
    os.environ.update(asked.set)
    sys.stdout, sys.stderr, Present.followed = sys.__stdout__, sys.__stderr__, True
    sys.argv = [str(Path(__file__).with_name("train.py")), *asked.arguments]
    sys.orig_argv = [sys.executable, "-m", "sft_research.train", *asked.arguments]
    from sft_research.command import command
    from sft_research.train import train

    command(train)


def main() -> None:
    backend, channel = sys.argv[1:]
    with socket.socket(fileno=int(channel)) as asks:
        become_ready(backend)
        require_alone()
        asked = serve(asks)
    if asked:
        become(asked)


if __name__ == "__main__":
    main()
