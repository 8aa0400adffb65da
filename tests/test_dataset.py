"""Rows come from files and folders as they are, and what is held out stays held out."""

import json
import re

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_research.config import ConfigError
from sft_research.dataset import File, Hub, Rows, hold_out
from sft_research.readers import Broken

SUM, PRODUCT = {"question": "1+1?", "answer": "2"}, {"question": "2*3?", "answer": "6"}
ROW = st.fixed_dictionaries({"question": st.text(), "answer": st.none() | st.integers() | st.text()})


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def numbered(numbers):
    return [{"n": number} for number in numbers]


# Held out -----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(ROW), st.lists(ROW), st.floats(0, 1, exclude_max=True))
def test_appending_rows_moves_none_from_one_side_to_the_other(rows, more, share):
    train, held_out = hold_out(rows, share)
    train_later, held_out_later = hold_out([*rows, *more], share)
    assert (train_later[: len(train)], held_out_later[: len(held_out)]) == (train, held_out)
    assert len(train_later) + len(held_out_later) == len(rows) + len(more)


@settings(deadline=None)
@given(st.lists(ROW, min_size=1), st.floats(0, 1, exclude_max=True))
def test_a_row_that_is_there_twice_is_on_one_side_only(rows, share):
    train, held_out = hold_out(rows + rows[::-1], share)
    assert not [row for row in held_out if row in train]


def test_about_the_share_is_held_out():
    train, held_out = hold_out(numbered(range(1000)), 0.2)
    assert 150 < len(held_out) < 250  # four standard deviations of a fifth of 1,000
    assert sorted(row["n"] for row in [*train, *held_out]) == list(range(1000))


def test_a_share_of_zero_holds_out_nothing():
    assert hold_out([SUM, PRODUCT], 0) == ([SUM, PRODUCT], [])


@pytest.mark.parametrize("share", [1, -0.1, 5])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(ConfigError) as error:
        hold_out([SUM], share)
    assert (
        str(error.value)
        == f"dataset.held_out={share} is not a share, from 0 to 1. Fix: dataset.held_out=0.05"
    )


# File ---------------------------------------------------------------------------------------------


def write_parquet(file):
    datasets.Dataset.from_list([SUM, PRODUCT]).to_parquet(file)


