"""Whether the best point lies at the edge of its grid, where a better one may be beyond it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sft_research.ahead import Finding, Residual, differences
from sft_research.comparison import Comparison, Ranked
from sft_research.effects import Effect, Product
from sft_research.lacking import to_do
from sft_research.next_runs import command
from sft_research.points import sorted_values, text
from sft_research.spread import LEVEL, pooled
from sft_research.untrusted import number

NAMES = {"lora.r": "rank", "lora.alpha": "alpha", "optimizer.lr": "learning rate"}


def edges(
    c: Comparison,
    best: Ranked,
    whole: Sequence[Ranked],
    found: Sequence[Effect],
    residual: Residual,
    of_alpha: Product | None,
) -> list[Finding]:
    """Where the best value of a number is the lowest or highest that was tried, or will be, and matters."""
    said = []
    to_come = to_do(c)
    for effect in sorted(found, key=lambda effect: list(best.point.settings).index(effect.key)):
        key, value = effect.key, best.point.settings[effect.key]
        tried = _numbers(row.point.settings[key] for row in whole)
        # Also what failed there, or was tried for a while by a search and rests.
        ends = _numbers([*tried, *((run.config | run.planned).get(key) for run in c.unfinished)])
        if len(tried) < 2 or number(value) is None or value not in (ends[0], ends[-1]):
            continue
        if key in ("lora.alpha", "optimizer.lr") and _is_inside(best, whole, of_alpha):
            continue
        lowest = value == tried[0]
        beside = tried[1] if lowest else tried[-2]
        if not _matters(c, best, whole, effect, beside, residual):
            continue
        name, end = NAMES.get(key, key), "lowest" if lowest else "highest"
        fact = f"The best {name}, {text(value)}, is the {end} of {len(tried)} tried"
        advice = f"try {'lower' if lowest else 'higher'} {name}s"
        commands = [] if to_come else _further(c, best, key, beside)
        said.append(Finding("edge", f"{fact}: {advice}.", commands))
    return said


def _is_inside(best: Ranked, whole: Sequence[Ranked], of_alpha: Product | None) -> bool:
    """Whether alpha x learning rate is nearly all, and more and less of it than the best point's was tried."""
    if of_alpha is None or of_alpha.adjusted < LEVEL:
        return False
    products = sorted(row.point.alpha_times_lr or 0.0 for row in whole)
    return products[0] < (best.point.alpha_times_lr or 0.0) < products[-1]


def _matters(
    c: Comparison, best: Ranked, whole: Sequence[Ranked], effect: Effect, beside: Any, residual: Residual
) -> bool:
    """Whether the best point is clearly better than itself with the value beside it; else, whether the setting is."""
    wanted = best.point.settings | {effect.key: beside}
    other = next((row for row in whole if row.point.settings == wanted), None)
    if other is None or residual is None:
        return effect.is_clear
    return pooled(differences(c, best, other), residual).is_clear


def _numbers(values: Iterable[Any]) -> list[Any]:
    return [value for value in sorted_values(values) if number(value) is not None]


def _further(c: Comparison, best: Ranked, key: str, beside: Any) -> list[str]:
    """The best point with a value beyond its own: as far again, by ratio, as it is from the one beside it."""
    value = best.point.settings[key]
    ratio = value / beside if beside and value > 0 and beside > 0 else 0.0
    further = round(value * ratio) if isinstance(value, int) else float(f"{value * ratio:.2g}")
    if not ratio or further <= 0 or further == value:
        return []
    one = command(best.point.any, {key: [further], "seed": c.seeds})
    return [one] if one else []
