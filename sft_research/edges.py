"""Whether the best point lies at the edge of its grid, where a better one may be beyond it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sft_research.ahead import Finding
from sft_research.comparison import Comparison, Ranked
from sft_research.effects import Effect
from sft_research.lacking import to_do
from sft_research.next_runs import command
from sft_research.points import sorted_values, text
from sft_research.untrusted import number

NAMES = {"lora.r": "rank", "lora.alpha": "alpha", "optimizer.lr": "learning rate"}


def edges(c: Comparison, best: Ranked, whole: Sequence[Ranked], found: Sequence[Effect]) -> list[Finding]:
    """Where the best value of a number that matters is the lowest or highest that was tried, or will be."""
    said = []
    to_come = to_do(c)
    clear = {effect.key for effect in found if effect.is_clear}
    for key in (key for key in best.point.settings if key in clear):
        tried = _numbers(row.point.settings[key] for row in whole)
        ends = _numbers([*tried, *(run.planned.get(key) for run in to_come)])
        value = best.point.settings[key]
        if len(tried) < 2 or number(value) is None or value not in (ends[0], ends[-1]):
            continue
        lowest = value == tried[0]
        name, end = NAMES.get(key, key), "lowest" if lowest else "highest"
        fact = f"The best {name}, {text(value)}, is the {end} of {len(tried)} tried"
        advice = f"try {'lower' if lowest else 'higher'} {name}s"
        commands = [] if to_come else _further(c, best, key, tried[1] if lowest else tried[-2])
        said.append(Finding("edge", f"{fact}: {advice}.", commands))
    return said


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
