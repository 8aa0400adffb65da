"""What runs inside a Slurm job: one point's command, which is told of the job's end in time to save."""

from __future__ import annotations

import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sft_research import lock
from sft_research.checkpoint import write_json
from sft_research.point import LOST, Ended, Point, Process, stand_back

# Of a run that ended by the signal: after it had saved, or before it could listen.
BY_USR2 = (128 + signal.SIGUSR2, -signal.SIGUSR2)


@dataclass
class Job:
    """submitit calls it in the job, and again after each requeue; `note` is where it says how far it is.

    Slurm announces the time limit and a preemption by USR2, which submitit answers with a requeue. The run gets it
    first and saves.
    """

    point: Point
    note: Path

    def __call__(self) -> int:
        began = {"host": lock.host(), "job": os.environ.get("SLURM_JOB_ID", "")}
        write_json(self.note, began)
        stand_back(self.point)
        process = Process(self.point, os.environ)
        asked: list[int] = []

        def tell(number: int, _: Any) -> None:
            asked.append(number)
            process.signal(number)

        requeue: Any = signal.signal(signal.SIGUSR2, tell)
        ended = process.ended(wait=True)
        assert ended
        if asked and ended.status in BY_USR2:
            ended = _not_requeued(requeue)
        write_json(self.note, began | asdict(ended))
        return ended.status

    def checkpoint(self) -> Any:
        """What submitit puts in the place of a job that is to be requeued: the same again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _not_requeued(requeue: Any) -> Ended:
    """Hand the job back to Slurm, which ends this process; returns where that cannot be."""
    try:
        requeue(signal.SIGUSR2, None)
    except Exception as error:  # of submitit, or of scontrol
        return Ended(
            LOST,
            f"Slurm's time was up, the run has saved, and its job was not requeued: {error} Fix: the same command "
            "again, or hydra.launcher.minutes=..., hydra.launcher.requeues=...",
        )
    raise AssertionError("submitit leaves a job that it has requeued")
