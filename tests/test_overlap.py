"""Rows are the same where their tokens are, whatever their labels."""

from sft_research.overlap import duplicates, overlap
from tests.toys import example

A, B, C = example([5], [1, 2]), example([5], [1, 3]), example([6], [1, 2])
A_WITH_LOSS_ON_ALL = example([], [5, 1, 2])


def test_rows_that_were_there_before_are_counted():
    assert duplicates([A, B, A, A_WITH_LOSS_ON_ALL, C]) == 2
    assert duplicates([A, B, C]) == 0


def test_held_out_rows_that_are_trained_on_are_named_by_their_positions():
    assert overlap([A, B], [C, A, B, A_WITH_LOSS_ON_ALL]) == [1, 2, 3]
    assert overlap([], [A]) == []


def test_a_row_is_not_the_beginning_of_another_nor_its_tokens_split_otherwise():
    assert overlap([example([5, 1], [2, 0])], [A]) == []
    assert overlap([example([256], [1])], [example([0, 1], [1])]) == []  # bytes 00 01 .. and 00 .. 01
