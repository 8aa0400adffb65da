"""A run's folder tells how far the run got, whatever is left of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sft_research import lock
from sft_research.config import ConfigError
from sft_research.past_runs import find, read
from tests.compared import run, write


def unfinished(place: Path, **more: object) -> Path:
    folder = run(place, **more)
    (folder / "result.json").unlink()
    return folder


def test_a_finished_run_says_all_of_itself(tmp_path: Path) -> None:
    found = read(run(tmp_path / "demo", r=4, seed=3, loss=0.25))
    assert (found.state, found.why, found.seed) == ("finished", "", 3)
    assert (found.config["lora.r"], found.score("loss"), found.score("loss", "before")) == (4, 0.25, 2.0)
    assert found.name == "demo/lora.alpha=16,lora.r=4,optimizer.lr=0.001,seed=3"
    assert [row.get("train/loss") for row in found.metrics] == [2.0, 1.5, 0.25, None]
    assert found.held_out == {"aa": (2.0, 0.5), "bb": (3.0, 1.0), "cc": (5.0, 1.0)}
    assert found.samples[0]["expected"] == "2"
    assert found.environment["cpu"] == "a cpu"


def test_a_failed_run_says_why_and_where(tmp_path: Path) -> None:
    folder = unfinished(tmp_path)
    write(folder, "failure.json", {"status": "failed", "error": "Boom", "message": "two\nlines", "step": 2})
    found = read(folder)
    assert (found.state, found.why) == ("failed", "Boom: two lines (step 2)")
    write(
        folder,
        "failure.json",
        {"status": "interrupted", "error": "Stopped", "message": "SIGTERM", "step": None},
    )
    assert (read(folder).state, read(folder).why) == ("interrupted", "Stopped: SIGTERM")


@pytest.mark.parametrize(
    ("noted", "why"),
    [
        ([{"at": 0.1, "loss": 2.5}, {"at": 0.3, "loss": 1.25}], "at step 3, held-out loss 1.2500"),
        ([{"at": 0.3, "loss": None}], "at step 3"),
        ({"of": "a stranger"}, "at step 3"),
    ],
)
def test_a_run_that_rests_in_a_search_says_where_and_has_not_failed(
    noted: Any, why: str, tmp_path: Path
) -> None:
    folder = unfinished(tmp_path)
    write(folder, "state.json", {"state": "paused", "step": 3})
    write(folder, "pauses.json", noted)
    assert (read(folder).state, read(folder).why) == ("paused", why)


def test_a_run_whose_lock_is_held_runs(tmp_path: Path) -> None:
    folder = unfinished(tmp_path)
    assert (read(folder).state, read(folder).why) == ("unfinished", "ended without a result, at step 3")
    with lock.held(lock.of(folder), folder):
        assert (read(folder).state, read(folder).why) == ("running", "at step 3")
    assert read(folder).state == "unfinished"


def test_a_torn_folder_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = run(tmp_path)
    whole = (folder / "result.json").read_text()
    (folder / "result.json").write_text(whole[:40])
    (folder / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.0}\n{"step": 2, "train/l')
    found = read(folder)
    assert (found.state, found.why) == ("unfinished", "result.json is torn, at step 1")
    (folder / "metrics.jsonl").unlink()
    assert read(folder).why == "result.json is torn, before its first step"
    (folder / "result.json").write_text(whole)
    (folder / "config.yaml").write_text("a: [")
    assert (read(folder).state, read(folder).why) == ("unfinished", "config.yaml cannot be read")


def test_losses_of_rows_count_only_where_they_come_to_the_result(tmp_path: Path) -> None:
    """A run that was begun again may have left those of earlier weights."""
    folder = run(tmp_path, loss=0.5)
    lines = [json.loads(text) for text in (folder / "held_out.jsonl").read_text().splitlines()]
    write(folder, "held_out.jsonl", [lines[0] | {"nll": lines[0]["nll"] + 0.01}, *lines[1:]])
    assert read(folder).held_out == {}
    write(folder, "held_out.jsonl", [*lines, *lines])  # each row twice: the same mean
    assert read(folder).held_out == {"aa": (4.0, 2.0), "bb": (6.0, 4.0), "cc": (10.0, 4.0)}


def test_runs_are_found_below_a_folder_each_once(tmp_path: Path) -> None:
    one, two = run(tmp_path / "runs" / "a"), run(tmp_path / "runs" / "b")
    (tmp_path / "runs" / ".trash").mkdir()
    run(tmp_path / "runs" / ".trash")
    shutil.copytree(one, one / "checkpoints" / "copy")  # what is inside of a run is no other run
    assert [found.folder for found in find([tmp_path / "runs", one])] == [one, two]


def test_an_older_folder_of_a_run_is_left_out_and_a_grids_own_files_are(tmp_path: Path) -> None:
    folder = run(tmp_path, r=1)
    aside = folder.with_name(f"{folder.name}~1")
    shutil.copytree(folder, aside)
    shutil.copytree(folder, tmp_path / "grids" / "r=1,2" / "copy")
    assert [found.folder for found in find([tmp_path])] == [folder]
    assert [found.folder for found in find([aside])] == [aside]


@pytest.mark.parametrize(
    ("name", "fact"),
    [("none", "none is not there"), ("file", "file is a file"), ("empty", "empty holds no run")],
)
def test_a_wrong_folder_is_named_with_a_fix(tmp_path: Path, name: str, fact: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=fact) as said:
        find([tmp_path / name])
    assert "Fix: " in str(said.value)
