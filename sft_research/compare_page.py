"""A comparison as one self-contained HTML page: no request, light and dark, narrow and wide.

Tables and texts are written here and need no script; compare_*.js draw the curves and what answers to the
pointer. A policy in the page lets that one script run and no other, whatever a run's texts hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from sft_research.compare_data import score
from sft_research.compare_maps import best_rates, heatmaps
from sft_research.document import document
from sft_research.points import text

STYLES = ("page.css", "compare_page.css")
SCRIPTS = [f"compare_{name}.js" for name in ("tools", "paint", "curves", "points", "page")]
KINDS = {
    "grid": "So far",
    "best": "The best",
    "rows": "Other rows",
    "edge": "At the edge",
    "effects": "What matters",
    "product": "Only a product?",
    "seeds": "What would decide it",
    "missing": "Not yet run",
}
FOLDED = ("waiting", "never started")


def page(seen: dict[str, Any]) -> str:
    """The page of what `compare_data.data` gives."""
    body = [
        '<button id="theme" type="button" title="light or dark">◐</button>',
        f"<h1>{escape(seen['title'])}</h1>",
        _lead(seen),
        _findings(seen),
        "<h2>Ranking</h2>",
        *(_section(seen, number, section) for number, section in enumerate(seen["sections"])),
        _not_there(seen),
        '<section id="curves"><h2>Curves</h2></section>',
        heatmaps(seen),
        best_rates(seen),
        '<section id="parallel"><h2>Every point across its settings</h2></section>',
        '<section id="pair"><h2>Two runs side by side</h2></section>',
        f"<h2>Runs</h2>{''.join(_card(seen, run) for run in seen['runs'])}",
        f"<details><summary>The same in all runs</summary>{_pairs(seen['common'])}</details>",
        f"<footer>Made by<pre>{escape(seen['command'])}</pre></footer>",
    ]
    return document(seen["title"], "\n".join(body), STYLES, SCRIPTS, seen)


def _lead(seen: dict[str, Any]) -> str:
    finished = sum(run["state"] == "finished" for run in seen["runs"])
    runs = seen["planned"]
    metric = seen["metric"]
    better = "less" if metric["lower_is_better"] else "more"
    contract = "; ".join(f"{name} {value}" for name, value in seen["contract"])
    return (
        f'<p class="faint">{finished} finished runs of {runs}, by {escape(metric["name"])} in '
        f"{escape(metric['unit'])}: {better} is better. Same for all: {escape(contract or 'nothing')}.</p>"
    )


def _findings(seen: dict[str, Any]) -> str:
    parts, before = [], ""
    for finding in seen["findings"]:
        commands = "".join(f"<pre>{escape(command)}</pre>" for command in finding["commands"])
        folded = f"<details><summary>the command</summary>{commands}</details>" if commands else ""
        kind = "" if finding["kind"] == before else KINDS.get(finding["kind"], finding["kind"])
        parts.append(f"<dt>{escape(kind)}</dt><dd>{escape(finding['text'])}{folded}</dd>")
        before = finding["kind"]
    return f'<dl class="findings">{"".join(parts)}</dl>' if parts else ""


def _section(seen: dict[str, Any], number: int, section: dict[str, Any]) -> str:
    """Points under one contract; each value of a seed is a dot on a scale that all rows share."""
    points = seen["points"][section["start"] : section["start"] + section["count"]]
    values = [value for point in points for value in point["values"]]
    heads = [seen["names"][key] for key in seen["keys"]] or ["point"]
    head = "".join(
        f"<th>{escape(name)}</th>" for name in ["", *heads, "mean", "spread", "seeds", "each seed", ""]
    )
    rows = "".join(
        _ranked(seen, place, point, (min(values), max(values))) for place, point in enumerate(points, 1)
    )
    said = "; ".join(section["differs"])
    note = f'<p class="warnings">Not compared with those above: {escape(said)}</p>' if number else ""
    return f'{note}<div class="scroll tall"><table class="ranking"><tr>{head}</tr>{rows}</table></div>'


def _ranked(seen: dict[str, Any], place: int, point: dict[str, Any], ends: tuple[float, float]) -> str:
    settings = [text(point["settings"][key]) for key in seen["keys"]] or [point["label"]]
    shown = [str(place) if point["whole"] else "-", *settings, score(seen, point["mean"])]
    shown += [score(seen, point["spread"]), str(len(point["values"]))]
    cells = "".join(f"<td>{escape(value)}</td>" for value in shown)
    width = ends[1] - ends[0] or 1.0
    dots = "".join(
        f'<circle cx="{4 + 132 * (v - ends[0]) / width:.1f}" cy="8" r="3.5"/>' for v in point["values"]
    )
    strip = f'<svg class="strip" viewBox="0 0 140 16"><line x1="4" x2="136" y1="8" y2="8"/>{dots}</svg>'
    return f'<tr>{cells}<td>{strip}</td><td class="note">{escape(point["note"])}</td></tr>'


def _not_there(seen: dict[str, Any]) -> str:
    """What failed and what is left, each state with its lines; what is only to come is folded."""
    said = "".join(f"<li>{escape(one)}</li>" for one in _open(seen))
    folded = "".join(
        f'<details class="state"><summary>{escape(state)} <span>{count} point{"s" * (count != 1)}</span></summary>'
        f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in lines)}</ul></details>"
        for state, lines, count in seen["lacking"]
        if state in FOLDED
    )
    return (f'<ul class="warnings">{said}</ul>' if said else "") + folded


def _open(seen: dict[str, Any]) -> Iterator[str]:
    for state, lines, _ in seen["lacking"]:
        if state not in FOLDED:
            yield from (f"{state}: {one}" for one in lines)
    yield from seen["notes"]


def _card(seen: dict[str, Any], run: dict[str, Any]) -> str:
    """What one run says of itself, folded."""
    rows = [(name, before, run["scores"]["after"][name]) for name, before in run["scores"]["before"].items()]
    scores = "".join(
        f"<tr><td>{escape(name.replace('_', ' '))}</td><td>{_plain(before)}</td><td>{_plain(after)}</td></tr>"
        for name, before, after in rows
        if before is not None or after is not None
    )
    table = f"<table><tr><th></th><th>before</th><th>after</th></tr>{scores}</table>" if scores else ""
    why = f'<p class="warnings">{escape(run["why"])}</p>' if run["why"] else ""
    fixes = "".join(f"<pre>{escape(fix)}</pre>" for fix in run["fixes"])
    title = f"{run['label']} seed={run['seed']}"
    return (
        f'<details class="card"><summary>{escape(title)} <span class="state {escape(run["state"])}">'
        f"{escape(run['state'])}</span></summary>{why}{fixes}{table}{_pairs(run['facts'])}{_pairs(run['made_by'])}</details>"
    )


def _pairs(values: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(str(k))}</td><td>{escape(_plain(v))}</td></tr>" for k, v in values.items()
    )
    return f'<div class="scroll"><table class="pairs">{rows}</table></div>' if rows else ""


def _plain(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else "" if value is None else str(value)
