"""One process writes a run's folder. The lock dies with it, however it dies, and on whatever host.

The kernel's `flock` decides, on this host and over a shared folder that passes it on (NFSv4, Lustre with
-o flock). Where one does not, the file's text does: host, process and a beat that its holder raises. A file
that another host has left is watched for as long as a living holder would need to raise it three times. Where
no lock is to be had at all, who begins writes a word of his own and holds the file if it is still there after
two beats. A holder that was suspended for so long that another took its file over ends itself when it wakes.

A forked child (a dataloader's worker) would share its parent's lock and keep it alive: it lets go of it at once.
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
from uuid import uuid4

from sft_research.config import ConfigError

BEAT_S = 5.0  # between two beats
LIVES = 4  # beats without a change after which a holder is dead
TRIES = 4
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # of a file system that has none
TAKEN_OVER = 143  # exit status of a process whose lock was taken over, as if SIGTERM had ended it
CLAIM = 2  # beats after which a claim that nobody has written over holds

_open: set[IO[str]] = set()  # of the locks that this process holds


@contextmanager
def held(file: Path, what: Path) -> Iterator[None]:
    """Hold `file` while inside; raises ConfigError, naming `what`, where another process holds it."""
    with _opened(file) as opened, _of_this_process(opened):
        decided_here = _flock(opened, file, what)
        before = _read(file)
        if before and (before.split()[0] != host() or not decided_here) and _moves(file, before):
            raise ConfigError(_refusal(what, before))
        mine = f"{host()} {os.getpid()} {uuid4().hex[:8]}"
        _write(opened, mine, 0)
        if not decided_here:
            time.sleep(CLAIM * BEAT_S)
            if not (now := _read(file)).startswith(f"{mine} "):
                raise ConfigError(_refusal(what, now))
        done = Event()
        beats = Thread(target=_beat, args=(opened, file, what, mine, done), daemon=True, name="lock")
        beats.start()
        try:
            yield
        finally:
            done.set()
            beats.join()
            if not opened.closed and _is_mine(file, mine):  # closed in a child that comes this way
                opened.truncate(0)


def of(folder: Path) -> Path:
    """The lock's file of a run's folder: beside it, since the folder may be moved aside."""
    return folder.with_name(f".{folder.name}.lock")


def is_held(file: Path) -> bool:
    """Whether a living process holds it, asked without waiting: the kernel knows of this host, the beat of others."""
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW), errors="replace") as opened:
            holder = opened.read(200).split()
            age = abs(time.time() - os.fstat(opened.fileno()).st_mtime)
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in NO_LOCKS:  # it is not there, or not to be read
            return False
    else:
        if not holder or holder[0] == host():
            return False
    return bool(holder) and age < LIVES * BEAT_S


def _flock(opened: IO[str], file: Path, what: Path) -> bool:
    """Whether the kernel decides who holds the file; raises ConfigError where it is another."""
    for left in reversed(range(TRIES)):
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError as error:
            if not left:
                raise ConfigError(_refusal(what, _read(file))) from error
            time.sleep(0.1)  # `is_held` may have it for a moment
        except OSError:  # a file system without locks
            return False
    raise AssertionError("each try returns, raises or is followed by another")


@contextmanager
def _of_this_process(opened: IO[str]) -> Iterator[None]:
    _open.add(opened)
    try:
        yield
    finally:
        _open.discard(opened)


def _let_go() -> None:
    """In a forked child. Closing its copy leaves the parent's lock as it is, and the last copy is then the parent's."""
    for opened in _open:
        opened.close()
    _open.clear()


os.register_at_fork(after_in_child=_let_go)  # what is started by exec has no copy: Python opens files so


def _opened(file: Path) -> IO[str]:
    """Not for appending: what is written with pwrite would go to the end. Not through a link that lies there."""
    try:
        return open(os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+")
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ConfigError(f"{file} is a symbolic link, where a lock is to be. Fix: rm '{file}'") from error


def _beat(opened: IO[str], file: Path, what: Path, mine: str, done: Event) -> None:
    """Raise the number until `done`. Where another has taken the file over, this process ends at once, and does not
    save first as at a signal: it would write among the other's files, which goes on from the last checkpoint."""
    for number in count(1):
        if done.wait(BEAT_S):
            return
        if not _is_mine(file, mine):
            with suppress(OSError):
                os.write(2, f"\n{what} was taken over while this process was suspended: it ends.\n".encode())
            os._exit(TAKEN_OVER)
        with suppress(OSError):  # a full disk: the kernel's lock is held all the same
            _write(opened, mine, number)


def _write(opened: IO[str], mine: str, number: int) -> None:
    """Host, process, a word of this claim, and a number that grows; on the server at once, where others look."""
    text = f"{mine} {number}\n".encode()
    os.pwrite(opened.fileno(), text, 0)
    os.ftruncate(opened.fileno(), len(text))
    os.fsync(opened.fileno())


def _is_mine(file: Path, mine: str) -> bool:
    """Whether nobody has written over it; one that cannot be read is nobody else's."""
    try:
        return _read(file).startswith(f"{mine} ")
    except OSError:
        return True


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


def host() -> str:
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
