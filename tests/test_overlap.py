"""Rows that are there twice are found by their tokens, and leave the training rows, never the held-out ones."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from sft_research import cache
from sft_research.cache import Examples
from sft_research.config import ConfigError
from sft_research.overlap import duplicates, overlap, trained_on
from sft_research.tokens import Data, Encoded
from tests.toys import example

A, B, C = example([1, 2], [3]), example([1], [2, 3, 4]), example([1, 2, 3], [4, 5])
D = example([7], [7, 8])
SAME_TOKENS_AS_A = example([1], [2, 3])


def table(rows):
    """The rows in two chunks, the second one a slice, as a table in memory may have them."""
    ids = pa.list_(pa.int32())
    first = pa.array([row.input_ids for row in rows[:1]], ids)
    rest = pa.array([[9, 9], *(row.input_ids for row in rows[1:])], ids)[1:]
    return Examples(pa.table({"input_ids": pa.chunked_array([first, rest])}))


@pytest.mark.parametrize("kind", [list, table])
def test_a_row_counts_each_time_it_comes_again(kind):
    assert duplicates(kind([A, B, A, SAME_TOKENS_AS_A, C])) == 2
    assert duplicates(kind([A, B, C])) == 0


@pytest.mark.parametrize("kind", [list, table])
@pytest.mark.parametrize("other", [list, table])
def test_held_out_rows_that_are_trained_on_are_named_by_position(kind, other):
    assert overlap(kind([A, B]), other([C, SAME_TOKENS_AS_A, B]), 512) == [1, 2]
    assert overlap(kind([A]), other([B, C]), 512) == []


def test_a_row_is_not_the_beginning_of_another_nor_its_tokens_split_otherwise():
    assert overlap([example([5, 1], [2, 0])], [A], 512) == []
    assert overlap([example([256], [1])], [example([0, 1], [1])], 512) == []  # bytes 00 01 .. and 00 .. 01


@pytest.mark.parametrize("kind", [list, table])
def test_a_training_row_that_a_packing_lets_go_on_is_the_held_out_row_that_is_cut(kind):
    """model.max_length=3 of packing=wrapped: 1 2 3 4 5 is trained on whole, and evaluated as 1 2 3."""
    assert overlap(kind([example([1, 2], [3, 4, 5])]), kind([example([1, 2], [3])]), 3) == [0]
    assert overlap(kind([example([1, 2], [4, 3, 5])]), kind([example([1, 2], [3])]), 3) == []


def test_drop_leaves_the_held_out_rows_whole() -> None:
    data = Data(None, Encoded([A, B, C, B], truncated=3), Encoded([B, D]), [], True)
    dropped = trained_on("drop", data, 512)
    assert dropped.train.examples == [A, C]
    assert (dropped.train.truncated, dropped.held_out) == (3, data.held_out)
    assert trained_on("error", data, 512) is data


def test_rows_of_the_cache_are_dropped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "cache_dir", lambda: tmp_path)
    kept = cache.write("k", cache.Tokens(Encoded([A, B, C, B]), Encoded([B, D]), True))
    dropped = trained_on("drop", Data(None, kept.train, kept.held_out, [], True), 512)
    assert isinstance(dropped.train.examples, cache.Examples)
    assert list(dropped.train.examples) == [A, C]


def test_a_drop_that_leaves_nothing_is_refused() -> None:
    data = Data(None, Encoded([A, B]), Encoded([B, A]), [], True)
    with pytest.raises(ConfigError, match="all 2 training rows are held-out rows too"):
        trained_on("drop", data, 512)
