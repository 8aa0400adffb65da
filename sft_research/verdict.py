"""What a comparison says: is the best better, is it at an edge, what matters, what would decide it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sft_research.ahead import Finding, ahead, over_rows
from sft_research.comparison import Comparison, Ranked
from sft_research.effects import Effect, Product, effects, product_alone
from sft_research.next_runs import command
from sft_research.points import label, sorted_values, text
from sft_research.spread import Interval, block_residual
from sft_research.untrusted import number

NAMES = {"lora.r": "rank", "lora.alpha": "alpha", "optimizer.lr": "learning rate"}


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
    """Of the points of the first section that have all seeds."""
    whole = [row for row in c.ranked if row.is_whole]
    if not whole:
        return Verdict("No run has finished", _missing(c))
    if len(whole) == 1:
        return Verdict(_alone(c, whole[0]), [*(_lacking(c, row) for row in c.ranked[1:5]), *_missing(c)])
    best, second = whole[:2]
    residual = block_residual([[row.values[seed] for seed in c.seeds] for row in whole])
    noise = (residual[0] / len(c.seeds), residual[1]) if residual else None
    means = [row.mean for row in whole]
    found = effects([row.point.settings for row in whole], means, noise)
    product = product_alone([row.point.scale_times_lr for row in whole], means, noise)
    led = ahead(c, whole, residual)
    rows_said, rows = over_rows(c, best, second)
    matter = [*_edges(c, best, whole), *_effects(found, bool(noise), len(whole)), *_product(product)]
    more = [*led.more, *_incomplete(c, best), *_missing(c)]
    return Verdict(
        led.title, [*led.findings, *rows_said, *matter, *more], led.between_seeds, rows, found, product
    )


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


def _effects(found: Sequence[Effect], has_noise: bool, points: int) -> list[Finding]:
    if not found or points < 3:
        return []
    said = [
        f"{NAMES.get(one.key, one.key)} {one.share:.0%}{'' if one.is_clear else ' (within the spread between seeds)'}"
        for one in found
    ]
    rest = max(1 - sum(one.share for one in found), 0.0)
    tail = "" if has_noise else "; with one seed, chance is in all of them"
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


def _alone(c: Comparison, one: Ranked) -> str:
    if len(c.ranked) == 1:
        return f"Only {one.point.label} has finished: there is nothing to compare it with"
    return f"Only {one.point.label} has seed {_listed(c.seeds)}: no point can be held against it"


def _incomplete(c: Comparison, best: Ranked) -> list[Finding]:
    """The first point that is ahead of the best on the seeds that it has."""
    for row in c.ranked:
        shared = [seed for seed in row.values if seed in best.values]
        lead = sum(c.metric.sign * (best.values[seed] - row.values[seed]) for seed in shared)
        if not row.is_whole and lead > 0:
            return [_lacking(c, row, "is ahead of it on the seeds that it has; it ")]
    return []


def _lacking(c: Comparison, row: Ranked, said: str = "") -> Finding:
    lacking = [seed for seed in c.seeds if seed not in row.values]
    one = command(row.point.any, {"seed": lacking})
    return Finding("seeds", f"{row.point.label} {said}lacks seed {_listed(lacking)}:", [one] if one else [])


def _listed(seeds: Sequence[Any]) -> str:
    return ", ".join(text(seed) for seed in seeds)


def _missing(c: Comparison) -> list[Finding]:
    """Runs of the grid that nobody has made, with their commands."""
    made = next((run for run in c.runs if run.config), None)
    if not c.missing or not made:
        return []
    seeds: dict[str, list[Any]] = {}
    for at, seed in c.missing:
        seeds.setdefault(label(at), []).append(seed)
    at_of = {label(at): at for at, _ in c.missing}
    commands = [
        command(made, {**{key: [value] for key, value in at_of[name].items()}, "seed": of})
        for name, of in list(seeds.items())[:6]
    ]
    said = f"{len(c.missing)} runs of the grid are missing; the grid's own command makes them, or:"
    return [Finding("missing", said, [one for one in commands if one])]


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
