"""A run that fails says what, at which step, why, and what to try: each made to fail for real."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sft_research.causes import cause_of, moment_of
from sft_research.config import compose
from sft_research.failure import describe, locate, screen
from sft_research.record import Folder
from tests.failing import DROP, FAILING
from tests.runs import TINY, Done, train

SHORT = [*TINY, "backend=transformers", "tracking=none", "evaluation.questions=0", "preflight=off"]


def failing(kind: str, place: Path, *overrides: str) -> Done:
    """A run that has trained one step when its machine fails."""
    (place / "failing.py").write_text(FAILING)
    own = ["optimizer=sgd", f"optimizer._target_=failing.{kind}", "training.eval_strategy=no"]
    done = train([*SHORT, *own, *overrides], place, fresh=True)
    assert done.status == 1, done.out + done.err
    assert not (done.folder / "result.json").exists()
    assert "Traceback" not in done.err
    return done


def failure(done: Done) -> dict[str, Any]:
    return json.loads((done.folder / "failure.json").read_text())


# For real ------------------------------------------------------------------------------------------


def test_a_full_disk_is_said_where_nothing_more_can_be_written(tmp_path: Path) -> None:
    done = failing("Full", tmp_path, "training.save_strategy=no")
    assert "  what      file too large at step 2\n" in done.err
    assert (
        ": a file may have 0 bytes here (ulimit -f)\n  try       ulimit -f unlimited  in the shell,"
        in done.err
    )
    assert "Neither failure.json nor a traceback could be written: " in done.err
    assert not (done.folder / "failure.json").exists()
    assert not list(done.folder.glob(".*.tmp"))


def test_a_disk_that_is_full_for_one_file_leaves_failure_json(tmp_path: Path) -> None:
    done = failing("FullFile", tmp_path, "training.save_strategy=steps", "training.save_steps=1")
    found = failure(done)
    assert (found["status"], found["error"], found["step"]) == ("failed", "OSError", 2)
    assert found["cause"]["kind"] == "disk full"
    assert found["cause"]["fixes"][0] == ["the same command", "with some room made: goes on from step 1"]
    assert "could not be written: No space left on device. " in found["cause"]["likely"]
    assert [fix for fix, _ in found["cause"]["fixes"]] == ["the same command", "runs_dir=FOLDER"]
    assert done.err.endswith(f"The traceback is in {done.folder.relative_to(tmp_path)}/train.log\n")


def test_a_folder_that_is_cleared_during_the_run_is_said(tmp_path: Path) -> None:
    cause = failure(failing("Gone", tmp_path))["cause"]
    assert cause["kind"] == "a file is gone"
    assert cause["likely"].endswith("metrics.jsonl is not there; something else clears this run's folder")


def test_out_of_memory_says_what_was_used_and_what_each_override_saves(tmp_path: Path) -> None:
    done = failing("OutOfMemory", tmp_path, "dataset=arithmetic", "model.max_length=256")
    found = failure(done)
    assert found["cause"]["kind"] == "out of memory"
    assert found["step"] == 2
    rows, tokens = found["batch"]
    assert rows == 8
    assert f"  what      out of memory at step 2, in a batch of 8 x {tokens} tokens\n" in done.err
    fixes = dict(found["cause"]["fixes"])
    assert list(fixes) == [
        "training.per_device_train_batch_size=4 training.gradient_accumulation_steps=2",
        "training.on_oom=halve",
        "backend.gradient_checkpointing=true",
        "model.load_in_4bit=true",
        f"model.max_length={tokens // 2}",
    ]
    assert fixes["training.on_oom=halve"] == "halves the batch when it does not fit, and goes on"
    assert found["cause"]["likely"].endswith("GiB that this process may have")


def without_rights(arguments: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command as any user starts it, where the tests are run by root."""
    return subprocess.run([sys.executable, "-c", DROP, *arguments], cwd=cwd, capture_output=True, text=True)


def test_a_place_where_one_may_not_write_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o555)
    done = without_rights([*SHORT, "runs_dir=theirs"], tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "The run's folder theirs/default/" + compose([*SHORT, "runs_dir=theirs"]).name + " cannot be made: "
        "Permission denied: theirs/default. Fix: runs_dir=FOLDER, where you may write\n"
    )


