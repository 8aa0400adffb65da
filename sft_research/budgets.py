"""The budgets of a search's rungs, and which of them a run has come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from math import inf

from sft_research.config import Run
from sft_research.past_runs import PastRun
from sft_research.pausing import paused
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


def come_to(run: Run, rungs: Rungs) -> tuple[int, list[float], bool]:
    """What a run's folder says of it: the loss tokens that it was trained on, the held-out loss of each rung that it
    has come to, from the lowest, and whether it is finished."""
    result, rows = Folder(run).finished(), PastRun(run.folder, "", "", {}, {}).metrics
    losses = []
    for rung in count():
        at = rungs.budget(rung)
        noted = paused(run, at)
        loss = noted.loss if noted else _in_passing(rows, at, result)
        if loss is None:
            break
        losses.append(loss)
    if result and result.after.loss is not None:
        losses.append(result.after.loss)
    tokens = int(max((row.get("loss_tokens", 0) for row in rows), default=0))
    return tokens, [loss if math.isfinite(loss) else inf for loss in losses], result is not None


def _in_passing(rows: Sequence[dict[str, float]], at: float | None, result: Result | None) -> float | None:
    """Of a finished run that did not pause there: its first held-out loss from there on."""
    if result is None or at is None or at >= result.loss_tokens:
        return None
    key, least = ("step", at * result.steps - 1e-6) if at < 1 else ("loss_tokens", at)
    return next((row["eval/loss"] for row in rows if "eval/loss" in row and row.get(key, 0) >= least), None)
