"""A search: the trials that were drawn, the rungs that they were sent to, and what they have come to.

A trial is one run that pauses. Each rung is the same command with a later `pause_at`, so that nothing is trained
twice. What is decided is in sweep.json before it is started, and what came of it in the runs' folders: a search that
was killed goes on from these two.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from math import inf
from typing import Any

from sft_research import halving
from sft_research.budgets import Rungs, come_to
from sft_research.composer import Composer
from sft_research.config import Run
from sft_research.grid import Became, Grid, finished
from sft_research.halving import Trial
from sft_research.point import Ended, Point
from sft_research.suggestion import Space, Values, suggestion
from sft_research.typed import Typed
from sft_research.untrusted import read_json

log = logging.getLogger("sft_research")
UNDER_WAY = (
    "waiting",
    "running",
)  # and not interrupted: that run rests where it was, until the same command again


@dataclass(frozen=True)
class Knobs:
    """At most `trials` are drawn, by `sampler` and `seed`, and `parallel` of them run at once."""

    trials: int
    rungs: Rungs
    sampler: str
    seed: int
    parallel: int


@dataclass
class Search(Grid):
    """A grid that grows. `trials`, and the `values` of each, are in the order of its points."""

    typed: Typed = field(kw_only=True)
    space: Space = field(kw_only=True)
    knobs: Knobs = field(kw_only=True)
    composer: Composer = field(kw_only=True)
    trials: list[Trial] = field(default_factory=list)
    values: list[Values] = field(default_factory=list)
    _told: bool = field(default=False, init=False)

    def look(self) -> list[Point]:
        """What has not come to where it was sent, be it by an earlier process; and what is new."""
        noted = read_json(self.folder / "sweep.json").get("points", [])
        for trial in noted:
            self._begin(trial["values"], trial["rung"])
        todo = [point for point in self.points if self.became[point].state == "waiting"]
        return [*todo, *self.more()]

    def more(self) -> list[Point]:
        """The points for which there is room now."""
        points: list[Point] = []
        while sum(self.became[point].state in UNDER_WAY for point in self.points) < self.knobs.parallel:
            if trial := halving.promotable(self.trials, self.knobs.rungs.reduction):
                points.append(self._send_on(trial))
            elif (values := self._suggested()) is not None:
                points.append(self._begin(values))
            elif all(t.rests for t in self.trials) and (trial := halving.leader(self.trials)):
                points.append(self._send_on(trial))
            else:
                break
        if points:
            self.write()
        return [point for point in points if point in self.became and self.became[point].state == "waiting"]

    def ended(self, point: Point, end: Ended) -> Became:
        became = super().ended(point, end)
        trial = self.trials[self.points.index(point)]
        if became.state == "failed":  # the worst of its rung
            trial.losses = [*trial.losses[: trial.rung], inf]
        if trial.rests:
            self._say_where_all_are_alike(trial)
        return became

    def _say_where_all_are_alike(self, trial: Trial) -> None:
        """A budget that ends in the warm-up ranks by the order of trials, and a person should hear that at once."""
        rung, loss = trial.rung, trial.losses[trial.rung]
        there = [other.losses[rung] for other in self.trials if len(other.losses) > rung]
        if self._told or loss == inf or there.count(loss) < 2:
            return
        self._told = True
        log.warning(
            "Two trials have the same held-out loss, %.4f, at the budget of rung %d: as in a warm-up, where nothing "
            "is learned yet. Fix: hydra.sweeper.smallest=..., more than %g",
            loss,
            rung,
            self.knobs.rungs.smallest,
        )

    def _suggested(self) -> Values | None:
        if len(self.trials) >= self.knobs.trials:
            return None
        tried = list(zip(self.trials, self.values, strict=True))
        return suggestion(self.space, tried, self.knobs.sampler, self.knobs.seed)

    def _begin(self, values: Values, rung: int = 0) -> Point:
        """A trial, and what its folder says of it: a run that was made before is not made again."""
        overrides = self.space.overrides(values)
        run = self.composer(self.typed.whole(overrides), overrides)
        self.runs.append(run)
        self.values.append(values)
        self.trials.append(Trial(len(self.trials), rung))
        point = self._point(self.trials[-1])
        self.points.append(point)
        self.became[point] = self.rests(point, run) or Became()
        return point

    def _send_on(self, trial: Trial) -> Point:
        """To the next rung: the same run with a later pause."""
        trial.rung += 1
        was, now = self.points[trial.number], self._point(trial)
        self.points[trial.number] = now
        self.became = {now if point == was else point: became for point, became in self.became.items()}
        self.became[now] = Became()
        return now

    def _point(self, trial: Trial) -> Point:
        values = self.values[trial.number]
        label = " ".join(f"{key}={value}" for key, value in values.items())
        at = self.knobs.rungs.budget(trial.rung)
        pause = [] if at is None else [f"pause_at={at}"]
        return self.typed.point(
            self.space.overrides(values), self.runs[trial.number], label, self.folder, *pause
        )

    def rests(self, point: Point, run: Run) -> Became | None:
        trial = self.trials[self.points.index(point)]
        trial.tokens, trial.losses, trial.finished = come_to(run, self.knobs.rungs)
        trial.rung = max(trial.rung, len(trial.losses) - 1)
        if not trial.rests:
            return None
        if trial.finished:
            return finished(run)
        host = read_json(run.folder / "state.json").get("host")
        return Became("paused", loss=trial.loss, host=host)

    def _said(self, point: Point) -> dict[str, Any]:
        trial = self.trials[self.points.index(point)]
        return super()._said(point) | {
            "values": self.values[trial.number],
            "rung": trial.rung,
            "pause_at": self.knobs.rungs.budget(trial.rung),
            # Of each rung, from the lowest.
            "losses": [loss if loss < inf else None for loss in trial.losses],
            "loss_tokens": trial.tokens,
        }
