"""Successive halving, asynchronously: who goes on to the next budget, as soon as that is known.

L. Li et al. 2018, "A System for Massively Parallel Hyperparameter Tuning", Algorithm 2. A trial that is among the
best 1/eta of those that have come to its budget goes on to the next one; where there is none, a new one begins.
Nothing waits for a rung to be full. What the paper leaves open is the end of a search with a limited number of
trials: there the leader goes on until one has been trained to the end, so that a search always has an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf


@dataclass
class Trial:
    """The rung that it was sent to, and the loss of each rung that it has come to: inf for a failure."""

    number: int
    rung: int = 0
    losses: list[float] = field(default_factory=list)
    tokens: int = 0  # with loss, that it was trained on
    finished: bool = False  # trained to the end, so that there is no rung above

    @property
    def rests(self) -> bool:
        """Whether it has come to where it was sent."""
        return len(self.losses) > self.rung

    @property
    def loss(self) -> float:
        return self.losses[-1] if self.losses else inf


def promotable(trials: Sequence[Trial], reduction: int) -> Trial | None:
    """The best trial of the highest rung that may go on; of equal ones the earliest."""
    for rung in range(max((len(t.losses) for t in trials), default=0) - 1, -1, -1):
        there = ranked(trials, rung)
        for trial in there[: len(there) // reduction]:
            if _may_go_on(trial, rung):
                return trial
    return None


def leader(trials: Sequence[Trial]) -> Trial | None:
    """The trial to go on where all rest and none is finished: the best of the highest rung."""
    if any(trial.finished for trial in trials):
        return None
    able = [trial for trial in trials if _may_go_on(trial, trial.rung)]
    return min(able, key=lambda t: (-t.rung, t.loss, t.number), default=None)


def best(trials: Sequence[Trial]) -> Trial | None:
    """The one with the lowest loss of those that were trained to the end, else of the highest rung."""
    able = [trial for trial in trials if trial.loss < inf]
    return min(able, key=lambda t: (not t.finished, -len(t.losses), t.loss, t.number), default=None)


def ranked(trials: Sequence[Trial], rung: int) -> list[Trial]:
    """Those that have come to this rung, best first."""
    there = [trial for trial in trials if len(trial.losses) > rung]
    return sorted(there, key=lambda t: (t.losses[rung], t.number))


def _may_go_on(trial: Trial, rung: int) -> bool:
    return trial.rung == rung and not trial.finished and trial.losses[rung] < inf
