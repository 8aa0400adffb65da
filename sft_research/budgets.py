"""The budgets of a search's rungs, and which of them a run has come to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count
from math import inf
from pathlib import Path

from sft_research import past_runs
from sft_research.config import Run
from sft_research.record import Folder
from sft_research.result import Result


@dataclass(frozen=True)
class Rungs:
    """The budgets of a search: `smallest` loss tokens, times `reduction` for each rung above, to the end of a run.

    Below 1 it is a share of a run's steps: the rungs are 1, 1/reduction, 1/reduction², ... of them, down to `smallest`.
    """

    smallest: float
    reduction: int

    def budget(self, rung: int) -> float | None:
        """The `pause_at` of a rung, from 0; None for the one that is a whole run."""
        if self.smallest >= 1:
            return int(self.smallest) * self.reduction**rung
        left = self.top - rung
        return self.reduction**-left if left > 0 else None

    @property
    def top(self) -> float:
        """The rung of whole runs; inf where budgets are tokens, since a run's own number decides."""
        if self.smallest >= 1:
            return inf
        return math.floor(math.log(1 / self.smallest, self.reduction) + 1e-9)


def come_to(run: Run, rungs: Rungs) -> tuple[list[float], bool]:
    """The held-out loss of each rung that a run has come to, from the lowest; and whether it is finished."""
    folder, losses = Folder(run), []
    result = folder.finished()
    for rung in count():
        at = rungs.budget(rung)
        noted = folder.paused(at) if at is not None else None
        loss = noted.loss if noted else _in_passing(run.folder, at, result)
        if loss is None:
            break
        losses.append(loss)
    if result and result.after.loss is not None:
        losses.append(result.after.loss)
    return losses, result is not None


def tokens_seen(folder: Path) -> int:
    """Loss tokens that a run, finished or not, was trained on."""
    return int(max((row.get("loss_tokens", 0) for row in past_runs.read(folder).metrics), default=0))


def _in_passing(folder: Path, at: float | None, result: Result | None) -> float | None:
    """Of a finished run that did not pause there: its first held-out loss from there on."""
    if result is None or at is None or at >= result.loss_tokens:
        return None
    key, least = ("step", at * result.steps - 1e-6) if at < 1 else ("loss_tokens", at)
    rows = (row for row in past_runs.read(folder).metrics if row.get(key, 0) >= least)
    return next((row["eval/loss"] for row in rows if "eval/loss" in row), None)
