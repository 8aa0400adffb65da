"""A folder that is whole, or is no result."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

import pytest

from sft_research import checkpoint, stopping
from sft_research.answers import Answer
from sft_research.config import ConfigError, compose
from sft_research.evaluate import Judged, Scores
from sft_research.record import Folder
from sft_research.result import Result
from sft_research.stopping import Stopped
from tests.runs import TINY, Done, train

SECRET = "hf_thisIsASecretOfTests"


def folder_of(runs_dir: Path, *overrides: str) -> Folder:
    return Folder(compose([f"runs_dir={runs_dir}", *overrides]))


def write_result(folder: Folder) -> None:
    """A result of this run in all but its numbers."""
    scores = asdict(Scores(2.5, 0, None, None))
    names = dict.fromkeys(field.name for field in fields(Result))
    folder.write_json("result.json", names | {"id": folder.run.id, "before": scores, "after": scores})


def test_json_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path)
    with folder.open():
        folder.write_json("result.json", {"loss": 1.0})

        def no_rename(*_: object) -> None:
            raise OSError("disk full")

        monkeypatch.setattr(os, "replace", no_rename)
        with pytest.raises(OSError, match="disk full"):
            folder.write_json("result.json", {"loss": 2.0})
        monkeypatch.undo()
    assert json.loads((folder / "result.json").read_text()) == {"loss": 1.0}


def test_a_note_waits_for_no_disk_and_a_result_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note is made every second, within a training step."""
    folder = folder_of(tmp_path)
    folder.path.mkdir(parents=True)
    waited = []
    monkeypatch.setattr(os, "fsync", waited.append)
    folder.note("training", step=3)
    assert (waited, json.loads((folder / "state.json").read_text())["step"]) == ([], 3)
    folder.write_json("result.json", {})
    assert len(waited) == 1


