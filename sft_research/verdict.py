"""What a comparison says: is the best better, is it at an edge, what matters, what would decide it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sft_research.ahead import Finding, ahead, over_rows
from sft_research.comparison import Comparison, Ranked
from sft_research.edges import NAMES, edges
from sft_research.effects import Effect, Product, beyond, effects, product_alone
from sft_research.lacking import goes_on, is_planned, progress, so_far, to_do
from sft_research.next_runs import again, command
from sft_research.past_grids import command_of
from sft_research.points import label, text
from sft_research.spread import Interval, block_residual


@dataclass(frozen=True)
class Verdict:
    """`title` is the answer in one sentence."""

    title: str
    findings: list[Finding]
    between_seeds: Interval | None = None  # second minus best, above 0 where the best is better
    between_rows: Interval | None = None
    effects: list[Effect] = field(default_factory=list)
    product: Product | None = None  # of scale and learning rate
    of_alpha: Product | None = None  # of alpha and learning rate, without the rank


def verdict(c: Comparison) -> Verdict:
    """Of the points of the first section that have all seeds."""
    whole = [row for row in c.ranked if row.is_whole]
    if not whole:
        return Verdict("No run has finished", [*_progress(c), *_missing(c)])
    if len(whole) == 1:
        others = [finding for row in c.ranked[1:5] for finding in _lacking(c, row)]
        return Verdict(_alone(c, whole[0]) + so_far(c), [*_progress(c), *others, *_missing(c)])
    best, second = whole[:2]
    residual = block_residual([[row.values[seed] for seed in c.seeds] for row in whole])
    noise = (residual[0] / len(c.seeds), residual[1]) if residual else None
    means = [row.mean for row in whole]
    found = effects([row.point.settings for row in whole], means, noise)
    product = product_alone([row.point.scale_times_lr for row in whole], means, noise)
    of_alpha = product_alone([row.point.alpha_times_lr for row in whole], means, noise)
    led = ahead(c, whole, residual)
    rows_said, rows = over_rows(c, best, second)
    matter = [
        *edges(c, best, whole, found, residual, of_alpha),
        *_effects(found, bool(noise), len(whole), beyond([row.point.settings for row in whole], means)),
        *_products(product, of_alpha, whole),
    ]
    more = [*([] if to_do(c) else led.more), *_incomplete(c, best), *_missing(c)]  # the grid goes first
    findings = [*_progress(c), *led.findings, *rows_said, *matter, *more]
    return Verdict(led.title + so_far(c), findings, led.between_seeds, rows, found, product, of_alpha)


def _progress(c: Comparison) -> list[Finding]:
    """How far the grids are, and the command that goes on with one that nothing drives."""
    said = progress(c.runs)
    if not said:
        return []
    if goes_on(c):
        return [Finding("grid", f"{said}. All below is of those that are finished.")]
    left = sorted({grid for run in c.unfinished if run.state != "paused" for grid in run.grids})
    commands = [one for grid in left[:3] if (one := again(command_of(grid)))]
    tail = "; its own command goes on with it:" if len(left) == 1 else "; their own commands go on with them:"
    return [Finding("grid", f"{said}{tail if commands else '.'}", commands)]


def _effects(found: Sequence[Effect], has_noise: bool, points: int, left: float | None) -> list[Finding]:
    found = [one for one in found if len(one.means) > 1]
    if not found or points < 3 or (left is None and len(found) > 1):
        return []
    said = [
        f"{NAMES.get(one.key, one.key)} {one.share:.0%}{'' if one.is_clear else ' (within the spread between seeds)'}"
        for one in found
    ]
    together = f"together, beyond each alone, {left or 0.0:.0%}"
    if left is not None and abs(1 - sum(one.share for one in found) - left) > 0.005:
        together += "; shares overlap, as not every combination is there"
    tail = "" if has_noise else "; with one seed, chance is in all of them"
    lead = f"Of the differences between {points} points"
    return [Finding("effects", f"{lead}, {', '.join(said)}; {together}{tail}.")]


def _products(product: Product | None, of_alpha: Product | None, whole: Sequence[Ranked]) -> list[Finding]:
    """Whether scale x learning rate is all; where the rank varies too, alpha x learning rate beside it."""
    said = [_said("Scale x learning rate", product)] if product else _unshared(whole)
    if of_alpha and len({repr(row.point.settings.get("lora.r")) for row in whole}) > 1:
        said.append(_said("Alpha x learning rate, without the rank,", of_alpha))
    return said


def _said(what: str, product: Product) -> Finding:
    lead = (
        f"{what} alone explains {_percent(product.share)} of the differences, with {product.products} values in "
        f"place of {product.points} points ({_percent(product.adjusted)} adjusted for their number)"
    )
    if product.is_all is None:
        end = "whether the rest is chance only more seeds can say."
    elif product.is_all:
        end = f"what it leaves out is within the spread between seeds (lack of fit, p = {product.p:.2f}): it is all."
    else:
        end = f"what it leaves out is more than the spread between seeds (lack of fit, p = {product.p:.2g})."
    return Finding("product", f"{lead}; {end}")


def _percent(share: float) -> str:
    """Whole percents; what is nearly all is not all."""
    return f"{min(share, 0.999):.1%}" if 0.995 <= share < 0.9999 else f"{share:.0%}"


def _unshared(whole: Sequence[Ranked]) -> list[Finding]:
    """Where it is the question, and no two points answer it."""
    products = {row.point.scale_times_lr for row in whole}
    parts = ("optimizer.lr", "lora.r", "lora.alpha")
    vary = [key for key in parts if len({repr(row.point.settings.get(key)) for row in whole}) > 1]
    if None in products or len(products) < len(whole) or len(vary) < 2 or vary[0] != "optimizer.lr":
        return []
    said = f"No two of {len(whole)} points share a scale x learning rate: whether it is all cannot be told."
    return [Finding("product", said)]


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
            return _lacking(c, row, "is ahead of it on the seeds that it has; it ")
    return []


def _lacking(c: Comparison, row: Ranked, said: str = "") -> list[Finding]:
    """The seeds that a point lacks, with the command of those that do not come of themselves."""
    seeds = [seed for seed in c.seeds if seed not in row.values]
    if is_planned(c, row.point.label, seeds):
        return (
            [Finding("seeds", f"{row.point.label} {said}still lacks seed {_listed(seeds)}.")] if said else []
        )
    one = command(row.point.any, {"seed": seeds})
    return [Finding("seeds", f"{row.point.label} {said}lacks seed {_listed(seeds)}:", [one] if one else [])]


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
        "alpha_times_learning_rate": vars(verdict.of_alpha) if verdict.of_alpha else None,
    }
