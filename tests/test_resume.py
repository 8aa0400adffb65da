"""A run that was killed and started again ends with the same bits as one that nobody touched.

Each kill is SIGKILL, at an event of the process: see tests/forked.py.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sft_research.checkpoint import step_of
from sft_research.config import compose
from tests.forked import Ended, Forker, differences, rows
from tests.runs import TINY
from tests.trainers import make

COMMON = (*TINY, "backend=transformers", "tracking=none")
ACCUMULATED = ("training.per_device_train_batch_size=2", "training.gradient_accumulation_steps=4")
CASES = {
    "plain": ("training.lr_scheduler_type=constant_with_warmup", "training.warmup_steps=3"),
    "accumulated, 8 bit, dropout, seldom logged": (
        *ACCUMULATED,
        "optimizer=adamw_8bit",
        "lora.dropout=0.1",
        "training.logging_steps=4",
    ),
    "packed, two epochs": ("packing=bfd", "model.max_length=256", "training.num_train_epochs=2"),
    "packed, accumulated": (
        *("packing=bfd", "model.max_length=128", "training.per_device_train_batch_size=1"),
        *("training.gradient_accumulation_steps=4", "lora.dropout=0.1"),
    ),
    "bfloat16, whose scores need training's autocast past the last step too": (
        "model.dtype=bfloat16",
        "training.eval_strategy=no",  # so that they are measured after it
    ),
    "grouped, evaluated and logged an epoch": (
        *("packing=grouped", "training.num_train_epochs=2", "training.save_steps=2"),
        *("+training.logging_strategy=epoch", "training.eval_strategy=epoch"),
    ),
}
Untouched = Callable[..., tuple[Path, Ended]]


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case == "plain" else pytest.mark.long) for case in CASES]
)
def test_a_killed_run_ends_as_one_that_nobody_touched(
    case: str, forker: Forker, untouched: Untouched, tmp_path: Path
) -> None:
    overrides = (*COMMON, *CASES[case])
    whole, ended = untouched(*overrides)
    chosen = random.Random(case)
    # At most half of the run is behind it before each of the first two.
    for stage, share in (("training", 0.5), ("saving", 0.5), ("evaluating", 0.1), ("finishing", 1)):
        at = chosen.randint(1, max(int(share * ended.stages.count(stage)), 1))
        assert forker.run(overrides, tmp_path, stage=stage, at=at).killed, (stage, at)
    assert forker.run(overrides, tmp_path).status == 0, (tmp_path / "said").read_text()
    assert differences(whole, tmp_path / compose(overrides).folder) == []


@pytest.mark.long
@pytest.mark.parametrize("step", [6, 8])
def test_the_second_epoch_has_its_order_again(
    step: int, forker: Forker, untouched: Untouched, tmp_path: Path
) -> None:
    """From its very beginning, after six steps, and from within."""
    # The sampler draws from the random state of the epoch's beginning, which the first epoch's dropout decides.
    kept = (
        "packing=grouped",
        "lora.dropout=0.1",
        "training.num_train_epochs=2",
        "training.save_steps=2",
        "training.save_total_limit=10",
    )
    overrides = (*COMMON, *CASES["plain"], *kept)
    whole, _ = untouched(*overrides)
    folder = tmp_path / compose(overrides).folder
    shutil.copytree(whole, folder)
    (folder / "result.json").unlink()
    for place in (folder / "checkpoints").glob("checkpoint-*"):
        if step_of(place) > step:
            shutil.rmtree(place)
    assert forker.run(overrides, tmp_path).status == 0
    assert f"Goes on from step {step}." in (tmp_path / "said").read_text()
    assert differences(whole, folder) == []


def test_two_runs_of_one_config_are_bit_identical(
    forker: Forker, untouched: Untouched, tmp_path: Path
) -> None:
    overrides = (*COMMON, *CASES["plain"])
    assert forker.run(overrides, tmp_path).status == 0
    assert differences(untouched(*overrides)[0], tmp_path / compose(overrides).folder) == []


def test_what_was_logged_has_no_step_twice_and_no_torn_line(
    forker: Forker, untouched: Untouched, tmp_path: Path
) -> None:
    """Killed in the last save: it goes on from the checkpoint before, past lines that are there already."""
    overrides = (*COMMON, *CASES["plain"])
    whole, _ = untouched(*overrides)
    assert forker.run(overrides, tmp_path, stage="saving", at=55).killed  # the third one, before it is whole
    folder = tmp_path / compose(overrides).folder
    file = folder / "metrics.jsonl"
    assert [row["step"] for row in rows(folder) if "train/loss" in row] == [1, 2, 3, 4, 5, 6]
    file.write_text(file.read_text()[:-9])  # as a power cut leaves it
    again = forker.run(overrides, tmp_path)
    assert (again.status, "training" in again.stages) == (0, True)
    assert rows(folder) == rows(whole)
    assert [row["step"] for row in rows(folder) if "train/loss" in row] == [1, 2, 3, 4, 5, 6]


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    forker: Forker, untouched: Untouched, tmp_path: Path
) -> None:
    overrides = (*COMMON, *CASES["plain"])
    whole, _ = untouched(*overrides)
    assert forker.run(overrides, tmp_path, stage="finishing", at=1).killed
    folder = tmp_path / compose(overrides).folder
    newest = folder / "checkpoints" / "checkpoint-6"
    weights = newest / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    again = forker.run(overrides, tmp_path)
    assert again.status == 0
    said = (tmp_path / "said").read_text()
    assert (
        f"{newest.relative_to(tmp_path)} is damaged, and passed over: adapter_model.safetensors has another content."
        in said
    )
    assert "Goes on from step 4. Steps 5 to 6 are made again." in said
    assert differences(whole, folder) == []


def test_scores_before_training_that_are_measured_again_leave_the_held_out_losses_alone(
    forker: Forker, untouched: Untouched, tmp_path: Path
) -> None:
    """Killed when all is trained and evaluated, so that nothing writes them once more."""
    overrides = (*COMMON, *CASES["plain"])
    whole, _ = untouched(*overrides)
    assert forker.run(overrides, tmp_path, stage="finishing", at=1).killed
    folder = tmp_path / compose(overrides).folder
    scores = folder / "checkpoints" / "before" / "scores.json"
    scores.write_text(scores.read_text()[:-9])
    assert forker.run(overrides, tmp_path).status == 0
    assert differences(whole, folder) == []


def test_a_full_disk_loses_nothing(forker: Forker, untouched: Untouched, tmp_path: Path) -> None:
    """No file may grow past 100 kB: the first checkpoint's optimizer does not fit."""
    overrides = (*COMMON, *CASES["plain"])
    starved = forker.run(overrides, tmp_path, limit=100_000)
    folder = tmp_path / compose(overrides).folder
    assert starved.status == 1
    assert not (folder / "result.json").exists()
    assert list((folder / "checkpoints").glob("**/checkpoint-*")) == []
    assert forker.run(overrides, tmp_path).status == 0
    assert differences(untouched(*overrides)[0], folder) == []