WRITERS = {
    "rows.jsonl": lambda file: file.write_text(jsonl(SUM, PRODUCT)),
    "rows.json": lambda file: file.write_text(json.dumps([SUM, PRODUCT])),
    "rows.csv": lambda file: file.write_text("question,answer\n1+1?,2\n2*3?,6\n"),
    "rows.parquet": write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_each_kind_of_file_gives_the_same_rows(tmp_path, name):
    WRITERS[name](tmp_path / name)
    rows = File(str(tmp_path / name), held_out=0.0).load()
    assert rows == Rows(train=[SUM, PRODUCT], held_out=[], checkable=False)


def test_a_csv_cell_is_the_text_that_is_written_in_it(tmp_path):
    (tmp_path / "rows.csv").write_text('a\n2\nNA\n007\n""\n"x, y"\nnull\n')
    rows = File(str(tmp_path / "rows.csv"), held_out=0.0).load()
    assert [row["a"] for row in rows.train] == ["2", "NA", "007", "", "x, y", "null"]


def test_a_glob_reads_its_files_in_the_order_of_their_names(tmp_path):
    (tmp_path / "b.jsonl").write_text(jsonl(PRODUCT))
    (tmp_path / "a.jsonl").write_text(jsonl(SUM))
    assert File(str(tmp_path / "*.jsonl"), held_out=0.0).load().train == [SUM, PRODUCT]


def test_a_file_of_the_home_directory_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rows.jsonl").write_text(jsonl(SUM))
    assert File("~/rows.jsonl", held_out=0.0).load().train == [SUM]


def test_a_second_file_is_held_out_whole(tmp_path):
    (tmp_path / "train.jsonl").write_text(jsonl(SUM))
    (tmp_path / "test.csv").write_text("question,answer\n2*3?,6\n")
    rows = File(str(tmp_path / "train.jsonl"), str(tmp_path / "test.csv"), answers_checkable=True).load()
    assert rows == Rows(train=[SUM], held_out=[PRODUCT], checkable=True)


@pytest.mark.parametrize(
    ("limit", "held_out_limit", "train", "held_out"),
    [(2, 1, [0, 1], [7]), (None, None, [0, 1, 2, 3], [7, 8]), (9, 9, [0, 1, 2, 3], [7, 8]), (0, 0, [], [])],
)
@pytest.mark.parametrize("source", ["file", "hub"])
def test_a_limit_keeps_the_first_rows(tmp_path, source, limit, held_out_limit, train, held_out):
    (tmp_path / "train.jsonl").write_text(jsonl(*numbered([0, 1, 2, 3])))
    (tmp_path / "test.jsonl").write_text(jsonl(*numbered([7, 8])))
    limits = {"limit": limit, "held_out_limit": held_out_limit}
    if source == "file":
        rows = File(str(tmp_path / "train.jsonl"), str(tmp_path / "test.jsonl"), **limits).load()
    else:
        rows = Hub(str(tmp_path), held_out="test", **limits).load()
    assert (list(rows.train), list(rows.held_out)) == (numbered(train), numbered(held_out))


def test_a_file_that_was_rewritten_is_read_again(tmp_path):
    file = tmp_path / "rows.jsonl"
    for rows in ([SUM], [PRODUCT]):
        file.write_text(jsonl(*rows))
        assert File(str(file), held_out=0.0).load().train == rows


# printf '0|{"n": 4}' | sha256sum begins with 02, below 33 33, a fifth of the way to ff ff; so do these others alone.
@pytest.mark.parametrize(("seed", "held_out"), [(0, [4, 6, 13]), (1, [11, 18, 19])])
def test_another_seed_holds_out_other_rows(seed, held_out):
    assert hold_out(numbered(range(20)), 0.2, seed)[1] == numbered(held_out)


def test_the_seed_of_a_source_is_that_of_its_share(tmp_path):
    (tmp_path / "train.jsonl").write_text(jsonl(*numbered(range(20))))
    for source in (File(f"{tmp_path}/train.jsonl", 0.2, seed=0), Hub(str(tmp_path), held_out=0.2, seed=0)):
        assert source.load().held_out == numbered([4, 6, 13])


def test_a_broken_row_stays_in_its_place_among_the_others(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"n": 1}\n{"n": \n{"n": 3}\n')
    rows = File(f"{tmp_path}/rows.jsonl", held_out=0.0, on_bad_row="skip").load()
    broken = Broken(f"{tmp_path}/rows.jsonl:2", "broken JSON: Expecting value in column 7")
    assert rows == Rows([{"n": 1}, broken, {"n": 3}], [], checkable=False, on_bad_row="skip")


# Hub ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A folder as the hub has them, with two splits."""
    place = tmp_path / "sums"
    place.mkdir()
    (place / "train.jsonl").write_text(jsonl(SUM, PRODUCT))
    (place / "test.jsonl").write_text(jsonl(PRODUCT))
    return place


# gsm8k's configuration is `main`; a local copy of it has files, and no configurations.
@pytest.mark.parametrize("name", [None, "main"])
def test_a_folder_has_the_splits_its_files_are_named_after(folder, name):
    rows = Hub(str(folder), name=name, held_out="test", answers_checkable=True).load()
    assert (list(rows.train), list(rows.held_out), rows.checkable) == ([SUM, PRODUCT], [PRODUCT], True)


def test_a_share_is_held_out_of_the_split_itself(folder):
    (folder / "train.jsonl").write_text(jsonl(*numbered(range(200))))
    (folder / "test.jsonl").unlink()
    rows = Hub(str(folder), held_out=0.2).load()
    assert (rows.train, rows.held_out) == hold_out(numbered(range(200)), 0.2)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {"held_out": "validation"},
            "dataset.held_out=validation: there is no such split. Fix: dataset.held_out=train or test",
        ),
        ({"split": "trian"}, "dataset.split=trian: there is no such split. Fix: dataset.split=train or test"),
    ],
)
def test_a_split_that_is_not_there_is_refused_with_those_that_are(folder, splits, message):
    with pytest.raises(ConfigError) as error:
        Hub(str(folder), **splits).load()
    assert str(error.value) == message


# What datasets says of a folder without files may change.
def test_a_folder_without_files_is_named_with_the_reason(tmp_path):
    with pytest.raises(ConfigError) as error:
        Hub(str(tmp_path)).load()
    before = re.escape(f"dataset.path={tmp_path} (configuration None) cannot be read: ")
    fix = re.escape(" Fix: dataset.path=FOLDER of jsonl, csv or parquet files, or dataset.name=...")
    assert re.fullmatch(
        rf"{before}The directory at .* doesn't contain any data files\.{fix}", str(error.value)
    )


def test_the_files_of_a_split_are_read_in_their_order_with_their_lines(tmp_path):
    (tmp_path / "[data]" / "data").mkdir(parents=True)
    for number, rows in enumerate(([SUM], [PRODUCT])):
        datasets.Dataset.from_list(rows).to_parquet(
            tmp_path / f"[data]/data/train-0000{number}-of-00002.parquet"
        )
    (tmp_path / "[data]" / "data" / "train-notes.jsonl").write_text("no rows of the split\n")
    rows = Hub(f"{tmp_path}/[data]", held_out=0.0).load().train
    assert rows == [SUM, PRODUCT]
    assert [row.where.rpartition("/")[2] for row in rows] == [
        "train-00000-of-00002.parquet, row 1",
        "train-00001-of-00002.parquet, row 1",
    ]


