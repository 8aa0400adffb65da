"""The numbers of a split, each worked out by hand."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_research.cache import Examples
from sft_research.counts import Bar, count, histogram, percentiles, spread_over_lengths
from sft_research.readers import Broken
from sft_research.tokens import Encoded, Example
from tests.toys import example

# 3 + 2 tokens, 2 with loss; 1 + 3, 3 with loss; a text trained from its first token on: 2 of 3.
ROWS = [example([1, 2, 3], [4, 5]), example([1], [2, 3, 4]), Example([7, 8, 9], [7, 8, 9], [], "")]


def table(rows):
    """The rows in two chunks, the second one a slice, as a table in memory may have them."""

    def column(name, before):
        ids = pa.list_(pa.int32())
        first = pa.array([getattr(row, name) for row in rows[:1]], ids)
        return pa.chunked_array(
            [first, pa.array([before, *(getattr(row, name) for row in rows[1:])], ids)[1:]]
        )

    return Examples(pa.table({"input_ids": column("input_ids", [9]), "labels": column("labels", [9])}))


@pytest.mark.parametrize("kind", [list, table])
def test_tokens_and_tokens_with_loss_are_counted_for_every_row(kind):
    split = count("training", Encoded(kind(ROWS), truncated=1, dropped=2, answers_cut=3))
    assert split.lengths.tolist() == [5, 4, 3]
    assert split.trained.tolist() == [2, 3, 2] == [row.loss_tokens for row in ROWS]
    assert (split.rows, split.tokens, split.loss_tokens) == (3, 12, 7)
    assert split.share_trained == 7 / 12
    assert (split.truncated, split.dropped, split.answers_cut) == (1, 2, 3)


def test_bad_rows_and_repeats_are_counted():
    split = count("training", Encoded([*ROWS, ROWS[0]], bad=[Broken("a:1", "empty")]))
    assert (split.bad, split.duplicates) == (1, 1)


def test_a_percentile_is_the_length_of_a_row_that_is_there():
    assert percentiles(np.array([7])) == [7, 7, 7, 7]
    assert percentiles(np.arange(10, 101, 10)) == [10, 50, 100, 100]
    assert percentiles(np.arange(100, 0, -1)) == [5, 50, 95, 100]


def test_bars_have_one_round_width_and_hold_every_row():
    assert histogram(np.array([61, 64, 70, 88]), 3) == [Bar(60, 69, 2), Bar(70, 79, 1), Bar(80, 89, 1)]
    assert histogram(np.array([5, 5, 6]), 10) == [Bar(5, 5, 2), Bar(6, 6, 1)]
    assert histogram(np.array([], dtype=int), 10) == []


@settings(deadline=None)
@given(st.lists(st.integers(1, 100_000), min_size=1), st.integers(2, 50))
def test_bars_are_no_more_than_asked_and_lose_nothing(lengths, most):
    bars = histogram(np.array(lengths), most)
    assert len(bars) <= most
    for bar in bars:
        assert bar.count == sum(bar.low <= length <= bar.high for length in lengths)
    assert sum(bar.count for bar in bars) == len(lengths)


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (0, []),
        (1, [(4, "the median")]),
        (2, [(1, "the shortest"), (2, "the longest")]),
        (3, [(1, "the shortest"), (4, "the median"), (2, "the longest")]),
        (
            4,
            [(1, "the shortest"), (3, "longer than 20%"), (4, "the median"), (2, "the longest")],
        ),
        (
            9,
            [
                (1, "the shortest"),
                (3, "longer than 20%"),
                (4, "the median"),
                (0, "longer than 60%"),
                (2, "the longest"),
            ],
        ),
    ],
)
def test_the_rows_that_are_shown_are_spread_from_the_shortest_to_the_longest(wanted, shown):
    assert spread_over_lengths(np.array([7, 1, 9, 3, 5]), wanted) == shown
