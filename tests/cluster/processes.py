"""Daemons and commands of a cluster, as ordinary processes of this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(condition: Callable[[], Any], seconds: float, what: str = "") -> Any:
    """What the condition gives when it is true at last; fails where that takes too long."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what or condition} not within {seconds:.0f} s"
        time.sleep(0.1)
    return found


def children(pid: int) -> list[int]:
    """All that descend from this process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found += [int(stat.parent.name), *children(int(stat.parent.name))]
    return found


def end(pid: int, number: int = signal.SIGKILL) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def end_all(pid: int) -> None:
    """SIGKILL to a process and all that descend from it."""
    for each in [pid, *children(pid)]:
        end(each)


def asked(command: list[str], environment: dict[str, str]) -> str:
    """What a command prints; it fails the test where it fails."""
    done = subprocess.run(
        command,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
