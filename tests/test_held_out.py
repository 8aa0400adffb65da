"""The loss of every held-out row, beside the one number that they come to."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import log
from pathlib import Path

import pytest

from sft_research.held_out import write
from sft_research.loss import held_out_loss
from tests.runs import Done
from tests.toys import Bigram, example

TABLE = [[1 / 2, 1 / 4, 1 / 4], [1 / 8, 3 / 4, 1 / 8], [1 / 4, 1 / 4, 1 / 2]]
# 1/2, 1/2, 1/2 and 1/8: 3 ln 2 over 3 tokens, and 3 ln 2 over 1; 0 -> 1 is 1/4: 2 ln 2.
LONG, SHORT, OTHER = example([0], [0, 0, 0]), example([0, 0, 1], [0]), example([0], [1])


def lines(file: Path) -> list[dict[str, float]]:
    return [json.loads(text) for text in file.read_text().splitlines()]


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_each_row_has_its_own_loss(tmp_path: Path, batch_size: int) -> None:
    file = tmp_path / "held_out.jsonl"
    held_out_loss(Bigram(TABLE), [LONG, SHORT, OTHER], batch_size, file)
    found = sorted((row["tokens"], round(row["nll"] / log(2), 5)) for row in lines(file))
    assert found == [(1, 2.0), (1, 3.0), (3, 3.0)]
    assert [path.name for path in tmp_path.iterdir()] == ["held_out.jsonl"]


def test_a_row_is_known_by_its_tokens_and_by_which_are_trained(tmp_path: Path) -> None:
    file = tmp_path / "held_out.jsonl"
    rows = [example([0], [1, 2]), example([0, 1], [2]), example([0], [1, 2])]
    write(file, rows, [1.0, 2.0, 3.0])
    first, other, again = [row["row"] for row in lines(file)]
    assert first == again
    assert first != other


def test_the_latest_measurement_stays(tmp_path: Path) -> None:
    file = tmp_path / "held_out.jsonl"
    for nll in (3.0, 2.0):
        write(file, [LONG], [nll])
    assert [row["nll"] for row in lines(file)] == [2.0]


def test_a_runs_rows_come_to_the_loss_of_its_result(trained: Callable[..., Done]) -> None:
    done = trained("tracking=none")
    rows = lines(done.folder / "held_out.jsonl")
    assert len(rows) == 8
    loss = sum(row["nll"] for row in rows) / sum(row["tokens"] for row in rows)
    assert loss == pytest.approx(done.result["after"]["loss"], rel=1e-9)


def test_a_runs_samples_say_whether_they_are_right(trained: Callable[..., Done]) -> None:
    done = trained("tracking=none")
    samples = [json.loads(text) for text in (done.folder / "samples.jsonl").read_text().splitlines()]
    right = [sample["right"] for sample in samples]
    assert len(right) == 3
    assert sum(right) == done.result["after"]["exact_match"] * 3
