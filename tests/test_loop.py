"""A signal is answered at the next safe point: a checkpoint is saved, and the same command goes on from it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sft_research.config import compose
from tests.forked import Ended, Forker, differences
from tests.runs import TINY

# Four batches a step; held-out losses after steps 3 and 6; no checkpoint unless it is asked for.
OVERRIDES = (
    *TINY,
    "backend=transformers",
    "tracking=none",
    "lora.dropout=0.1",
    "training.per_device_train_batch_size=2",
    "training.gradient_accumulation_steps=4",
    "training.eval_steps=3",
    "training.save_strategy=no",
)
FOLDER = compose(OVERRIDES).folder
Untouched = Callable[..., tuple[Path, Ended]]


@pytest.mark.parametrize(
    ("stage", "at", "number", "step"),
    [
        ("evaluating", 3, signal.SIGTERM, None),  # a token of an answer before training
        ("training", 2, signal.SIGUSR1, None),  # a batch of step 1
        ("training", 10, signal.SIGTERM, 2),  # a batch of step 3
        ("evaluating", 12, signal.SIGUSR1, 3),  # the held-out loss after step 3
        ("evaluating", 15, signal.SIGINT, 6),  # an answer after training
    ],
)
def test_a_stopped_run_saves_says_so_and_goes_on_to_the_same_end(
    stage: str,
    at: int,
    number: signal.Signals,
    step: int | None,
    forker: Forker,
    untouched: Untouched,
    tmp_path: Path,
) -> None:
    whole, _ = untouched(*OVERRIDES)
    stopped = forker.run(OVERRIDES, tmp_path, signal=int(number), stage=stage, at=at)
    assert stopped.status == 128 + number
    failure = json.loads((tmp_path / FOLDER / "failure.json").read_text())
    assert (failure["status"], failure["error"], failure["step"]) == ("interrupted", "Stopped", step)
    saved = [place.name for place in (tmp_path / FOLDER / "checkpoints").glob("checkpoint-*")]
    assert saved == ([] if step is None else [f"checkpoint-{step}"])
    again = forker.run(OVERRIDES, tmp_path)
    assert again.status == 0
    assert ("Goes on from" in (tmp_path / "said").read_text()) == (step is not None)
    assert differences(whole, tmp_path / FOLDER) == []
