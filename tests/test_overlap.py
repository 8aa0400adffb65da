"""Rows that are there twice are found by their tokens, in a table of tokens as in a list."""

import pyarrow as pa
import pytest

from sft_research.cache import Examples
from sft_research.overlap import duplicates, overlap
from tests.toys import example

A, B, C = example([1, 2], [3]), example([1], [2, 3, 4]), example([1, 2, 3], [4, 5])
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
    assert overlap(kind([A, B]), other([C, SAME_TOKENS_AS_A, B])) == [1, 2]
    assert overlap(kind([A]), other([B, C])) == []


def test_a_row_is_not_the_beginning_of_another_nor_its_tokens_split_otherwise():
    assert overlap([example([5, 1], [2, 0])], [A]) == []
    assert overlap([example([256], [1])], [example([0, 1], [1])]) == []  # bytes 00 01 .. and 00 .. 01