def finish(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a run, without what it takes from its trainer."""
    scores = Scores(2.5, 0, None, None)
    names: Any = dict.fromkeys(field.name for field in fields(Result)) | {"before": scores, "after": scores}
    monkeypatch.setattr("sft_research.record.result.result_of", lambda *_: Result(**names))
    monkeypatch.setattr("sft_research.record.draw", lambda *_, **__: None)
    monkeypatch.setattr("sft_research.record.card", lambda _: "")
    nothing = cast(Any, None)
    folder.finish(nothing, nothing, scores, scores, "", 1.0)


def test_a_signal_after_the_result_leaves_a_finished_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path)
    with stopping.listening(), folder.open():
        with stopping.at_safe_points():
            finish(folder, monkeypatch)
        os.kill(os.getpid(), signal.SIGTERM)
    assert not (folder / "failure.json").exists()
    assert json.loads((folder / "state.json").read_text())["state"] == "finished"


def test_the_disk_has_all_files_of_a_run_before_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path)
    folder.path.mkdir(parents=True)
    (folder / "samples.jsonl").write_text("{}\n")
    kept: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda file: kept.append(Path(os.readlink(f"/proc/self/fd/{file}")).name)
    )
    finish(folder, monkeypatch)
    assert sorted(kept[:3]) == ["README.md", "default", "samples.jsonl"]
    assert kept[3:] == [".result.json.tmp"]


def test_a_folder_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "seed=3")
    (tmp_path / "default").mkdir()
    with (tmp_path / "default" / ".seed=3.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match=r"is being written by another process"), folder.open():
            pass
    assert not folder.path.exists()


def test_a_result_of_another_configuration_is_not_ours(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    folder.path.mkdir(parents=True)
    (folder / "result.json").write_text('{"id": "of an older conf/"}')
    assert folder.finished() is None


def test_interrupted_and_failed_are_told_apart(tmp_path: Path) -> None:
    for error, status in ((KeyboardInterrupt(), "interrupted"), (ValueError("no"), "failed")):
        folder = folder_of(tmp_path)
        with pytest.raises(type(error)), folder.open():
            raise error
        assert json.loads((folder / "failure.json").read_text())["status"] == status


def test_each_process_of_a_run_has_its_environment_listed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    with folder.open():
        for torch in ("2.11", "2.12", "2.13"):
            folder.describe({"torch": torch})
    assert json.loads((folder / "environment.json").read_text()) == {
        "torch": "2.13",
        "earlier": [{"torch": "2.11"}, {"torch": "2.12"}],
    }


def test_an_interrupted_folder_is_gone_on_with_and_a_failed_one_kept_aside(tmp_path: Path) -> None:
    """Neither has a checkpoint."""
    for error, kept in ((KeyboardInterrupt(), []), (ValueError("no"), ["default~1"])):
        with pytest.raises(type(error)), folder_of(tmp_path).open():
            raise error
        again = folder_of(tmp_path)
        with again.open():
            assert again.goes_on is not bool(kept)
        assert [place.name for place in (tmp_path / "default").glob("default?*")] == kept


def test_no_folder_that_is_kept_aside_has_the_name_of_a_run(tmp_path: Path) -> None:
    """`lora.dropout=0.1` would be a folder of `lora.dropout=0` in which numbers follow a dot."""
    for numbers in ("lora.dropout=0", "lora.dropout=0.1"):
        with folder_of(tmp_path, numbers).open():
            pass
    with folder_of(tmp_path, "lora.dropout=0", "rerun=true").open():
        pass
    kept = {place.name for place in (tmp_path / "default").iterdir() if place.is_dir()}
    assert kept == {"lora.dropout=0", "lora.dropout=0.1", "lora.dropout=0~1"}


def test_a_run_that_another_process_finishes_meanwhile_is_not_made_again(tmp_path: Path) -> None:
    """Between the look for a result and the lock."""
    folder = folder_of(tmp_path)
    assert folder.finished() is None
    with folder_of(tmp_path).open() as found:
        assert found is None
        write_result(folder)
    with folder.open() as found:
        assert found == folder.finished()
        assert found is not None
    with folder_of(tmp_path, "rerun=true").open() as found:
        assert found is None
    assert (tmp_path / "default" / "default~1" / "result.json").is_file()


def test_a_folder_whose_result_cannot_be_read_is_kept_aside(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    with folder.open():
        (folder / "result.json").write_text('{"id": ')  # half of it, as no run of ours leaves it
    with folder_of(tmp_path).open():
        assert not (folder / "result.json").exists()
    assert (tmp_path / "default" / "default~1" / "result.json").read_text() == '{"id": '


def test_stopped_while_it_loads_a_run_says_from_where_it_goes_on(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="SIGTERM before its first checkpoint"), folder_of(tmp_path).open():
        raise Stopped(15)
    saved = folder_of(tmp_path) / "checkpoints" / "checkpoint-4"
    with checkpoint.writing(saved) as beside:
        (beside / "metrics.jsonl").write_text("")
    for own, step in ((None, 4), (6, 6)):
        said = f"Interrupted by SIGTERM at step {step}. The same command goes on from there."
        with pytest.raises(Stopped, match=said), folder_of(tmp_path).open():
            raise Stopped(15, own)
        assert json.loads((folder_of(tmp_path) / "failure.json").read_text())["step"] == step


def test_what_was_measured_before_training_is_not_measured_again(tmp_path: Path) -> None:
    judged = Judged(Scores(2.5, 1, None, 0.0), [Answer("1+1?", "2", "3", True)])
    folder = folder_of(tmp_path)
    with folder.open():
        assert folder.scores_before(lambda: judged) == judged
        assert folder.scores_before(lambda: pytest.fail("asked twice")) == judged
        file = folder / "checkpoints" / "before" / "scores.json"
        file.write_text(file.read_text().replace("2.5", "7.5"))  # still JSON, and not what was measured
        assert folder.scores_before(lambda: judged) == judged


def test_secrets_reach_no_file_of_a_run(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MY_DATABASE_PASSWORD=postgres-of-tests\n")
    overrides = [
        "tracking.mode=offline",
        f"tracking.tags=[{SECRET}]",
        f"dataset_format.system=a {SECRET} b postgres-of-tests",
    ]
    keys = {"HF_TOKEN": SECRET, "WANDB_API_KEY": "local-0123456789abcdef"}
    done = train([*TINY, *overrides, "training.max_steps=1"], tmp_path, **keys)
    assert done.status == 0, done.out + done.err
    said = done.out + done.err
    found = [str(file) for file in tmp_path.rglob("*") if file.is_file() and file.name != ".env"]
    assert len(found) > 12
    for secret in (SECRET, "postgres-of-tests", "local-0123456789abcdef"):
        assert not [name for name in found if secret in name or secret.encode() in Path(name).read_bytes()]
        assert secret not in said


def test_the_environment_is_recorded(trained: Callable[..., Done]) -> None:
    environment = json.loads((trained("tracking=none").folder / "environment.json").read_text())
    assert environment["packages"]["trl"] == "1.14.2"
    assert environment["command"][1:3] == ["-m", "sft_research.train"]
    assert len(environment["dataset_fingerprint"]) == 16
