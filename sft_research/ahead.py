"""Is the best point better than the second: over seeds, over other held-out rows, and what would decide it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from statistics import mean

from sft_research.comparison import Comparison, Ranked
from sft_research.next_runs import command
from sft_research.spread import Interval, bootstrap, paired, pooled, seeds_needed
from sft_research.untrusted import number

Residual = tuple[float, int] | None  # variance between seeds, of all points, and its degrees of freedom


@dataclass(frozen=True)
class Finding:
    """One sentence or two, and the commands that would take it further."""

    kind: str  # best, rows, edge, effects, product, seeds, missing
    text: str
    commands: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Ahead:
    """The answer in one sentence, what it rests on, and the runs that would say more.

    Differences are second minus best, turned so that above 0 the best is better.
    """

    title: str
    findings: list[Finding]
    more: list[Finding]
    between_seeds: Interval | None = None


def ahead(c: Comparison, whole: Sequence[Ranked], residual: Residual) -> Ahead:
    """Paired by seed (Student's t); where that is open, with the spread of all points pooled."""
    best, second = whole[:2]
    a, b, n = best.point.label, second.point.label, len(c.seeds)
    seen = differences(c, best, second)
    gap = f"{size(c, mean(seen))} {'lower' if c.metric.lower_is_better else 'higher'}"
    if residual is None:
        said = Finding("best", f"{c.metric.name}: {a} is {gap} than {b}, with one seed each.")
        lead = "With one seed there is no spread to hold a difference against."
        title = f"Not decided: {a} is ahead of {b}, with one seed each"
        return Ahead(title, [said], [_more_seeds(c, best, second, 2, lead)])
    own, wide = paired(seen), pooled(seen, residual)
    said = Finding(
        "best",
        f"{c.metric.name}: {a} is {gap} than {b} over {n} seeds, paired; 95 % interval of the difference "
        f"{ends(c, own)}; with the spread of all points pooled {ends(c, wide)}.",
    )
    findings = [said, *_level(c, whole, residual)]
    if own.is_clear:
        return Ahead(f"{a} is better than {b} by more than the spread between seeds", findings, [], own)
    more = _deciding(c, best, second, own.value, sqrt(2 * residual[0]))
    if wide.is_clear:
        title = f"{a} is better than {b}, if seeds spread there as they do in all points"
    elif not more.commands and "hardly" in more.text:
        title = f"{a} and {b} are equal within the spread between seeds"
    else:
        title = f"Not decided: {a} is ahead of {b} by less than the spread between seeds"
    return Ahead(title, findings, [more], own)


def over_rows(c: Comparison, best: Ranked, second: Ranked) -> tuple[list[Finding], Interval | None]:
    """The same difference over resampled held-out rows, each run paired with that of its seed."""
    pairs = [(best.point.runs[seed].held_out, second.point.runs[seed].held_out) for seed in c.seeds]
    if c.metric.key != "loss":
        return [], None
    if not all(one and one.keys() == other.keys() for one, other in pairs):
        said = (
            "The runs do not say the loss of each held-out row, so nothing is said of other rows like these."
        )
        return [Finding("rows", said)], None
    if any(one.keys() != pairs[0][0].keys() for one, _ in pairs):
        return [], None  # each seed has rows of its own
    rows = sorted(pairs[0][0])
    of_rows = [mean(other[row][1] - one[row][1] for one, other in pairs) for row in rows]
    interval = bootstrap(of_rows, [pairs[0][0][row][0] for row in rows])
    holds = "the order holds" if interval.is_clear else "the order could turn"
    said = f"On other held-out rows like these {len(rows)} {holds}: 95 % of resampled sets give {ends(c, interval)}."
    return [Finding("rows", said)], interval


def size(c: Comparison, value: float) -> str:
    return f"{abs(value):.4f} nats a token" if c.metric.key == "loss" else f"{100 * abs(value):.1f} points"


def ends(c: Comparison, interval: Interval) -> str:
    times, digits = (1, 4) if c.metric.key == "loss" else (100, 1)
    return f"{times * interval.low:+.{digits}f} to {times * interval.high:+.{digits}f}"


def differences(c: Comparison, best: Ranked, second: Ranked) -> list[float]:
    """By seed, above 0 where the best is better."""
    return [c.metric.sign * (second.values[seed] - best.values[seed]) for seed in c.seeds]


def _level(c: Comparison, whole: Sequence[Ranked], residual: tuple[float, int]) -> list[Finding]:
    """Points beside the best two that are not clearly worse, with the spread of all points pooled."""
    best, _, *others = whole
    level = [row for row in others if not pooled(differences(c, best, row), residual).is_clear]
    said = ", ".join(row.point.label for row in level[:4])
    more = f" and {len(level) - 4} more" if len(level) > 4 else ""
    return [Finding("best", f"Not clearly worse than it either: {said}{more}.")] if level else []


def _deciding(c: Comparison, best: Ranked, second: Ranked, difference: float, deviation: float) -> Finding:
    """The runs with which a difference of this size would show; `deviation` is that of a paired difference."""
    needed, n = seeds_needed(difference, deviation), len(c.seeds)
    if needed is None:
        return Finding("seeds", "Even 200 seeds would hardly tell the two apart: take either.")
    seeds = max(needed, n + 1)
    lead = f"With the spread of all points, a difference of this size shows in four cases of five with {seeds} seeds."
    return _more_seeds(c, best, second, max(needed - n, 1), lead)


def _more_seeds(c: Comparison, best: Ranked, second: Ranked, count: int, lead: str) -> Finding:
    """`count` seeds more for each of the two, and the commands."""
    used = {number(seed) for row in c.ranked for seed in row.point.runs}
    new = [seed for seed in range(count + len(used)) if seed not in used][:count]
    commands = [command(row.point.any, {"seed": new}) for row in (best, second)]
    return Finding("seeds", f"{lead} That is {2 * count} more runs:", [one for one in commands if one])
