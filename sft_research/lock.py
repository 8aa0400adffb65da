"""One process writes a run's folder. The lock dies with it, however it dies, and on whatever host.

The kernel's `flock` decides, on this host and over a shared folder that passes it on (NFSv4, Lustre with
-o flock). Where one does not, the file's text does: host, process and a beat that its holder raises. A file
that another host has left is watched for as long as a living holder would need to raise it three times.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import IO

from sft_research.config import ConfigError

BEAT_S = 5.0  # between two beats
LIVES = 4  # beats without a change after which a holder is dead


@contextmanager
def held(file: Path, what: Path) -> Iterator[None]:
    """Hold `file` while inside; raises ConfigError, naming `what`, where another process holds it."""
    # Not for appending: what is written with pwrite would go to the end.
    with open(os.open(file, os.O_RDWR | os.O_CREAT, 0o666), "r+") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            decided_here = True
        except BlockingIOError as error:
            raise ConfigError(_refusal(what, _read(file))) from error
        except OSError:  # a file system without locks
            decided_here = False
        before = _read(file)
        if before and (before.split()[0] != _host() or not decided_here) and _moves(file, before):
            raise ConfigError(_refusal(what, before))
        _write(opened, 0)
        done = Event()
        beats = Thread(target=_beat, args=(opened, done), daemon=True, name="lock")
        beats.start()
        try:
            yield
        finally:
            done.set()
            beats.join()
            opened.truncate(0)


def is_held(file: Path) -> bool:
    """Whether a process has it, asked without touching it: its text, raised in the last few beats."""
    try:
        holder = _read(file).split() if file.is_file() else []
        age = abs(time.time() - file.stat().st_mtime) if holder else 0.0
    except OSError:
        return False
    if len(holder) != 3 or age > LIVES * BEAT_S:
        return False
    processes = Path("/proc")
    return holder[0] != _host() or not processes.is_dir() or (processes / f"{holder[1]:.10}").is_dir()


def _beat(opened: IO[str], done: Event) -> None:
    """Raise the number until `done`."""
    for number in count(1):
        if done.wait(BEAT_S):
            return
        with suppress(OSError):  # a full disk: the kernel's lock is held all the same
            _write(opened, number)


def _write(opened: IO[str], number: int) -> None:
    """Host, process and a number that grows."""
    text = f"{_host()} {os.getpid()} {number}\n".encode()
    os.pwrite(opened.fileno(), text, 0)
    os.ftruncate(opened.fileno(), len(text))


def _moves(file: Path, before: str) -> bool:
    """Whether a living holder raises the beat; no clock of another host is read."""
    until = time.monotonic() + LIVES * BEAT_S
    while time.monotonic() < until:
        time.sleep(BEAT_S / 5)
        if _read(file) != before:
            return True
    return False


def _read(file: Path) -> str:
    """Opened anew each time: a shared folder shows what others wrote to who opens it."""
    return file.read_text(errors="replace").strip()


def _host() -> str:
    return socket.gethostname() or "localhost"


def _refusal(what: Path, holder: str) -> str:
    host, process, *_ = [*holder.split(), "?", "?"]
    return (
        f"{what} is being written by another process, {process} on {host}. "
        "Fix: wait for it, or set runs_dir=..."
    )


def require_writable(folder: Path) -> None:
    """Raise ConfigError where a run's folder cannot be made."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(folder.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder.parent))
    except OSError as error:
        raise ConfigError(
            f"The run's folder {folder} cannot be made: {error.strerror}: {error.filename}. "
            "Fix: runs_dir=FOLDER, where you may write"
        ) from error