def test_a_csv_of_a_folder_is_read_as_text(tmp_path):
    (tmp_path / "train.csv").write_text("n\n007\nNA\n")
    (tmp_path / "train.md").write_text("not rows")
    assert Hub(str(tmp_path), held_out=0.0).load().train == [{"n": "007"}, {"n": "NA"}]


def test_a_split_in_files_of_two_kinds_is_refused(tmp_path):
    (tmp_path / "train.csv").write_text("n\n1\n")
    (tmp_path / "train.jsonl").write_text('{"n": "1"}\n')
    with pytest.raises(ConfigError) as error:
        Hub(str(tmp_path)).load()
    assert str(error.value) == (
        f"dataset.split=train: {tmp_path} has its rows in {tmp_path.name}/*.csv and in {tmp_path.name}/*.jsonl, "
        f"which may be the same rows. Fix: dataset=file dataset.path={tmp_path}/train.csv, or a glob of one kind"
    )


# Fingerprint --------------------------------------------------------------------------------------


SEVEN = [{"n": n} for n in range(33, 40)]  # the smallest hash of one is 0.084: a share of 0.05 holds none out
NO_EVALUATION = "training.eval_strategy=no evaluation.questions=0"


@pytest.mark.parametrize(
    ("train", "held_out", "evaluated", "message"),
    [
        (
            SEVEN,
            [],
            True,
            "the dataset gives 7 training and 0 held-out rows: nothing to evaluate on. "
            f"Fix: dataset.held_out=0.2, or {NO_EVALUATION}",
        ),
        (
            [],
            SEVEN,
            False,
            "the dataset gives 0 training and 7 held-out rows: nothing to train on. Fix: dataset.held_out=0.2",
        ),
        (
            SEVEN[:1],
            [],
            True,
            "the dataset gives 1 training and 0 held-out rows: nothing to evaluate on. "
            f"Fix: a dataset of more rows, or {NO_EVALUATION}",
        ),
        (
            [],
            [],
            False,
            "the dataset gives 0 training and 0 held-out rows: nothing to train on. Fix: a dataset of more rows",
        ),
    ],
    ids=["no-held-out", "no-training", "one-row", "nothing"],
)
def test_a_side_without_rows_is_refused_with_a_share_that_gives_both_some(
    train, held_out, evaluated, message
):
    with pytest.raises(ConfigError) as error:
        Rows(train, held_out, checkable=False).require(evaluated)
    assert str(error.value) == message
    if share := re.search(r"held_out=(0\.\d+)", message):
        assert all(hold_out(SEVEN, float(share[1])))


def test_rows_are_enough_without_held_out_ones_where_nothing_is_evaluated():
    Rows(SEVEN, [], checkable=False).require(evaluated=False)
    Rows(SEVEN, SEVEN, checkable=False).require(evaluated=True)


def test_the_fingerprint_is_the_first_half_of_a_sha256_of_the_rows_as_json():
    # printf '{"a": 1}|{"a": 2}|' | sha256sum
    assert Rows(numbered_a(1), numbered_a(2), checkable=False).fingerprint == "3e9d8b4a3cbee0b5"


def numbered_a(*values):
    return [{"a": value} for value in values]


@pytest.mark.parametrize(
    ("train", "held_out"),
    [
        (numbered_a(2, 1), numbered_a(3)),
        (numbered_a(1, 3), numbered_a(2)),
        (numbered_a(1), numbered_a(2, 3)),
        (numbered_a(1, 2), numbered_a(4)),
        (numbered_a(1, 2), []),
        (numbered_a(1, "2"), numbered_a(3)),
        ([{"b": 1}, {"a": 2}], numbered_a(3)),
    ],
    ids=["order", "swapped", "side", "value", "fewer", "type", "column"],
)
def test_other_rows_another_order_or_another_side_change_the_fingerprint(train, held_out):
    first = Rows(numbered_a(1, 2), numbered_a(3), checkable=False).fingerprint
    assert Rows(train, held_out, checkable=False).fingerprint != first


def test_the_order_of_columns_does_not_change_the_fingerprint():
    assert Rows([{"a": 1, "b": 2}], [], False).fingerprint == Rows([{"b": 2, "a": 1}], [], False).fingerprint


def test_a_moved_file_and_a_moved_folder_have_the_fingerprint_they_had_and_a_changed_one_has_not(folder):
    for source in (
        lambda place: File(f"{place}/train.jsonl", f"{place}/test.jsonl"),
        lambda place: Hub(str(place)),
    ):
        before = source(folder).fingerprint()
        moved = folder.rename(folder.with_name("moved"))
        assert source(moved).fingerprint() == before
        (moved / "train.jsonl").write_text(jsonl(PRODUCT, SUM))
        assert source(moved).fingerprint() != before
        (moved / "train.jsonl").write_text(jsonl(SUM, PRODUCT))
        moved.rename(folder)


def test_a_split_under_another_name_is_another_folder(folder):
    before = Hub(str(folder)).fingerprint()
    (folder / "test.jsonl").rename(folder / "validation.jsonl")
    assert Hub(str(folder)).fingerprint() != before