@pytest.mark.long
def test_the_best_checkpoint_is_found_again(forker: Forker, untouched: Untouched, tmp_path: Path) -> None:
    overrides = (
        *COMMON,
        "+training.load_best_model_at_end=true",
        "+training.greater_is_better=true",  # the worst, here the first, since it only falls
    )
    whole, _ = untouched(*overrides)
    for stage, at in (("saving", 30), ("finishing", 5)):
        assert forker.run(overrides, tmp_path, stage=stage, at=at).killed
    assert forker.run(overrides, tmp_path).status == 0, (tmp_path / "said").read_text()
    folder = tmp_path / compose(overrides).folder
    assert differences(whole, folder) == []
    first = next(row["eval/loss"] for row in rows(folder) if row["step"] == 2 and "eval/loss" in row)
    after = json.loads((folder / "result.json").read_text())["after"]["loss"]
    assert after == pytest.approx(first, rel=1e-6)


@pytest.mark.parametrize(
    ("step", "best", "said", "found"),
    [
        (4, 2, "/elsewhere/checkpoint-2", "checkpoint-2"),  # the folder was moved
        (
            4,
            3,
            "/elsewhere/checkpoint-2",
            "checkpoint-2",
        ),  # step 3 was the best, and is no multiple of save_steps
        (4, 4, "/elsewhere/checkpoint-2", "checkpoint-4"),  # being saved
        (4, 3, None, None),
    ],
)
def test_the_best_checkpoint_is_one_of_this_folder(
    step: int, best: int, said: str | None, found: str | None, tmp_path: Path
) -> None:
    trainer = make(tmp_path)
    (tmp_path / "checkpoint-2").mkdir()
    trainer.state.global_step, trainer.state.best_global_step = step, best
    trainer.state.best_model_checkpoint = said
    trainer._find_best()
    assert trainer.state.best_model_checkpoint == (str(tmp_path / found) if found else None)


def test_a_run_that_failed_before_a_checkpoint_is_kept_aside(forker: Forker, tmp_path: Path) -> None:
    overrides = (*COMMON, *CASES["plain"])
    folder = tmp_path / compose(overrides).folder
    assert forker.run(overrides, tmp_path, limit=100_000).status == 1
    failure = json.loads((folder / "failure.json").read_text())
    assert (failure["status"], failure["step"]) == ("failed", 2)  # its checkpoint did not fit
    assert forker.run(overrides, tmp_path).status == 0
    assert json.loads((folder.with_name(f"{folder.name}~1") / "failure.json").read_text()) == failure
    assert not (folder / "failure.json").exists()
