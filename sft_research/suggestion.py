"""What a search tries next: values out of those that were typed, drawn by Optuna from the trials as they stand.

Optuna is asked anew each time, with a seed of the trial's own, so that a search that goes on draws what it would have
drawn. It is told of all trials: its own storages know none that has rested and may yet go on.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override

from sft_research.config import ConfigError
from sft_research.halving import Trial

Values = Mapping[str, Any]  # {"lora.r": "8", "optimizer.lr": 0.00213}
DIGITS = 4  # of a drawn number: a folder's name stays readable
DRAWS = 100  # until one is given up that was tried already
SAMPLERS = ("tpe", "random")


@dataclass(frozen=True)
class Interval:
    """`interval(low, high)`, of whole numbers as `int(interval(...))`, in logarithms as `tag(log, interval(...))`."""

    low: float
    high: float
    log: bool

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True)
class Space:
    """What varies, as lists of words (`8,16,32`) or intervals, and what every trial has."""

    varied: Mapping[str, list[str] | Interval]
    fixed: tuple[str, ...]

    def overrides(self, values: Values) -> tuple[str, ...]:
        return (*self.fixed, *(f"{key}={value}" for key, value in values.items()))

    @property
    def grid(self) -> int | None:
        """The points of the full grid; None where an interval has no end of them."""
        lists = [self._listed(key) for key in self.varied]
        return None if None in lists else math.prod(len(values) for values in lists if values is not None)

    def untried(self, tried: Sequence[Values]) -> list[Values]:
        """Of a space with an end."""
        lists = [self._listed(key) or [] for key in self.varied]
        every = (dict(zip(self.varied, chosen, strict=True)) for chosen in itertools.product(*lists))
        return [values for values in every if values not in tried]

    def _listed(self, key: str) -> list[Any] | None:
        kind = self.varied[key]
        if isinstance(kind, Interval):
            return list(range(int(kind.low), int(kind.high) + 1)) if kind.whole else None
        return kind


def space_of(overrides: Sequence[Override]) -> Space:
    """Of what was typed; of two overrides of a key the later. Raises ConfigError where nothing varies."""
    varied: dict[str, list[str] | Interval] = {}
    fixed: dict[str, str] = {}
    for override in overrides:
        key = override.get_key_element()
        varied.pop(key, None)
        fixed.pop(key, None)
        if not override.is_sweep_override():
            typed = f"{key}={override.get_value_element_as_str()}"
            fixed[key] = str(override.input_line) if override.is_delete() else typed
        elif override.is_interval_sweep():
            varied[key] = _interval(key, override.value())
        else:
            varied[key] = list(dict.fromkeys(override.sweep_string_iterator()))
    if not varied:
        raise ConfigError(
            "hydra/sweeper=asha searches what varies, and nothing does. "
            "Fix: lora.r=8,16,32 or 'optimizer.lr=tag(log, interval(1e-4, 1e-2))'"
        )
    return Space(varied, tuple(fixed.values()))


def suggestion(space: Space, tried: Sequence[tuple[Trial, Values]], sampler: str, seed: int) -> Values | None:
    """Values for the next trial, which none of `tried` has; None where the space has no other."""
    before = [values for _, values in tried]
    if space.grid is not None and len(before) >= space.grid:
        return None
    for draw in range(DRAWS):
        values = _drawn(space, tried, sampler, _seed(seed, len(tried), draw))
        if values not in before:
            return values
    if space.grid is None:
        raise ConfigError(
            f"{len(before)} trials are all that differ in {DIGITS} digits. Fix: hydra.sweeper.trials={len(before)}"
        )
    return random.Random(_seed(seed, len(tried), DRAWS)).choice(space.untried(before))


def _drawn(space: Space, tried: Sequence[tuple[Trial, Values]], sampler: str, seed: int) -> Values:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}[sampler](seed=seed)
    distributions = {key: _distribution(kind) for key, kind in space.varied.items()}
    study = optuna.create_study(sampler=made)
    study.add_trials([_told(trial, values, distributions) for trial, values in tried])
    drawn = study.ask(distributions).params
    return {key: _readable(drawn[key], space.varied[key]) for key in space.varied}


def _told(trial: Trial, values: Values, distributions: Mapping[str, Any]) -> Any:
    """One that was trained to the end, one that rests, one that failed, or one of which nothing is known yet."""
    from optuna.trial import TrialState, create_trial

    losses = {rung: loss for rung, loss in enumerate(trial.losses) if math.isfinite(loss)}
    known: dict[str, Any] = {"params": dict(values), "distributions": dict(distributions)}
    if trial.rests and not math.isfinite(trial.loss):
        return create_trial(state=TrialState.FAIL, **known)
    if trial.finished:
        return create_trial(state=TrialState.COMPLETE, value=trial.loss, intermediate_values=losses, **known)
    state = TrialState.PRUNED if losses else TrialState.RUNNING
    return create_trial(state=state, intermediate_values=losses, **known)


def _distribution(kind: list[str] | Interval) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(kind, Interval):
        return CategoricalDistribution(kind)
    if kind.whole:
        return IntDistribution(int(kind.low), int(kind.high), log=kind.log)
    return FloatDistribution(kind.low, kind.high, log=kind.log)


def _readable(value: Any, kind: list[str] | Interval) -> Any:
    if not isinstance(kind, Interval) or kind.whole:
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), kind.low), kind.high)


def _interval(key: str, swept: Any) -> Interval:
    assert isinstance(swept, IntervalSweep)
    low, high = swept.start, swept.end
    if low is None or high is None or not low < high or (low <= 0 and "log" in swept.tags):
        above = ", above 0 as it is in logarithms" if "log" in swept.tags else ""
        raise ConfigError(f"{key}=interval({low}, {high}) holds nothing. Fix: a lower end first{above}")
    return Interval(low, high, "log" in swept.tags)


def _seed(*of: int) -> int:
    """Any two differ, on every platform alike."""
    return int.from_bytes(hashlib.sha256(repr(of).encode()).digest()[:4], "big")
