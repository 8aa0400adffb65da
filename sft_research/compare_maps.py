"""The page's tables of two settings at a time: metric in colour, and the best learning rate of each rank."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from sft_research.colours import colour, ink_on
from sft_research.compare_data import score
from sft_research.points import text


def heatmaps(seen: dict[str, Any]) -> str:
    """One scale of colours for all of them: what differs little looks alike beside what differs much."""
    found = [one for one in seen["heatmaps"] if one]
    ends = scale(seen, found)
    maps = "".join(_heatmap(seen, one, ends) for one in found)
    return f'<h2>Two settings at a time</h2><div class="two maps">{maps}</div>' if maps else ""


def scale(seen: dict[str, Any], found: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """(best, worst) of all cells, turned so that less is better."""
    sign = sign_of(seen)
    means = [cell["mean"] * sign for one in found for row in one["cells"] for cell in row if cell]
    return (min(means), max(means)) if means else (0.0, 0.0)


def sign_of(seen: dict[str, Any]) -> int:
    return 1 if seen["metric"]["lower_is_better"] else -1


def _heatmap(seen: dict[str, Any], found: dict[str, Any], ends: tuple[float, float]) -> str:
    """A table of colours with the number in each cell: the best is framed, dashed is what has runs to come."""
    names = seen["names"]
    rows = []
    for value, cells, to_come in zip(found["rows"], found["cells"], found["to_come"], strict=True):
        made = "".join(_cell(seen, *each, ends) for each in zip(cells, to_come, strict=True))
        rows.append(f"<tr><th>{escape(text(value))}</th>{made}</tr>")
    head = "".join(f"<th>{escape(text(value))}</th>" for value in found["columns"])
    over = f"; each cell the best over {', '.join(found['over'])}" if found["over"] else ""
    over += "; dashed: runs are to come" if any(map(any, found["to_come"])) else ""
    title = f"{names[found['row']]} (down) x {names[found['column']]} (across){over}"
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><div class="scroll"><table class="heat">'
        f"<tr><th></th>{head}</tr>{''.join(rows)}</table></div></figure>"
    )


def _cell(
    seen: dict[str, Any], cell: dict[str, Any] | None, is_to_come: bool, ends: tuple[float, float]
) -> str:
    more = "; not all of its runs are finished" if is_to_come else ""
    kinds = ["to-come"] if is_to_come else []
    if cell is None:
        return f'<td class="{" ".join(["none", *kinds])}" title="no whole point{more}">·</td>'
    best, worst = ends
    mean = cell["mean"] * sign_of(seen)
    back = colour(1 - (mean - best) / (worst - best or 1.0))
    spread = f", spread {score(seen, cell['spread'])}" if cell["spread"] is not None else ""
    title = f"{cell['label']}: {score(seen, cell['mean'])}{spread}{more}"
    kinds += ["best"] if mean == best else []
    marked = f' class="{" ".join(kinds)}"' if kinds else ""
    return (
        f'<td{marked} style="background:{back};color:{ink_on(back)}" title="{escape(title)}">'
        f"{score(seen, cell['mean'], 3)}</td>"
    )


def best_rates(seen: dict[str, Any]) -> str:
    """The best learning rate of each rank, and whether it lies at an end of those tried."""
    found = seen["best_lr"]
    if not found:
        return ""
    sign = sign_of(seen)
    rows = []
    for rank, cells, to_come in zip(found["rows"], found["cells"], found["to_come"], strict=True):
        tried = [(cell["mean"] * sign, at) for at, cell in enumerate(cells) if cell]
        if tried:
            at = min(tried)[1]
            ends = {
                min(tried, key=lambda one: one[1])[1]: "lowest",
                max(tried, key=lambda one: one[1])[1]: "highest",
            }
            edge = f"the {ends[at]} tried" if at in ends and len(tried) > 1 else ""
            edge = "others are to come" if any(to_come) else edge
            shown = [text(rank), text(found["columns"][at]), score(seen, cells[at]["mean"]), edge]
            rows.append(f"<tr>{''.join(f'<td>{escape(value)}</td>' for value in shown)}</tr>")
    over = f", the best over {', '.join(found['over'])}" if found["over"] else ""
    heads = "".join(f"<th>{escape(head)}</th>" for head in ("rank", "best rate", seen["metric"]["name"], ""))
    return (
        f'<section id="best-lr"><h2>Best learning rate per rank<span>{escape(over)}</span></h2><div class="two">'
        f'<div class="scroll"><table><tr>{heads}</tr>{"".join(rows)}</table></div>'
        '<figure class="chart"></figure></div></section>'
    )
