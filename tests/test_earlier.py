"""What an earlier process left is gone on with, or kept aside and said to be."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from sft_research.checkpoint import writing
from sft_research.config import Run, compose
from sft_research.earlier import take_up


def run_in(place: Path, *overrides: str) -> Run:
    return compose([f"runs_dir={place}", *overrides])


def begin(run: Run) -> Path:
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    assert take_up(run).goes_on is False
    return run.folder


def save(folder: Path, *steps: int) -> None:
    """Checkpoints of these steps, and lines of metrics.jsonl up to each."""
    for step in steps:
        with writing(folder / "checkpoints" / f"checkpoint-{step}") as beside:
            (beside / "metrics.jsonl").write_text(log(step))
            (beside / "optimizer.pt").write_bytes(b"state")


def log(last: int) -> str:
    return "".join(f'{{"step": {step}}}\n' for step in range(1, last + 1))


def names(place: Path) -> list[str]:
    return sorted(folder.name for folder in (place / "default").iterdir())


@pytest.mark.parametrize(
    ("last", "said"),
    [(4, "Goes on from step 4."), (7, "Goes on from step 4. Steps 5 to 7 are made again.")],
)
def test_it_says_from_where_it_goes_on_and_what_is_made_again(
    last: int, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_in(tmp_path)
    folder = begin(run)
    save(folder, 2, 4)
    (folder / "metrics.jsonl").write_text(log(last) + '{"st')  # torn
    with caplog.at_level(logging.INFO):
        found = take_up(run)
    assert (found.goes_on, found.checkpoint) == (True, folder / "checkpoints" / "checkpoint-4")
    assert caplog.messages == [said]
    assert (folder / "metrics.jsonl").read_text() == log(4)


def test_where_no_checkpoint_is_whole_it_starts_over_and_keeps_all_that_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_in(tmp_path)
    folder = begin(run)
    save(folder, 2)
    (folder / "metrics.jsonl").write_text(log(3))
    (folder / "checkpoints" / "checkpoint-2" / "optimizer.pt").write_bytes(b"sta")
    with caplog.at_level(logging.INFO):
        assert take_up(run).goes_on is False
    assert caplog.messages == [
        f"{folder}/checkpoints/checkpoint-2 is damaged, and passed over: optimizer.pt has 3 bytes, not 5.",
        f"No checkpoint of it is whole: this run starts over. The older folder is kept as {folder}~1",
    ]
    assert names(tmp_path) == ["default", "default~1"]
    assert (tmp_path / "default" / "default~1" / "metrics.jsonl").read_text() == log(3)


def test_a_rerun_that_was_killed_goes_on_and_a_run_that_was_not_one_starts_over(tmp_path: Path) -> None:
    """A scheduler gives the same command again, with rerun=true in it."""
    save(begin(run_in(tmp_path)), 2)
    rerun = run_in(tmp_path, "rerun=true")
    assert take_up(rerun).goes_on is False
    assert names(tmp_path) == ["default", "default~1"]
    save(rerun.folder, 4)
    found = take_up(rerun)
    assert (found.goes_on, found.checkpoint) == (True, rerun.folder / "checkpoints" / "checkpoint-4")
    assert take_up(run_in(tmp_path)).goes_on is True
    (rerun.folder / "result.json").write_text("{}")
    assert take_up(rerun).goes_on is False  # it was finished, and is asked for again
    assert names(tmp_path) == ["default", "default~1", "default~2"]


def test_a_rerun_that_failed_starts_over_as_its_error_advises(tmp_path: Path) -> None:
    run = run_in(tmp_path, "rerun=true")
    folder = begin(run)
    save(folder, 2)
    (folder / "failure.json").write_text('{"status": "failed"}')
    assert take_up(run).goes_on is False
    assert names(tmp_path) == ["default", "default~1"]


def test_changed_data_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n')
    overrides = ("dataset=file", f"dataset.path={rows}", "dataset_format=prompt_completion")
    folder = begin(run_in(tmp_path, *overrides))
    rows.write_text('{"prompt": "a", "completion": "c"}\n')
    with caplog.at_level(logging.INFO):
        assert take_up(run_in(tmp_path, *overrides)).goes_on is False
    assert caplog.messages == [
        f"dataset.path has changed since: this run starts over. The older folder is kept as {folder}~1"
    ]


def test_a_run_that_was_refused_leaves_no_folder_aside(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    folder = begin(run)
    refusal = {"status": "failed", "error": "ConfigError", "message": "dataset.held_out=8 is not a share"}
    (folder / "failure.json").write_text(json.dumps(refusal))
    assert take_up(run).goes_on is False
    assert names(tmp_path) == ["default"]
    assert not (folder / "failure.json").exists()
    (folder / "failure.json").write_text(json.dumps(refusal))
    (folder / "metrics.jsonl").write_text(log(1))  # it had begun
    assert take_up(run).goes_on is False
    assert names(tmp_path) == ["default", "default~1"]
