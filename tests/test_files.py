"""A path, a glob, a compressed file and a saved dataset give the same rows; damage is named where it is."""

import bz2
import gzip
import lzma
import re

import datasets
import pyarrow as pa
import pytest

from sft_research import files
from sft_research.config import ConfigError
from sft_research.readers import Broken

ROWS = [{"n": "1"}, {"n": "2"}]
LINES = b'{"n": "1"}\n{"n": "2"}\n'


def zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}


def test_every_compression_is_tried_below():
    assert list(PACKERS) == list(files.OPENERS)


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize(("kind", "content"), [(".jsonl", LINES), (".csv", b"n\n1\n2\n")])
def test_a_compressed_file_has_the_rows_and_the_lines_of_the_plain_one(tmp_path, suffix, kind, content):
    file = tmp_path / f"rows{kind}{suffix}"
    file.write_bytes(PACKERS[suffix](content))
    assert files.read(str(file), "path") == ROWS
    first = {".jsonl": 1, ".csv": 2}[kind]
    assert [row.where for row in files.read(str(file), "path")] == [f"{file}:{first}", f"{file}:{first + 1}"]


# Incompressible, so that half of the file holds about half of the rows; the reason is the library's.
@pytest.mark.parametrize("suffix", PACKERS)
def test_a_file_that_ends_too_early_gives_its_rows_and_then_says_after_how_many(tmp_path, suffix):
    numbers = [str(pow(7, n, 10**39 + 3)) for n in range(20_000)]
    whole = PACKERS[suffix]("".join(f'{{"n": "{n}"}}\n' for n in numbers).encode())
    file = tmp_path / f"rows.jsonl{suffix}"
    file.write_bytes(whole[: len(whole) // 2])
    *rows, broken = files.read(str(file), "path")
    assert [row["n"] for row in rows] == numbers[: len(rows)]
    assert broken.where == str(file)
    assert re.fullmatch(rf"it cannot be read to its end, after {len(rows)} rows: .{{10,}}", broken.reason)


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_file_that_is_not_compressed_as_its_name_says_is_named(tmp_path, suffix):
    (tmp_path / f"rows.jsonl{suffix}").write_bytes(LINES)
    (broken,) = files.read(f"{tmp_path}/rows.jsonl{suffix}", "path")
    assert broken.reason.startswith("it cannot be read to its end, after 0 rows: ")


def test_a_glob_of_several_kinds_is_read_in_the_order_of_names_through_folders(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "rows.csv").write_bytes(b"n\n3\n")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES))
    (tmp_path / "c.json").write_bytes(b'[{"n": "4"}]')
    found = files.read(f"{tmp_path}/**/*.*", "path")
    assert [row["n"] for row in found] == ["1", "2", "3", "4"]


def test_an_empty_file_among_others_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(LINES)
    (tmp_path / "b.jsonl").touch()
    assert files.read(f"{tmp_path}/*.jsonl", "path") == [
        *ROWS,
        Broken(f"{tmp_path}/b.jsonl", "it holds no rows"),
    ]


def test_a_name_with_brackets_of_its_own_is_found(tmp_path):
    (tmp_path / "rows[1].JSONL").write_bytes(LINES)
    assert files.read(f"{tmp_path}/rows[1].JSONL", "path") == ROWS


def test_a_missing_column_and_a_broken_line_stand_in_the_file_they_are_in(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"n": \n')
    (tmp_path / "b.csv").write_bytes(b"n,m\n1\n")
    assert files.read(f"{tmp_path}/*", "path") == [
        Broken(f"{tmp_path}/a.jsonl:1", "broken JSON: Expecting value in column 7"),
        Broken(f"{tmp_path}/b.csv:2", "1 cells, where the header has 2: n, m"),
    ]


@pytest.mark.parametrize("key", ["path", "held_out"])
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("none.jsonl", "names no file, and no folder of save_to_disk. Fix: dataset.{key}=FILE"),
        ("empty.jsonl", "holds no rows. Fix: dataset.{key}=FILE"),
        ("header.csv", "holds no rows. Fix: dataset.{key}=FILE"),
        (".", "names no file, and no folder of save_to_disk. Fix: dataset.{key}=FILE"),
    ],
)
def test_a_place_without_rows_is_refused_with_its_key(tmp_path, key, name, problem):
    (tmp_path / "empty.jsonl").write_bytes(b"\n\n")
    (tmp_path / "header.csv").write_bytes(b"a,b\n")
    with pytest.raises(ConfigError) as error:
        files.read(f"{tmp_path}/{name}", key)
    assert str(error.value) == f"dataset.{key}={tmp_path}/{name} {problem.format(key=key)}"


def test_a_file_of_another_kind_is_refused_with_the_kinds_that_are_read(tmp_path):
    (tmp_path / "rows.txt.gz").write_bytes(b"1")
    with pytest.raises(ConfigError) as error:
        files.read(f"{tmp_path}/*", "path")
    assert str(error.value) == (
        f"dataset.path: {tmp_path}/rows.txt.gz is not of a kind that is read. Fix: dataset.path=FILE, one of "
        ".jsonl, .json, .csv, .parquet, compressed or not (.gz, .bz2, .xz, .zst)"
    )


# save_to_disk -------------------------------------------------------------------------------------


def test_a_saved_dataset_is_read_with_the_numbers_of_its_rows(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "rows")
    found = files.read(f"{tmp_path}/rows", "path")
    assert found == ROWS
    assert [row.where for row in found] == [f"{tmp_path}/rows, row 1", f"{tmp_path}/rows, row 2"]


def test_of_saved_splits_train_is_trained_on_and_test_is_held_out(tmp_path):
    splits = {name: datasets.Dataset.from_list([{"n": name}]) for name in ("train", "test")}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "rows")
    assert files.read(f"{tmp_path}/rows", "path") == [{"n": "train"}]
    assert files.read(f"{tmp_path}/rows", "held_out") == [{"n": "test"}]
    assert files.read(f"{tmp_path}/rows/test", "path") == [{"n": "test"}]


def test_a_saved_split_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    datasets.DatasetDict({"all": datasets.Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "rows")
    with pytest.raises(ConfigError) as error:
        files.read(f"{tmp_path}/rows", "held_out")
    assert str(error.value) == (
        f"dataset.held_out={tmp_path}/rows has no split test, but all. Fix: dataset.held_out={tmp_path}/rows/all"
    )


# Fingerprint --------------------------------------------------------------------------------------


def test_the_fingerprint_is_of_kinds_and_contents_in_order_and_not_of_names(tmp_path):
    def of(**contents):
        for file in tmp_path.iterdir():
            file.unlink()
        for name, content in contents.items():
            (tmp_path / name.replace("_", ".")).write_bytes(content)
        return files.fingerprint(f"{tmp_path}/*")

    first = of(a_jsonl=b"1", b_jsonl=b"2")
    assert of(x_jsonl=b"1", y_jsonl=b"2") == first
    changed = [
        of(a_jsonl=b"2", b_jsonl=b"1"),
        of(a_jsonl=b"12"),
        of(a_jsonl=b"1"),
        of(a_csv=b"1", b_jsonl=b"2"),
    ]
    assert len({first, *changed}) == 5
