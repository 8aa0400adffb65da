"""A run's id says what decides its result: the config, and what the names in it hold."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from sft_research import identity
from sft_research.config import Run, compose
from sft_research.record import Folder

ROW = '{"instruction": "a", "response": "b"}\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with rows and a folder of weights."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(ROW)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"\0" * 64)
    return tmp_path


def on_files(path: str = "rows.jsonl", model: str = "./weights") -> Run:
    return compose(
        ["dataset=file", f"dataset.path={path}", "dataset_format=instruction", f"model.name={model}"]
    )


def test_a_changed_row_is_another_run_and_a_touched_file_is_not(place: Path) -> None:
    before = on_files().id
    os.utime(place / "rows.jsonl", (1, 1))
    assert on_files().id == before
    (place / "rows.jsonl").write_text(ROW.replace("b", "c"))
    assert on_files().id != before


def test_moved_rows_and_weights_are_the_same_run(place: Path) -> None:
    before = on_files().id
    (place / "elsewhere").mkdir()
    shutil.move(place / "rows.jsonl", place / "elsewhere" / "mine.jsonl")
    shutil.move(place / "weights", place / "elsewhere" / "mine")
    assert on_files("elsewhere/mine.jsonl", "./elsewhere/mine").id == before


def test_changed_weights_are_another_run(place: Path) -> None:
    before = on_files().id
    (place / "weights" / "model.safetensors").write_bytes(b"\0" * 63 + b"\1")  # as long as before
    assert on_files().id != before


def test_every_source_of_a_mixture_counts(place: Path) -> None:
    source = "dataset.parts.hard.source"
    of_files = (f"{source}._target_=sft_research.dataset.File", f"+{source}.path=rows.jsonl")
    listed = "+dataset.more=[{path:rows.jsonl}]"  # of a class of one's own
    found = compose(["dataset=mixture", *of_files, f"{source}.held_out=held.jsonl", listed]).identity[
        "inputs"
    ]
    named = {key for key in found if key.startswith("dataset")}
    assert named == {f"{source}.held_out", f"{source}.path", "dataset.more.0.path"}


def test_a_name_of_the_hub_has_the_commit_in_the_cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(place))
    refs = place / "models--org--name" / "refs"
    refs.mkdir(parents=True)
    runs = []
    for commit in ("1" * 40, "2" * 40):
        (refs / "main").write_text(commit)
        run = on_files(model="org/name")
        assert run.identity["inputs"]["model.name"] == {"content": commit, "files": {}}
        runs.append(run.id)
    assert runs[0] != runs[1]


def test_a_commit_that_was_unknown_when_the_run_began_stays_so(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the first run of a model, which downloads it, would not be known again."""
    monkeypatch.setenv("HF_HUB_CACHE", str(place))
    first = on_files(model="org/name")
    first.folder.mkdir(parents=True)
    (first.folder / "identity.json").write_text(json.dumps(first.identity))
    (place / "models--org--name" / "refs").mkdir(parents=True)
    (place / "models--org--name" / "refs" / "main").write_text("1" * 40)
    again = on_files(model="org/name")
    assert again.id == first.id
    assert identity.model_revision(again) == "1" * 40


def test_a_file_of_the_noted_size_and_time_is_not_read_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = on_files()
    first.folder.mkdir(parents=True)
    (first.folder / "identity.json").write_text(json.dumps(first.identity))

    def read(pattern: str) -> str:
        raise AssertionError(f"{pattern} was read")

    monkeypatch.setattr("sft_research.files.fingerprint", read)
    assert on_files().id == first.id
    (place / "rows.jsonl").write_text(ROW * 2)
    with pytest.raises(AssertionError, match=r"rows\.jsonl was read"):
        _ = on_files().id


def test_a_result_of_rows_that_have_changed_since_is_not_reported(place: Path) -> None:
    first = on_files()
    first.folder.mkdir(parents=True)
    (first.folder / "identity.json").write_text(json.dumps(first.identity))
    (first.folder / "result.json").write_text(json.dumps({"id": first.id}))
    with pytest.raises(KeyError, match="before"):  # taken for this run's, though no whole one
        Folder(on_files()).finished()
    (place / "rows.jsonl").write_text(ROW.replace("b", "c"))
    assert Folder(on_files()).finished() is None
