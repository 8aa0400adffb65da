"""hydra/sweeper=asha: a search that trains every trial a little, and the best of them on, as far as a whole run.

halving.py says who goes on, suggestion.py what is tried next, and the launcher's engine runs it. A trial is one run
that pauses: each rung is the same command with a later `pause_at`, so that nothing is trained twice. What is decided
is in sweep.json before it is started, and what came of it in the runs' folders: a search goes on from these.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from sft_research import halving
from sft_research.asha_screen import screen
from sft_research.budgets import Rungs, come_to, tokens_seen
from sft_research.checkpoint import read_json
from sft_research.config import ConfigError, Run, folder_name
from sft_research.console import speaking
from sft_research.grid import Became, Grid, composed, finished
from sft_research.halving import Trial
from sft_research.launcher import Engine, launch
from sft_research.past_runs import GRIDS
from sft_research.point import Ended, Point
from sft_research.suggestion import SAMPLERS, Space, Values, space_of, suggestion
from sft_research.typed import Typed

log = logging.getLogger("sft_research")
LENGTHS = ("training", "training.max_steps", "training.num_train_epochs")
ROWS = ("dataset", "dataset_format", "model", "model.name", "model.chat_template", "model.max_length")


@dataclass(frozen=True)
class Knobs:
    """At most `trials` are drawn, and `parallel` run at once."""

    trials: int
    rungs: Rungs
    sampler: str
    seed: int
    parallel: int

    def __post_init__(self) -> None:
        wrong = {
            f"trials={self.trials}: 1 or more": self.trials < 1,
            f"reduction={self.rungs.reduction}: 2 or more": self.rungs.reduction < 2,
            f"smallest={self.rungs.smallest}: loss tokens, or a share of the steps": self.rungs.smallest <= 0,
            f"parallel={self.parallel}: 1 or more": self.parallel < 1,
            f"sampler={self.sampler}: {' or '.join(SAMPLERS)}": self.sampler not in SAMPLERS,
        }
        if said := [text for text, is_so in wrong.items() if is_so]:
            pairs = (text.partition(": ") for text in said)
            raise ConfigError(
                "\n".join(
                    f"hydra.sweeper.{what} cannot be. Fix: hydra.sweeper.{what.partition('=')[0]}=..., {fix}"
                    for what, _, fix in pairs
                )
            )


@dataclass
class Search(Grid):
    """A grid that grows. `trials`, and the `values` of each, are in the order of its points."""

    typed: Typed = field(kw_only=True)
    space: Space = field(kw_only=True)
    knobs: Knobs = field(kw_only=True)
    trials: list[Trial] = field(default_factory=list)
    values: list[Values] = field(default_factory=list)

    def look(self) -> list[Point]:
        """What has not come to where it was sent, be it by an earlier process; and what is new."""
        noted = read_json(self.folder / "sweep.json").get("points", [])
        runs = self._composed([trial["values"] for trial in noted])
        for trial, run in zip(noted, runs, strict=True):
            self._begin(trial["values"], run, trial["rung"])
        todo = [point for point in self.points if self.became[point].state == "waiting"]
        return [*todo, *self.more()]

    def more(self) -> list[Point]:
        """The points for which there is room now."""
        points: list[Point] = []
        while sum(not trial.rests for trial in self.trials) < self.knobs.parallel:
            if trial := halving.promotable(self.trials, self.knobs.rungs.reduction):
                points.append(self._send_on(trial))
            elif (values := self._suggested()) is not None:
                points.append(self._begin(values, *self._composed([values])))
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
        if not trial.rests:
            trial.losses = [*trial.losses[: trial.rung], inf]
        return became

    def _suggested(self) -> Values | None:
        if len(self.trials) >= self.knobs.trials:
            return None
        tried = list(zip(self.trials, self.values, strict=True))
        return suggestion(self.space, tried, self.knobs.sampler, self.knobs.seed)

    def _composed(self, values: Sequence[Values]) -> list[Run]:
        overrides = [self.typed.whole(self.space.overrides(of)) for of in values]
        return composed(overrides, self.typed.config_dir) if overrides else []

    def _begin(self, values: Values, run: Run, rung: int = 0) -> Point:
        """A trial, and what its folder says of it: a run that was made before is not made again."""
        self.runs.append(run)
        self.values.append(values)
        self.trials.append(Trial(len(self.trials), rung))
        point = self._point(self.trials[-1])
        self.points.append(point)
        self.became[point] = self._rests(point, run) or Became()
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
        return self.typed.point(self.space.overrides(values), self.runs[trial.number], label, *pause)

    def _rests(self, point: Point, run: Run) -> Became | None:
        trial = self.trials[self.points.index(point)]
        trial.losses, trial.finished = come_to(run, self.knobs.rungs)
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
            "losses": [
                loss if loss < inf else None for loss in trial.losses
            ],  # of each rung, from the lowest
            "loss_tokens": tokens_seen(point.folder),
        }


def searched(search: Search, engine: Engine) -> list[JobReturn]:
    """Hydra's answer a trial; what `launch` raises comes after the screen."""
    try:
        return launch(search, engine)
    finally:
        with speaking():
            log.info("%s", screen(search))


def search_of(overrides: Sequence[Override], knobs: Knobs, config: DictConfig) -> Search:
    """The search that was typed; raises ConfigError for one whose losses could not be held against each other."""
    typed, space = Typed(config), space_of(overrides)
    for key in space.varied:
        if key in ROWS or key.startswith(("dataset.", "dataset_format.")):
            raise ConfigError(
                f"{key} decides the rows, and a search holds losses on the same rows against each other. "
                f"Fix: {key}=..., one value, or hydra/sweeper=grid"
            )
        if key in LENGTHS and knobs.rungs.smallest < 1:
            raise ConfigError(
                f"{key} decides how long a run is, and hydra.sweeper.smallest={knobs.rungs.smallest} is a share "
                "of that. Fix: hydra.sweeper.smallest=LOSS_TOKENS, 1 or more"
            )
    of = f"asha-{knobs.sampler}-{knobs.seed}-{knobs.rungs.reduction}-{knobs.rungs.smallest:g}"
    (run,) = composed([typed.whole(space.fixed)], typed.config_dir)
    if run.cfg.dataset.get("held_out") == 0:
        raise ConfigError(
            "dataset.held_out=0, and a search compares held-out losses. Fix: dataset.held_out=0.1"
        )
    folder = run.folder.parent / GRIDS / folder_name([o.input_line or "" for o in overrides], [of])
    return Search([], [], folder, typed.command, typed=typed, space=space, knobs=knobs)
