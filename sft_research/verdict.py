"""What a comparison says: is the best better, is it at an edge, what matters, what would decide it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from statistics import mean
from typing import Any

from sft_research.comparison import Comparison, Ranked
from sft_research.effects import Effect, Product, effects, product_alone
from sft_research.next_runs import command
from sft_research.past_runs import number
from sft_research.points import sorted_values, text
from sft_research.spread import Interval, block_residual, bootstrap, paired, pooled, seeds_needed

NAMES = {"lora.r": "rank", "lora.alpha": "alpha", "optimizer.lr": "learning rate"}


@dataclass(frozen=True)
class Finding:
    """One sentence or two, and the commands that would take it further."""

    kind: str  # best, rows, edge, effects, product, seeds
    text: str
    commands: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """`title` is the answer in one sentence."""

    title: str
    findings: list[Finding]
    between_seeds: Interval | None = None  # second minus best, above 0 where the best is better
    between_rows: Interval | None = None
    effects: list[Effect] = field(default_factory=list)
    product: Product | None = None


def verdict(c: Comparison) -> Verdict:
    """Of the points of the first group that have all seeds."""
    whole = [row for row in c.ranked if row.is_whole]
    if not whole:
        return Verdict("No point has finished.", [])
    if len(whole) == 1:
        return Verdict(
            f"One point has finished: {whole[0].point.label}. There is nothing to compare it with.", []
        )
    best, second = whole[:2]
    table = [[row.values[seed] for seed in c.seeds] for row in whole]
    residual = block_residual(table)
    noise = (residual[0] / len(c.seeds), residual[1]) if residual else None
    means = [row.mean for row in whole]
    found = effects([row.point.settings for row in whole], means, noise)
    product = product_alone([row.point.scale_times_lr for row in whole], means, noise)
    title, decided, seeds_said, interval = _best(c, best, second, residual)
    rows_said, rows = _rows(c, best, second)
    findings = [
        decided,
        *_level(c, whole, residual),
        *rows_said,
        *_edges(c, best, whole),
        *_effects(found, noise, len(whole)),
        *_product(product),
    ]
    return Verdict(title, [*findings, *seeds_said, *_incomplete(c, best)], interval, rows, found, product)


def _differences(c: Comparison, best: Ranked, second: Ranked) -> list[float]:
    """By seed, above 0 where the best is better."""
    return [c.metric.sign * (second.values[seed] - best.values[seed]) for seed in c.seeds]


def _best(
    c: Comparison, best: Ranked, second: Ranked, residual: tuple[float, int] | None
) -> tuple[str, Finding, list[Finding], Interval | None]:
    """Title, the finding behind it, and what would decide it."""
    a, b, n = best.point.label, second.point.label, len(c.seeds)
    differences = _differences(c, best, second)
    gap = f"{_size(c, mean(differences))} {'lower' if c.metric.lower_is_better else 'higher'}"
    if n < 2:
        more = [
            _more_seeds(c, best, second, 1, "With one seed there is no spread to hold a difference against.")
        ]
        title = f"Not decided: {a} is ahead of {b}, with one seed each"
        return (
            title,
            Finding("best", f"{c.metric.name}: {a} is {gap} than {b}, with one seed each."),
            more,
            None,
        )
    own = paired(differences)
    said = f"{a} is {gap} than {b} over {n} seeds, paired; 95 % interval of the difference {_ends(c, own)}"
    if residual:
        wide = pooled(differences, residual)
        others = "clear of 0" if wide.is_clear else "not clear of 0"
        said += f"; with the spread of all points pooled {_ends(c, wide)}, {others}"
    finding = Finding("best", f"{c.metric.name}: {said}.")
    if own.is_clear:
        return f"{a} is better than {b} by more than the spread between seeds", finding, [], own
    deviation = sqrt(2 * residual[0]) if residual else 0.0
    needed = seeds_needed(own.value, deviation)
    if needed is None or own.value == 0:
        said = "Even 200 seeds would hardly tell the two apart: take either."
        return (
            f"{a} and {b} are equal within the spread between seeds",
            finding,
            [Finding("seeds", said)],
            own,
        )
    lead = f"A difference of this size shows in four cases of five with {max(needed, n + 1)} seeds a point."
    more = [_more_seeds(c, best, second, max(needed - n, 1), lead)]
    return f"Not decided: {a} is ahead of {b} by less than the spread between seeds", finding, more, own


def _level(c: Comparison, whole: Sequence[Ranked], residual: tuple[float, int] | None) -> list[Finding]:
    """Points beside the best two that are not clearly worse, with the spread of all points pooled."""
    if not residual:
        return []
    best, _, *others = whole
    level = [row for row in others if not pooled(_differences(c, best, row), residual).is_clear]
    said = ", ".join(row.point.label for row in level[:4])
    more = f" and {len(level) - 4} more" if len(level) > 4 else ""
    return [Finding("best", f"Not clearly worse than it either: {said}{more}.")] if level else []


def _more_seeds(c: Comparison, best: Ranked, second: Ranked, count: int, lead: str) -> Finding:
    used = {int(seed) for row in c.ranked for seed in row.point.runs if number(seed) is not None}
    new: list[int] = []
    while len(new) < count:
        new.append(
            next(seed for seed in range(count + len(used) + 1) if seed not in used and seed not in new)
        )
    runs = 2 * count
    commands = [command(row.point.any, {"seed": new}) for row in (best, second)]
    return Finding("seeds", f"{lead} That is {runs} more runs:", [one for one in commands if one])


def _rows(c: Comparison, best: Ranked, second: Ranked) -> tuple[list[Finding], Interval | None]:
    """The same difference over resampled held-out rows, each run paired with that of its seed."""
    pairs = [(best.point.runs[seed].held_out, second.point.runs[seed].held_out) for seed in c.seeds]
    if c.metric.key != "loss":
        return [], None
    if not all(one and one.keys() == other.keys() for one, other in pairs):
        said = (
            "The runs do not say the loss of each held-out row, so nothing is said of other rows like these."
        )
        return [Finding("rows", said)], None
    rows = sorted(pairs[0][0])
    if any(one.keys() != pairs[0][0].keys() for one, _ in pairs):
        return [], None  # each seed has rows of its own
    differences = [mean(other[row][1] - one[row][1] for one, other in pairs) for row in rows]
    interval = bootstrap(differences, [pairs[0][0][row][0] for row in rows])
    holds = "the order holds" if interval.is_clear else "the order could turn"
    said = f"On other held-out rows like these {len(rows)} {holds}: 95 % of resampled sets give {_ends(c, interval)}."
    return [Finding("rows", said)], interval


def _edges(c: Comparison, best: Ranked, whole: Sequence[Ranked]) -> list[Finding]:
    """Where the best value of a numeric setting is the lowest or highest that was tried."""
    found = []
    for key, value in best.point.settings.items():
        tried = [v for v in sorted_values(row.point.settings[key] for row in whole) if number(v) is not None]
        if len(tried) < 2 or value not in (tried[0], tried[-1]):
            continue
        lowest = value == tried[0]
        beside = tried[1] if lowest else tried[-2]
        ratio = value / beside if beside and value > 0 and beside > 0 else 0.0
        further = round(value * ratio) if isinstance(value, int) else float(f"{value * ratio:.2g}")
        commands = []
        if ratio and further > 0 and further != value:
            commands = [command(best.point.any, {key: [further], "seed": c.seeds})]
        name, end = NAMES.get(key, key), "lowest" if lowest else "highest"
        said = f"The best {name}, {text(value)}, is the {end} of {len(tried)} tried"
        advice = f"try {'lower' if lowest else 'higher'} {name}s"
        found.append(Finding("edge", f"{said}: {advice}.", [one for one in commands if one]))
    return found


def _effects(found: Sequence[Effect], noise: tuple[float, int] | None, points: int) -> list[Finding]:
    if not found or points < 3:
        return []
    said = [
        f"{NAMES.get(one.key, one.key)} {one.share:.0%}{'' if one.is_clear else ' (within the spread between seeds)'}"
        for one in found
    ]
    rest = max(1 - sum(one.share for one in found), 0.0)
    tail = "" if noise else "; with one seed, chance is in all of them"
    lead = f"Of the differences between {points} points"
    return [Finding("effects", f"{lead}, {', '.join(said)}; together, beyond each alone, {rest:.0%}{tail}.")]


def _product(product: Product | None) -> list[Finding]:
    if product is None:
        return []
    said = (
        f"scale x learning rate alone explains {product.share:.0%} of the differences, "
        f"with {product.products} values in place of {product.points} points"
    )
    if product.is_all is None:
        end = "whether the rest is chance only more seeds can say."
    elif product.is_all:
        end = f"what it leaves out is within the spread between seeds (lack of fit, p = {product.p:.2f}): it is all."
    else:
        end = f"what it leaves out is more than the spread between seeds (lack of fit, p = {product.p:.2g})."
    return [Finding("product", f"{said[0].upper()}{said[1:]}; {end}")]


def _incomplete(c: Comparison, best: Ranked) -> list[Finding]:
    """Points that could be better, would they have all seeds."""
    ahead = [
        row for row in c.ranked
        if not row.is_whole and row.values and c.metric.sign * (row.mean - best.mean) < 0
    ]  # fmt: skip
    if not ahead:
        return []
    row = ahead[0]
    lacking = [seed for seed in c.seeds if seed not in row.values]
    one = command(row.point.any, {"seed": lacking})
    said = f"{row.point.label} is ahead of it on the seeds that it has; it lacks seed {', '.join(map(str, lacking))}:"
    return [Finding("seeds", said, [one] if one else [])]


def _size(c: Comparison, value: float) -> str:
    return f"{abs(value):.4f} nats a token" if c.metric.key == "loss" else f"{100 * abs(value):.1f} points"


def _ends(c: Comparison, interval: Interval) -> str:
    times, digits = (1, 4) if c.metric.key == "loss" else (100, 1)
    return f"{times * interval.low:+.{digits}f} to {times * interval.high:+.{digits}f}"


def as_plain(verdict: Verdict) -> dict[str, Any]:
    """For JSON."""
    return {
        "title": verdict.title,
        "findings": [vars(finding) for finding in verdict.findings],
        "second_minus_best_over_seeds": vars(verdict.between_seeds) if verdict.between_seeds else None,
        "second_minus_best_over_rows": vars(verdict.between_rows) if verdict.between_rows else None,
        "effects": [
            {"key": e.key, "share": e.share, "p": e.p, "means": [[k, v] for k, v in e.means.items()]}
            for e in verdict.effects
        ],
        "scale_times_learning_rate": vars(verdict.product) if verdict.product else None,
    }
