"""What `compare --out FOLDER` writes: a page, pictures of it for a paper, a CSV of runs and a JSON of all."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sft_research import secrets
from sft_research.checkpoint import write_whole
from sft_research.compare_data import data
from sft_research.compare_page import page
from sft_research.compare_pictures import draw
from sft_research.comparison import Comparison
from sft_research.next_runs import again
from sft_research.past_grids import command_of
from sft_research.points import METRICS, label, settings
from sft_research.untrusted import number
from sft_research.verdict import Verdict, as_plain

RESULTS = (
    "steps",
    "tokens",
    "loss_tokens",
    "train_seconds",
    "peak_memory_gib",
    "trainable_parameters",
    "lora_scale",
)


def write(folder: Path, c: Comparison, verdict: Verdict, command: str) -> list[tuple[str, Path]]:
    """(what, file) of each file written; an older one of the same name is replaced whole."""
    folder.mkdir(parents=True, exist_ok=True)
    seen = secrets.redact(data(c, verdict, command))
    texts = {
        "page": ("compare.html", page(seen)),
        "runs": ("runs.csv", table(c)),
        "all": ("compare.json", _all(c, verdict, command)),
    }
    written = []
    for name, (file, text) in texts.items():
        write_whole(folder / file, secrets.redact(text))
        written.append((name, folder / file))
    return written + [("picture", file) for file in draw(seen, folder)]


def table(c: Comparison) -> str:
    """A line a run, finished or not, and a line for each that is missing."""
    rows = list(_rows(c))
    heads = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, heads, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _rows(c: Comparison) -> Iterator[dict[str, Any]]:
    compared = {
        id(run) for row in c.ranked if row.is_whole for seed, run in row.point.runs.items() if seed in c.seeds
    }
    for run in c.runs:
        at = settings(run, c.keys)
        row = {
            "run": run.name,
            "state": run.state,
            "compared": id(run) in compared,
            "point": c.labels[run.folder],
        }
        row |= {"seed": run.seed, **at}
        for when in ("before", "after"):
            row |= {f"{when}_{key}": run.score(key, when) for key in METRICS}
        yield (
            row
            | {key: number(run.result.get(key)) for key in RESULTS}
            | {"why": run.why, "folder": str(run.folder)}
        )
    for at, seed in c.missing:
        yield {"run": "", "state": "missing", "compared": False, "point": label(at), "seed": seed, **at}


def _cell(value: Any) -> Any:
    """A spreadsheet takes a text that begins so for a formula, and a folder may be a stranger's."""
    is_formula = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return "" if value is None else f"'{value}" if is_formula else value


def _grid(c: Comparison, grid: Path) -> dict[str, Any]:
    """How many of its runs are in which state."""
    states = Counter(run.state for run in c.runs if grid in run.grids)
    return {"folder": str(grid), "command": again(command_of(grid)), "runs": dict(states)}


def _all(c: Comparison, verdict: Verdict, command: str) -> str:
    sections = [
        {
            "differs": section.differs,
            "points": [
                {
                    "settings": row.point.settings,
                    "mean": row.mean,
                    "spread": row.spread,
                    "values": [[seed, value] for seed, value in row.values.items()],
                    "whole": row.is_whole,
                    "note": row.note,
                    "runs": [str(run.folder) for run in row.point.runs.values()],
                }
                for row in section.ranked
            ],
        }
        for section in c.sections
    ]
    unfinished = [
        {"run": run.name, "state": run.state, "why": run.why, "point": c.labels[run.folder], "seed": run.seed}
        | {"planned": run.planned, "folder": str(run.folder)}
        for run in c.unfinished
    ]
    grids = sorted({grid for run in c.runs for grid in run.grids})
    made = {
        "command": command,
        "metric": vars(c.metric),
        "contract": dict(c.contract),
        "seeds": c.seeds,
        "verdict": as_plain(verdict),
        "sections": sections,
        "grids": [_grid(c, grid) for grid in grids],
        "unfinished": unfinished,
        "missing": [{"settings": at, "seed": seed} for at, seed in c.missing],
        "notes": c.notes,
    }
    return json.dumps(made, indent=2, default=str) + "\n"
