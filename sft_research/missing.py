"""The runs that a grid asks for and nobody has made: of an experiment's own grid, else of the values that are there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import yaml

from sft_research.config import ROOT
from sft_research.past_grids import value
from sft_research.past_runs import PastRun
from sft_research.points import settings, sorted_values
from sft_research.untrusted import number

LARGEST = 10_000  # points; more is no grid that somebody waits for


def missing(runs: Sequence[PastRun], keys: Sequence[str]) -> list[tuple[dict[str, Any], Any]]:
    """(settings, seed) of points without a folder.

    Values that are there make a grid where half of it is: a search draws values that no grid has.
    """
    known = [run for run in runs if run.config]
    asked = planned(known)
    is_planned = bool(asked) and set(keys) <= set(asked) | {"seed"}
    varied = sorted({*keys, *(key for key in asked if key != "seed")}) if is_planned else list(keys)
    values = [sorted_values([*asked.get(key, ()), *(run.config.get(key) for run in known)]) for key in varied]
    seeds = sorted_values([*asked.get("seed", ()), *(run.seed for run in known)])
    size = prod(len(of_key) for of_key in values) * len(seeds)
    there = {_point(settings(run, varied), run.seed) for run in known}
    if not varied or size > (LARGEST if is_planned else 2 * len(there)):
        return []
    grid = (dict(zip(varied, chosen, strict=True)) for chosen in product(*values))
    found = [(at, seed) for at in grid for seed in seeds]
    return [(at, seed) for at, seed in found if _point(at, seed) not in there]


def planned(runs: Sequence[PastRun]) -> dict[str, list[Any]]:
    """The values of the grid in experiments/<name>.yaml, where all runs are of that experiment."""
    names = {run.folder.resolve().parent.name for run in runs}
    name = next(iter(names)) if len(names) == 1 else ""
    file = ROOT / "experiments" / f"{name}.yaml"
    if not re.fullmatch(r"\w+", name) or not file.is_file():
        return {}
    node = yaml.safe_load(file.read_text("utf-8"))
    for key in ("hydra", "sweeper", "params"):
        node = (node or {}).get(key)
    lists = {key: str(value) for key, value in (node or {}).items()}
    if any(re.search(r"[^\w.,+ -]", text) for text in lists.values()):  # range(...), glob(...)
        return {}
    return {key: [value(word.strip()) for word in text.split(",")] for key, text in lists.items()}


def _point(values: dict[str, Any], seed: Any) -> tuple[Any, ...]:
    """8 and 8.0 are one value."""
    return tuple(repr(v) if number(v) is None else float(v) for v in [*values.values(), seed])