def test_rows_that_one_may_not_read_are_said(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "a", "response": "b"}\n' * 9)
    rows.chmod(0)
    own = [o for o in SHORT if not o.startswith("dataset.")]
    data = ["dataset=file", "dataset.path=rows.jsonl", "dataset.held_out=0", "training.eval_strategy=no"]
    done = without_rights([*own, *data, "dataset_format=instruction"], tmp_path)
    assert done.returncode == 1, done.stderr
    assert (
        f"  what      no permission\n  cause     Permission denied: rows.jsonl (this is user {os.getuid()})\n"
        in (done.stderr.replace(f"{tmp_path}/", ""))
    )
    assert "  try       dataset.path=PATH  one that may be read\n" in done.stderr


def test_rows_that_vanish_after_the_check_are_said(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "response": "b"}\n' * 9)
    # The first heavy import comes after the check and before the rows are read.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def vanish(event, args):\n"
        "    if event == 'import' and args[0] == 'torch' and os.path.exists('rows.jsonl'):\n"
        "        os.rename('rows.jsonl', 'moved.jsonl')\n"
        "sys.addaudithook(vanish)\n"
    )
    own = [o for o in SHORT if not o.startswith("dataset.")]
    data = ["dataset=file", "dataset.path=rows.jsonl", "dataset.held_out=0", "training.eval_strategy=no"]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = train([*own, *data, "dataset_format=instruction"], tmp_path, PYTHONPATH=path)
    assert done.status == 2, done.out + done.err
    assert (
        done.err
        == "dataset.path=rows.jsonl names no file, and no folder of save_to_disk. Fix: dataset.path=FILE\n"
    )
    assert (done.folder / "failure.json").is_file()


# Told apart ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk full"),
        (
            RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "disk full",
        ),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), "disk full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "no permission"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "no permission"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/x"), "a file is gone"),
        (MemoryError(), "out of memory"),
        (ValueError("... set the option `trust_remote_code=True` ..."), "code in a checkpoint"),
        (RuntimeError("the third drawer is stuck"), None),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), None),
    ],
)
def test_each_kind_is_known_by_its_error_and_behind_another(
    error: Exception, kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sft_research.savings.savings", lambda *_: [])
    run = compose(["model=tiny"])
    wrapped = RuntimeError("a library's own words")
    wrapped.__cause__ = error
    for each in (error, wrapped):
        found = cause_of(each, run)
        assert (found.kind if found else None) == kind


def test_a_limit_on_one_file_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (102_400, -1))
    found = cause_of(OSError(errno.EFBIG, "File too large", "optimizer.pt"), compose(["model=tiny"]))
    assert found
    assert (found.kind, found.likely) == (
        "file too large",
        "optimizer.pt could not be written: a file may have 102,400 bytes here (ulimit -f)",
    )
    assert found.fixes == [("ulimit -f unlimited", "in the shell, then the same command")]


def test_an_error_carries_the_step_it_was_raised_in() -> None:
    def fail() -> None:
        with locate(lambda: (7, [])):
            raise RuntimeError("the third drawer is stuck")

    with pytest.raises(RuntimeError) as raised:
        fail()
    moment = moment_of(raised.value)
    assert moment is not None
    assert (moment.step, moment.batch) == (7, None)
    assert screen(describe(raised.value, compose(["model=tiny"]))) == "  what      RuntimeError at step 7"


def test_a_diagnosis_that_fails_hides_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise MemoryError("no room to think")

    monkeypatch.setattr("sft_research.failure.describe", broken)
    folder = Folder(compose([*SHORT, f"runs_dir={tmp_path}"]))
    with pytest.raises(RuntimeError, match="the third drawer is stuck"), folder.open():
        raise RuntimeError("the third drawer is stuck")
    found = json.loads((folder / "failure.json").read_text())
    assert (found["status"], found["message"], found["cause"]) == (
        "failed",
        "the third drawer is stuck",
        None,
    )
    assert "The cause is not known: MemoryError: no room to think" in (folder / "train.log").read_text()


@pytest.mark.parametrize(("noted", "goes_on"), [("0123456789ab", True), ("/../../home", False)])
def test_a_folder_goes_on_only_under_an_id_that_is_no_path(noted: str, goes_on: bool, tmp_path: Path) -> None:
    folder = Folder(compose([*SHORT, f"runs_dir={tmp_path}"]))
    folder.path.mkdir(parents=True)
    folder.write_json("identity.json", folder.run.identity | {"tracker_id": noted})
    with folder.open():
        assert (folder.goes_on, folder.tracker_id == noted) == (goes_on, goes_on)
