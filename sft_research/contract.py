"""The contract of a comparison: same held-out rows, loss tokens, seeds, effective batch and schedule.

Points that keep it with each other are a group. Groups are shown one beside the other, each labelled with
what differs, and no mean or verdict goes across them, but where that is what is asked (`--across batch`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sft_research.config import ConfigError
from sft_research.past_runs import PastRun
from sft_research.points import Metric, Point, text
from sft_research.untrusted import number

TOLERANCE = 0.01  # of counts: two packings of the same rows cut a last batch differently
SCHEDULE = ("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "max_steps", "num_train_epochs")
ASKED = ("evaluation.questions", "evaluation.max_new_tokens")
ACROSS = ("tokens", "batch", "schedule")  # what a comparison may be about


@dataclass(frozen=True)
class Clause:
    """One thing that must be the same; `of` gives it for a run, `said` for a person."""

    key: str
    name: str
    of: Callable[[PastRun], Any]
    said: Callable[[Any], str] = str


@dataclass(frozen=True)
class Group:
    """Points under one contract, and in what it differs from that of the first group."""

    points: list[Point]
    differs: list[str]


def clauses(runs: Sequence[PastRun], metric: Metric) -> list[Clause]:
    """Those of these runs. Rows are known by their losses where all have held_out.jsonl, else by their source."""
    rows = by_content if all(run.held_out for run in runs) else by_source
    asked = [] if metric.key == "loss" else [Clause("questions", "questions asked", _asked, _said_questions)]
    return [
        Clause("rows", "held-out rows", rows, _said_rows),
        *asked,
        Clause("tokens", "loss tokens", lambda run: number(run.result.get("loss_tokens")), _said_count),
        Clause("batch", "effective batch", effective_batch, lambda n: f"{_said_count(n)} rows"),
        Clause("schedule", "schedule", schedule, _said_schedule),
    ]


def by_content(run: PastRun) -> Any:
    """(number of rows, hash of their tokens)"""
    digest = hashlib.sha256("".join(sorted(run.held_out)).encode()).hexdigest()[:8]
    return len(run.held_out), digest


def by_source(run: PastRun) -> Any:
    """The same for a run that has no held_out.jsonl: what decides its rows and their tokens."""
    keys = sorted(
        k
        for k in run.config
        if k.startswith(("dataset.", "dataset_format.")) or k in ("model.name", "model.max_length")
    )
    source = [run.environment.get("dataset_fingerprint"), *((k, run.config[k]) for k in keys)]
    return number(run.result.get("held_out_rows")), hashlib.sha256(repr(source).encode()).hexdigest()[:8]


def effective_batch(run: PastRun) -> float | None:
    """Examples an optimizer step: the median of what was logged, else as the config says."""
    logged = [row["packing/examples"] for row in run.metrics if "packing/examples" in row]
    if logged:
        return median(logged)
    rows, times = (
        number(run.config.get(f"training.{key}"))
        for key in ("per_device_train_batch_size", "gradient_accumulation_steps")
    )
    devices = number(run.config.get("devices", 1))
    return None if rows is None or times is None or devices is None else rows * times * devices


def schedule(run: PastRun) -> Any:
    said = {key: v for key in SCHEDULE if (v := run.config.get(f"training.{key}")) is not None}
    if (number(said.get("max_steps")) or -1) > 0:
        said.pop("num_train_epochs", None)  # max_steps wins
    return number(run.result.get("steps")), *((key, text(value)) for key, value in said.items())


def groups(points: Sequence[Point], metric: Metric, across: Sequence[str]) -> list[Group]:
    """Points by contract, the largest group first.

    Raises ConfigError, with what differs, where there are points and no two of them share a contract.
    """
    rules = [c for c in clauses([r for p in points for r in p.runs.values()], metric) if c.key not in across]
    found: list[list[Point]] = []
    for point in sorted(points, key=lambda p: -len(p.runs)):
        home = next((group for group in found if not _differences(point, group[0], rules)), None)
        if home is None:
            found.append([point])
        else:
            home.append(point)
    found.sort(key=lambda group: -sum(len(point.runs) for point in group))
    made = [Group(group, _differences(group[0], found[0][0], rules)) for group in found]
    if len(points) > 1 and max(len(group) for group in found) == 1:
        raise ConfigError(_refusal(made))
    return made


def common_seeds(points: Sequence[Point]) -> list[Any]:
    """The seeds on which points are averaged: the set that most runs of whole points have, of two where it can be."""
    sets = Counter(frozenset(point.runs) for point in points)
    if not sets:
        return []
    whole = {seeds: sum(n for other, n in sets.items() if seeds <= other) for seeds in sets}
    best = max(whole, key=lambda seeds: (whole[seeds] > 1, len(seeds) * whole[seeds], len(seeds)))
    return sorted(best, key=str)


def _differences(point: Point, other: Point, rules: Sequence[Clause]) -> list[str]:
    """In words, `point` first; runs of the same seed, where there are any, since seeds draw other batches."""
    seeds = [seed for seed in point.runs if seed in other.runs]
    pairs = [(point.runs[seed], other.runs[seed]) for seed in seeds] or [(point.any, other.any)]
    found = []
    for rule in rules:
        values = next(((a, b) for one, two in pairs if not _same(a := rule.of(one), b := rule.of(two))), None)
        if values:
            found.append(f"{rule.name}: {rule.said(values[0])}, not {rule.said(values[1])}")
    return found


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= TOLERANCE * max(a, b)
    return bool(a == b)


def _refusal(found: Sequence[Group]) -> str:
    shown = [f"  {group.points[0].label}: {'; '.join(group.differs)}" for group in found[1:4]]
    more = [f"  and {len(found) - 4} more"] if len(found) > 4 else []
    first = found[0].points[0].label
    only = {d.partition(":")[0] for group in found for d in group.differs}
    keys = {"loss tokens": "tokens", "effective batch": "batch", "schedule": "schedule"}
    flags = " ".join(f"--across {keys[name]}" for name in sorted(only) if name in keys)
    fix = (
        f"Fix: {flags}, if that is the question"
        if only <= set(keys)
        else "Fix: name runs with the same dataset"
    )
    return "\n".join([f"No two points can be compared fairly. Against {first}:", *shown, *more, fix])


def _asked(run: PastRun) -> Any:
    return tuple(run.config.get(key) for key in ASKED)


def _said_questions(asked: Any) -> str:
    return f"{text(asked[0])} of up to {text(asked[1])} tokens"


def _said_rows(rows: Any) -> str:
    return f"{_said_count(rows[0])} rows ({rows[1]})"


def _said_count(value: Any) -> str:
    return "unknown" if value is None else f"{value:,.0f}"


def _said_schedule(said: Any) -> str:
    steps, *rest = said
    return " ".join([f"{_said_count(steps)} steps", *(f"{key}={value}" for key, value in rest)])
