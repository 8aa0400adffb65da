"""A run that pauses is measured there, goes on when it is asked again, and ends as one that never paused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sft_research.config import compose
from sft_research.pausing import Noted, Pause, Paused, pauses
from sft_research.recording import recording
from tests.command_line import train as guarded
from tests.forked import Ended, Forker, differences, rows
from tests.runs import TINY

# 6 steps of 8 rows; held-out losses after steps 3 and 6, and no checkpoint unless one is asked for.
OVERRIDES = (
    *TINY,
    "backend=transformers",
    "tracking=none",
    "lora.dropout=0.1",
    "training.eval_steps=3",
    "training.save_strategy=no",
)
FOLDER = compose(OVERRIDES).folder
Untouched = Callable[..., tuple[Path, Ended]]


def tokens_after(folder: Path) -> list[int]:
    """Loss tokens seen after each step."""
    return [int(row["loss_tokens"]) for row in rows(folder) if "train/loss" in row]


def test_a_run_that_paused_twice_ends_as_one_that_did_not(
    forker: Forker, untouched: Untouched, tmp_path: Path
) -> None:
    whole, _ = untouched(*OVERRIDES)
    tokens, folder = tokens_after(whole), tmp_path / FOLDER
    for at in (tokens[0] + 1, 0.5):
        ended = forker.run((*OVERRIDES, f"pause_at={at}"), tmp_path)
        assert (ended.status, (folder / "result.json").exists()) == (0, False)
        assert json.loads((folder / "state.json").read_text())["state"] == "paused"
        assert not (folder / "failure.json").exists()
    first, second = pauses(folder)
    assert (first.at, first.step, first.loss_tokens) == (tokens[0] + 1, 2, tokens[1])
    assert (second.at, second.step, second.loss_tokens) == (0.5, 3, tokens[2])
    at_three = next(row["eval/loss"] for row in rows(whole) if row["step"] == 3 and "eval/loss" in row)
    assert second.loss == at_three  # that of the whole run there, bit by bit
    assert first.loss is not None
    assert first.loss != second.loss
    assert forker.run(OVERRIDES, tmp_path).status == 0, (tmp_path / "said").read_text()
    assert differences(whole, folder) == []


def test_a_run_killed_once_it_has_saved_is_measured_at_the_same_step(
    forker: Forker, untouched: Untouched, tmp_path: Path
) -> None:
    tokens = tokens_after(untouched(*OVERRIDES)[0])
    asked, folder = (*OVERRIDES, f"pause_at={tokens[1]}"), tmp_path / FOLDER
    # Batches of 16 rows: the held-out loss before training is one event, and its answers are some.
    before = untouched(*OVERRIDES)[1].stages
    first_step = before.index("training")
    evaluated = before[:first_step].count("evaluating")
    assert forker.run(asked, tmp_path, stage="evaluating", at=evaluated + 1).killed
    assert [place.name for place in (folder / "checkpoints").glob("checkpoint-*")] == ["checkpoint-2"]
    assert pauses(folder) == []
    again = forker.run(asked, tmp_path)
    assert "training" not in again.stages
    (noted,) = pauses(folder)
    assert (noted.step, noted.loss_tokens) == (2, tokens[1])


def test_at_its_last_step_a_run_ends(forker: Forker, untouched: Untouched, tmp_path: Path) -> None:
    whole, _ = untouched(*OVERRIDES)
    tokens = tokens_after(whole)
    assert forker.run((*OVERRIDES, f"pause_at={tokens[4] + 1}"), tmp_path).status == 0
    assert differences(whole, tmp_path / FOLDER) == []
    assert not (tmp_path / FOLDER / "pauses.json").exists()


@pytest.mark.parametrize(
    ("at", "step", "tokens", "due"),
    [
        (None, 3, 300, False),
        (1 / 3, 2, 200, False),
        (1 / 3, 3, 300, True),
        (1 / 9, 1, 100, True),
        (0.01, 1, 100, True),  # the first step is the least
        (250, 2, 200, False),
        (250, 3, 300, True),
        (300, 3, 300, True),
        (0.5, 0, 0, False),
        (0.9, 9, 900, False),  # its last
    ],
)
def test_where_a_pause_is_due(at: float | None, step: int, tokens: int, due: bool) -> None:
    trainer: Any = SimpleNamespace(
        state=SimpleNamespace(global_step=step, max_steps=9), loss_tokens=tokens, pause=None
    )
    folder: Any = None
    assert Pause(at, folder, trainer, lambda: None).due is due


def test_a_pause_says_where_the_run_rests() -> None:
    assert str(Paused(Noted(2000, 12, 2034, 1.23456))) == (
        "Paused at step 12, after 2,034 loss tokens: held-out loss 1.2346. "
        "The same command with a later pause_at, or none, goes on from there."
    )


def test_a_run_that_rests_already_says_so_at_once_with_status_0(tmp_path: Path) -> None:
    """In a process that may not import torch."""
    overrides = ["model=tiny", "tracking=none", "pause_at=2000"]
    run = compose(overrides)
    folder = tmp_path / run.folder
    folder.mkdir(parents=True)
    (folder / "identity.json").write_text(json.dumps({"id": run.id}))
    (folder / "pauses.json").write_text('[{"at": 2000, "step": 12, "loss_tokens": 2034, "loss": 1.5}]')
    done = guarded(overrides, tmp_path)
    assert (done.returncode, done.stderr) == (0, f"{Paused(Noted(2000, 12, 2034, 1.5))}\n")


@pytest.mark.parametrize("torn", ["", "[{", "[3]", '[{"at": 1}]'])
def test_a_torn_note_is_none(torn: str, tmp_path: Path) -> None:
    (tmp_path / "pauses.json").write_text(torn)
    assert pauses(tmp_path) == []


class Heard:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def start(self, about: Any) -> None: ...

    def log(self, values: dict[str, float], step: int) -> None:
        self.told.append(step)

    def where(self) -> str:
        return ""

    def finish(self, exit_code: int) -> None:
        self.told.append(f"finished with {exit_code}")


def test_a_tracker_of_a_run_that_pauses_has_not_failed_and_gets_its_last_step_later() -> None:
    tracker: Any = Heard()
    about: Any = None
    with pytest.raises(Paused), recording(tracker, about) as steps:  # noqa: PT012
        steps.log({"train/loss": 2.0}, 1)
        steps.log({"train/loss": 1.0}, 2)
        raise Paused(Noted(0.5, 2, 200, 1.0))
    assert tracker.told == [1, "finished with 0"]
