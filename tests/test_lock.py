"""One process a folder, and a lock that a dead one cannot keep."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO

import pytest

from sft_research import lock
from sft_research.config import ConfigError

HOLD = """
import os, sys, time
from pathlib import Path
from sft_research import lock
with lock.held(Path(sys.argv[1]), Path("runs/mine")):
    child = os.fork() if "fork" in sys.argv else -1
    if child <= 0:  # the child itself, so that it is there and has let go
        print(child or os.getpid(), flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(file: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that holds the file, and the child that it has forked where `more` is "fork"."""
    command = [sys.executable, "-c", HOLD, str(file), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        child = int(process.stdout.readline())
        yield process, child
        process.kill()
        if child > 0:
            os.kill(child, signal.SIGKILL)


def unsupported(*_: object) -> None:
    """`flock` on a file system without it."""
    raise OSError(95, "Operation not supported")


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with (
        holder(file) as (process, _),
        pytest.raises(ConfigError) as refused,
        lock.held(file, Path("runs/mine")),
    ):
        pass
    who = f"{process.pid} on {lock.host()}"
    assert str(refused.value) == (
        f"runs/mine is being written by another process, {who}. Fix: wait for it, or set runs_dir=..."
    )


def test_a_holder_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with holder(file) as (process, _):
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert file.read_text().split()[:2] == [lock.host(), str(process.pid)]  # it had no time to clean up
        with lock.held(file, tmp_path):
            assert file.read_text().split()[1] == str(os.getpid())
    assert file.read_text() == ""


def test_a_child_that_outlives_its_killed_holder_keeps_nothing(tmp_path: Path) -> None:
    """A dataloader's worker, say: it has a copy of all that its parent had open."""
    file = tmp_path / "lock"
    with holder(file, "fork") as (process, child):
        with (
            pytest.raises(ConfigError, match=f"another process, {process.pid} on"),
            lock.held(file, tmp_path),
        ):
            pass  # the child that let go of it took nothing from its parent
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        os.kill(child, 0)  # it lives
        with lock.held(file, tmp_path):
            assert file.read_text().split()[1] == str(os.getpid())


def test_a_holder_on_another_host_is_known_by_its_beat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shared folder passes no lock on, so only the file's text tells."""
    monkeypatch.setattr(lock, "BEAT_S", 0.05)
    file = tmp_path / "lock"
    file.write_text("elsewhere 17 3\n")
    beats = threading.Timer(0.1, file.write_text, ("elsewhere 17 4\n",))
    beats.start()
    with pytest.raises(ConfigError, match=r"another process, 17 on elsewhere\."), lock.held(file, tmp_path):
        pass
    beats.join()
    with lock.held(file, tmp_path):  # it beats no more
        assert file.read_text().split()[1] == str(os.getpid())


def test_the_beat_goes_on_while_the_lock_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.01)
    file = tmp_path / "lock"
    with lock.held(file, tmp_path):
        deadline = time.monotonic() + 20
        while (file.read_text().split() or ["0"])[-1] in "01":
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_file_system_without_locks_is_guarded_by_the_beat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.02)
    monkeypatch.setattr("fcntl.flock", unsupported)
    file = tmp_path / "lock"
    with (
        lock.held(file, tmp_path),
        pytest.raises(ConfigError, match=r"is being written"),
        lock.held(file, tmp_path),
    ):
        pass


def test_a_holder_that_beats_slowly_where_nothing_locks_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.1)
    monkeypatch.setattr("fcntl.flock", unsupported)
    file = tmp_path / "lock"
    file.write_text(f"{lock.host()} 17 abcd 3\n")
    beats = threading.Timer(0.3, file.write_text, (f"{lock.host()} 17 abcd 4\n",))
    beats.start()
    with pytest.raises(ConfigError, match=r"another process, 17 on"), lock.held(file, tmp_path):
        pass
    beats.join()


def test_of_those_who_begin_at_once_where_nothing_locks_one_holds_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.05)
    monkeypatch.setattr("fcntl.flock", unsupported)
    file = tmp_path / "lock"
    look, first_look = lock._read, threading.Barrier(3, timeout=20)
    write, order = lock._write, count()
    looked = threading.local()

    def at_once(place: Path) -> str:
        found = look(place)
        if threading.current_thread() in threads and not hasattr(looked, "before"):
            looked.before = found
            first_look.wait()  # all three have found the file empty
        return found

    def one_by_one(opened: IO[str], mine: str, number: int) -> None:
        if number == 0:
            time.sleep(next(order) * 0.5 * lock.BEAT_S)
        write(opened, mine, number)

    monkeypatch.setattr(lock, "_read", at_once)
    monkeypatch.setattr(lock, "_write", one_by_one)
    ends, all_tried = [], threading.Barrier(3, timeout=20)

    def run() -> None:
        try:
            with lock.held(file, Path("runs/mine")):
                ends.append("holds it")
                all_tried.wait()
        except ConfigError as refused:
            ends.append(str(refused).partition(", ")[0])
            all_tried.wait()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["holds it", *["runs/mine is being written by another process"] * 2]


ELSEWHERE = "elsewhere 17 abcd 3\n"
QUICK = "from sft_research import lock; lock.BEAT_S = 0.05\n"


def test_a_holder_whose_lock_was_taken_over_while_it_was_suspended_ends_itself(tmp_path: Path) -> None:
    """By another host, to which the folder passes no lock on."""
    file = tmp_path / "lock"
    command = [sys.executable, "-c", QUICK + HOLD, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        file.write_text(ELSEWHERE)
        process.send_signal(signal.SIGCONT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 143
    assert said == "\nruns/mine was taken over while this process was suspended: it ends.\n"
    assert file.read_text() == ELSEWHERE


def test_what_another_wrote_over_a_lock_is_left_when_its_holder_is_done(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with lock.held(file, tmp_path):
        file.write_text(ELSEWHERE)
    assert file.read_text() == ELSEWHERE


def test_a_link_in_the_place_of_a_lock_is_refused_and_not_followed(tmp_path: Path) -> None:
    file = tmp_path / ".a b.lock"
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError) as refused, lock.held(file, tmp_path / "a b"):
        pass
    assert str(refused.value) == f"{file} is a symbolic link, where a lock is to be. Fix: rm '{file}'"
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_is_looked_at_without_being_taken(tmp_path: Path) -> None:
    """One of this host is the kernel's to know of; of another its text and when it was last raised are all there is."""
    file = tmp_path / ".a.lock"
    assert not lock.is_held(file)
    with lock.held(file, tmp_path / "a"):
        assert lock.is_held(file)
    assert not lock.is_held(file)
    file.write_text(f"{lock.host()} 17 abcd 3\n")  # left by one that was killed
    assert not lock.is_held(file)
    file.write_text("elsewhere 17 abcd 3\n")
    assert lock.is_held(file)
    os.utime(file, (0, time.time() - lock.LIVES * lock.BEAT_S - 1))
    assert not lock.is_held(file)


def test_looking_at_a_lock_does_not_refuse_who_takes_it(tmp_path: Path) -> None:
    file = tmp_path / ".a.lock"
    with file.open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.15, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        with lock.held(file, tmp_path / "a"):
            assert lock.is_held(file)
