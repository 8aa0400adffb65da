"""What the screen and the page say in numbers and in warnings."""

from dataclasses import replace

from sft_research.readers import Broken
from sft_research.tables import tables, warnings
from tests.previews import HELD_OUT, TRAINING, toy


def test_each_number_stands_in_the_column_of_its_split():
    rows, lengths, packings = tables(toy(overlap=1))
    assert rows.heads == ["training", "held out"]
    assert dict(rows.rows)["tokens"] == ["43", "5"]
    assert dict(rows.rows)["trained share"] == ["27.9%", "40.0%"]  # 12 of 43, 2 of 5
    assert dict(rows.rows)["also among the training rows"] == ["", "1"]
    assert lengths.rows[:2] == [
        ("training", ["5", "8", "30", "30"]),
        ("training, trained part", ["2", "4", "6", "6"]),
    ]
    assert packings.rows[0] == ("none", ["3", "1", "43", "36.8%", "60", "0"])  # 25 of 68
    assert (packings.marked, packings.note) == ("bfd", "2 rows a batch, 4 batches a step, one device")


def test_a_run_without_held_out_rows_has_no_column_for_them():
    rows, lengths, _ = tables(toy(splits=[TRAINING]))
    assert rows.heads == ["training"]
    assert "also among the training rows" not in dict(rows.rows)
    assert len(lengths.rows) == 2


def test_nothing_is_warned_of_where_nothing_is_lost():
    assert list(warnings(toy())) == []


def test_every_loss_is_said_with_its_number():
    splits = [replace(TRAINING, truncated=2, dropped=1, bad=4, duplicates=5), HELD_OUT]
    bad = [Broken(f"rows.jsonl:{line}", "no answer") for line in (3, 5, 7, 9)]
    assert list(warnings(toy(splits=splits, overlap=1, bad=bad))) == [
        "3 training rows do not fit. Fix: model.max_length=64",
        "5 training rows repeat an earlier one, token for token.",
        "1 held-out rows are training rows too: preflight refuses a run. Fix: on_overlap=drop",
        "4 bad rows are left out:",
        "rows.jsonl:3: no answer",
        "rows.jsonl:5: no answer",
        "rows.jsonl:7: no answer",
    ]
