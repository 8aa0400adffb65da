"""What Slurm says when it is asked, by its own commands: which jobs wait or run, and what became of one.

slurmdbd is not needed: `squeue` and `scontrol` know every job for some minutes after its end.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

from sft_research.config import ConfigError

TIMEOUT_S = 60


@dataclass(frozen=True)
class Queued:
    """A line of squeue: the job's id, its state (PENDING, RUNNING, ...), its node, and why it waits."""

    job: str
    state: str
    node: str
    reason: str


def queue(name: str) -> dict[tuple[int, int], Queued]:
    """(batch, place in its array) of each job of this user that waits or runs and is called `name-BATCH`."""
    found = {}
    for line in asked("squeue", "--me", "--noheader", "--array", "--format=%i|%j|%T|%N|%r").splitlines():
        job, called, state, node, reason = line.strip().split("|", 4)
        ours, _, batch = called.rpartition("-")
        if ours == name and batch.isdigit():
            found[int(batch), int(job.partition("_")[2] or 0)] = Queued(job, state, node, reason)
    return found


def cancel(job: str) -> None:
    asked("scancel", job)


def largest_array() -> int:
    """How many jobs an array may have; MaxArraySize is one more than the largest index."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", asked("scontrol", "show", "config"), re.MULTILINE)
    return int(found[1]) if found else 1000


def fate(job: str, began: bool) -> str:
    """What became of a job that left no word of its end: Slurm's memory of it lasts some minutes, its database's for
    ever, and neither knows a job of an array that was cancelled while it waited."""
    lost = f"job {job} was lost" if began else f"job {job} did not begin"
    for command in (
        ("scontrol", "--oneliner", "show", "job", job),
        ("sacct", "-X", "-n", "-P", "--format=State,ExitCode,NodeList", "-j", job),
    ):
        try:
            said = asked(*command).strip()
        except ConfigError:
            continue
        if command[0] == "scontrol":
            state, code, node = (_field(key, said) for key in ("JobState", "ExitCode", "NodeList"))
        elif said:
            state, code, node = said.splitlines()[0].split("|")
        else:
            continue
        return f"{lost}: {state}, exit code {code}, on {node}"
    return f"{lost}, and Slurm does not know it any more" + ("" if began else ", as one that was cancelled")


def _field(key: str, said: str) -> str:
    found = re.search(rf"(?:^| ){key}=(\S*)", said)
    return found[1] if found else "?"


def asked(*command: str) -> str:
    """What a command of Slurm prints; raises ConfigError where it cannot be asked."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(
            f"{command[0]}: {error}. Fix: hydra/launcher=local, or run this where Slurm is"
        ) from error
    if done.returncode:
        raise ConfigError(
            f"{command[0]} failed: {done.stderr.strip()}. Fix: hydra/launcher=local, or ask who runs the cluster"
        )
    return done.stdout
