"""Runs that differ in their seed alone are one point; points are told apart by the keys that vary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sft_research.config import NOT_IDENTITY
from sft_research.past_runs import PastRun
from sft_research.untrusted import line, number

OTHERS = (*NOT_IDENTITY, "deterministic")  # they say how a run is made, not what it is


@dataclass(frozen=True)
class Metric:
    """What points are compared by."""

    key: str  # of a run's scores
    name: str
    unit: str
    lower_is_better: bool

    @property
    def sign(self) -> int:
        """Times it, less is better."""
        return 1 if self.lower_is_better else -1

    def shown(self, value: float | None, digits: int = 4) -> str:
        if value is None:
            return ""
        return f"{value:.{digits}f}" if self.unit.startswith("nats") else f"{100 * value:.1f} %"


METRICS = {
    "loss": Metric("loss", "held-out loss", "nats a token", True),
    "exact_match": Metric("exact_match", "right answers", "share of questions", False),
    "form": Metric("form", "answers in the right form", "share of questions", False),
}


@dataclass(frozen=True)
class Point:
    """Finished runs by seed, and the values by which they are told from other points."""

    settings: dict[str, Any]
    label: str
    runs: dict[Any, PastRun]

    def values(self, metric: Metric) -> dict[Any, float]:
        """Of each seed that has one."""
        found = {seed: run.score(metric.key) for seed, run in self.runs.items()}
        return {seed: value for seed, value in found.items() if value is not None}

    @property
    def any(self) -> PastRun:
        return next(iter(self.runs.values()))

    @property
    def scale_times_lr(self) -> float | None:
        """alpha / r (or alpha / sqrt(r)) x learning rate, to 9 digits."""
        return _product(self.any.result.get("lora_scale"), self.any.config.get("optimizer.lr"))

    @property
    def alpha_times_lr(self) -> float | None:
        """alpha x learning rate, whatever the rank."""
        return _product(self.any.config.get("lora.alpha"), self.any.config.get("optimizer.lr"))


def _product(one: Any, other: Any) -> float | None:
    a, b = number(one), number(other)
    return None if a is None or b is None else float(f"{a * b:.9g}")


def deciding(run: PastRun) -> dict[str, Any]:
    """What decides a run's numbers, its seed left out."""
    return {k: v for k, v in run.config.items() if k.partition(".")[0] not in (*OTHERS, "seed")}


def varied(runs: Sequence[PastRun]) -> list[str]:
    """The keys whose values differ, rank, alpha and learning rate first."""
    configs = [deciding(run) for run in runs if run.config]
    keys = {key for config in configs for key in config}
    differ = [key for key in keys if len({repr(config.get(key)) for config in configs}) > 1]
    if all(run.config.get("dataset.seed") == run.seed for run in runs if run.config):
        differ = [key for key in differ if key != "dataset.seed"]  # it follows the run's
    return ordered(differ)


def ordered(keys: Iterable[str]) -> list[str]:
    """Rank, alpha and learning rate first, the others by name."""
    first = ("lora.r", "lora.alpha", "optimizer.lr")
    return sorted(keys, key=lambda key: (first.index(key) if key in first else len(first), key))


def settings(run: PastRun, keys: Sequence[str]) -> dict[str, Any]:
    return {key: run.config.get(key) for key in keys}


def label(values: dict[str, Any], most: int = 6) -> str:
    """`r=8 alpha=16 lr=0.001`: the last words of the keys, or all where two end alike; the first `most`."""
    ends = Counter(key.rpartition(".")[2] for key in values)
    names = {key: key if ends[key.rpartition(".")[2]] > 1 else key.rpartition(".")[2] for key in values}
    shown = [f"{names[key]}={text(value)}" for key, value in list(values.items())[:most]]
    more = [f"and {len(values) - most} more"] if len(values) > most else []
    return line(" ".join([*shown, *more]), 160) or "one configuration"


def text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else line(value, 60)


def points(runs: Sequence[PastRun], keys: Sequence[str]) -> tuple[list[Point], list[PastRun]]:
    """Points of the finished runs, and the runs that repeat a seed of their point."""
    made: dict[str, Point] = {}
    repeats = []
    for run in runs:
        if run.state != "finished":
            continue
        values = settings(run, keys)
        point = made.setdefault(repr(values), Point(values, label(values), {}))
        if run.seed in point.runs:
            repeats.append(run)
        else:
            point.runs[run.seed] = run
    return list(made.values()), repeats


def sorted_values(values: Iterable[Any]) -> list[Any]:
    """Each value once: numbers by size, then the rest by name."""
    once = {repr(value): value for value in values}
    return sorted(once.values(), key=lambda v: (number(v) is None, number(v) or 0.0, str(v)))
