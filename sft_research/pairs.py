"""Two settings at a time: the best point at each pair of values, for heatmaps and for the best rate of each rank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sft_research.comparison import Comparison
from sft_research.edges import NAMES
from sft_research.lacking import to_do
from sft_research.points import sorted_values
from sft_research.untrusted import number


def heatmaps(c: Comparison) -> Iterator[dict[str, Any]]:
    """Of rank, alpha and learning rate each two that vary, else the first two numbers that do."""
    pairs = [("lora.r", "optimizer.lr"), ("lora.r", "lora.alpha"), ("lora.alpha", "optimizer.lr")]
    numeric = [k for k in c.keys if any(number(row.point.settings[k]) is not None for row in c.ranked)]
    found = [pair for pair in pairs if set(pair) <= set(c.keys)]
    other = [(numeric[0], numeric[1])] if len(numeric) > 1 else []
    for rows, columns in found or other:
        yield best_of(c, columns, rows)


def best_of(c: Comparison, column: str, row: str) -> dict[str, Any]:
    """The best whole point at each pair of values, over all others; empty where one of the two does not vary.

    `to_come` says of each pair whether a grid has yet to make a run of it.
    """
    whole = [one for one in c.ranked if one.is_whole]
    if not whole or not {column, row} <= set(c.keys):
        return {}
    plans = [run.planned for run in to_do(c) if {column, row} <= run.planned.keys()]
    places = [*(one.point.settings for one in whole), *plans]
    rows, columns = (sorted_values(at[key] for at in places) for key in (row, column))
    if len(rows) < 2 or len(columns) < 2:
        return {}
    cells: list[list[dict[str, Any] | None]] = [[None] * len(columns) for _ in rows]
    for one in reversed(whole):  # the best comes last, and stays
        at = one.point.settings
        i, j = rows.index(at[row]), columns.index(at[column])
        cells[i][j] = {"mean": one.mean, "spread": one.spread, "label": one.point.label}
    coming = {(repr(plan[row]), repr(plan[column])) for plan in plans}
    to_come = [[(repr(i), repr(j)) in coming for j in columns] for i in rows]
    others = [NAMES.get(key, key) for key in c.keys if key not in (row, column)]
    found = {"row": row, "column": column, "rows": rows, "columns": columns, "cells": cells}
    return found | {"to_come": to_come, "over": others}
