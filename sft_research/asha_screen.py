"""What a person reads at the end of a search: the best trial, and what it took beside the whole grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sft_research import halving

if TYPE_CHECKING:
    from sft_research.search import Search


def screen(search: Search) -> str:
    """The closing screen, also of a search that was stopped."""
    ends = sum(trial.finished for trial in search.trials)
    lines = ["", f"  {len(search.trials)} trials, {ends} of them to the end of their run", ""]
    if best := halving.best(search.trials):
        point, run = search.points[best.number], search.runs[best.number]
        where = "" if best.finished else f", on its way at rung {len(best.losses) - 1}"
        lines += [
            f"  best      {point.label}",
            f"            held-out loss {best.loss:.4f}{where}",
            f"            {run.folder}",
        ]
    lines.append(f"  tokens    {_tokens(search)}")
    if best:
        lines.append(f"  whole run {run.command}")
    return "\n".join([*lines, ""])


def _tokens(search: Search) -> str:
    """Loss tokens of the search, next to those of all points as whole runs."""
    spent = sum(trial.tokens for trial in search.trials)
    whole = [trial.tokens for trial in search.trials if trial.finished]
    said = f"{spent:,} with loss"
    if not (whole and spent):  # 0 where nothing is left of metrics.jsonl
        return said
    points = search.space.grid
    count, what = (
        (points, "the whole grid") if points else (len(search.trials), "the same trials as whole runs")
    )
    grid = count * max(whole)
    return f"{said}; {what}, {count} x {max(whole):,}, would take {grid:,}: {grid / spent:.1f} times as many"
