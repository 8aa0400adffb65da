"""The rungs of a search, and what a run's folder says of them."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path
from typing import Any

import pytest

from sft_research.budgets import Rungs, come_to
from tests.grids import ID, grid, result_of


@pytest.mark.parametrize(
    ("smallest", "reduction", "budgets"),
    [
        (1 / 9, 3, [1 / 9, 1 / 3, None]),
        (0.1, 3, [1 / 9, 1 / 3, None]),  # at the least a tenth
        (0.12, 3, [1 / 3, None]),
        (0.015, 4, [1 / 64, 1 / 16, 1 / 4, None]),
        (0.5, 3, [None]),
        (1 / 243, 3, [1 / 243, 1 / 81, 1 / 27, 1 / 9, 1 / 3, None]),  # whose logarithm is 4.999999999999999
        (500, 3, [500, 1500, 4500, 13500]),  # and so on: a run ends where it ends
        (500, 4, [500, 2000]),
    ],
)
def test_the_budgets_of_the_rungs(smallest: float, reduction: int, budgets: list[float | None]) -> None:
    rungs = Rungs(smallest, reduction)
    assert [rungs.budget(rung) for rung in range(len(budgets))] == budgets


def a_run(place: Path, pauses: list[tuple[float, float | None]], loss: float | None = None) -> Any:
    """Of 9 steps and 900 loss tokens, held-out losses after steps 4 and 9; finished where `loss` is given."""
    (run,) = grid(place, {"a": ""}).runs
    run.folder.mkdir()
    (run.folder / "identity.json").write_text(json.dumps({"id": ID}))
    noted = [{"at": at, "step": 1, "loss_tokens": 100, "loss": of} for at, of in pauses]
    (run.folder / "pauses.json").write_text(json.dumps(noted))
    rows = [
        {"step": s, "loss_tokens": 100 * s, "train/loss": 3.0} for s in range(1, 4 if loss is None else 10)
    ]
    if loss is not None:
        rows += [{"step": 4, "loss_tokens": 400, "eval/loss": 2.5}]
        rows += [{"step": 9, "loss_tokens": 900, "eval/loss": loss}]
        (run.folder / "result.json").write_text(result_of(loss, loss_tokens=900, steps=9))
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


SHARES, TOKENS = Rungs(1 / 9, 3), Rungs(100, 3)


def test_a_run_that_rests(tmp_path: Path) -> None:
    run = a_run(tmp_path, [(1 / 9, 2.0), (1 / 3, 1.5)])
    assert come_to(run, SHARES) == (300, [2.0, 1.5], False)
    assert come_to(run, TOKENS) == (300, [], False)  # it paused at other points


def test_a_run_of_another_identity_has_come_to_nothing(tmp_path: Path) -> None:
    run = a_run(tmp_path, [(1 / 9, 2.0)])
    (run.folder / "identity.json").write_text('{"id": "another"}')
    assert come_to(run, SHARES) == (300, [], False)


def test_a_finished_run_has_come_to_every_rung(tmp_path: Path) -> None:
    assert come_to(a_run(tmp_path, [(1 / 9, 2.0), (1 / 3, 1.5)], 1.25), SHARES) == (
        900,
        [2.0, 1.5, 1.25],
        True,
    )


@pytest.mark.parametrize(
    ("rungs", "losses"),
    [
        (SHARES, [2.5, 2.5, 1.25]),  # a ninth and a third of 9 steps: measured next after step 4
        (TOKENS, [2.5, 2.5, 1.25]),  # 100, 300; 900 is the whole run
        (Rungs(200, 3), [2.5, 1.25, 1.25]),  # 200, 600, the end
        (Rungs(1000, 3), [1.25]),
    ],
)
def test_one_that_never_paused_counts_with_what_was_measured_next(
    rungs: Rungs, losses: list[float], tmp_path: Path
) -> None:
    assert come_to(a_run(tmp_path, [], 1.25), rungs) == (900, losses, True)


def test_a_loss_that_is_no_number_is_the_worst(tmp_path: Path) -> None:
    assert come_to(a_run(tmp_path, [(1 / 9, float("nan"))]), SHARES) == (300, [inf], False)


def test_without_held_out_rows_no_rung_is_reached(tmp_path: Path) -> None:
    assert come_to(a_run(tmp_path, [(1 / 9, None)]), SHARES) == (300, [], False)
