"""A step whose loss is no number, or far from any guess, is not taken."""

from __future__ import annotations

import json
from math import inf, log, nan
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sft_research.divergence import Diverged, Divergence, rows_of
from tests.runs import TINY, train
from tests.toys import Bigram, example

EXAMPLES = [example([1, 2], [3]), example([4], [5]), example([1, 2], [3, 6]), example([4], [5])]
PADDED = {
    "input_ids": torch.tensor([[4, 5, 0, 0], [1, 2, 3, 6]]),
    "attention_mask": torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]),
}


def test_rows_are_known_by_their_tokens() -> None:
    assert rows_of([PADDED], EXAMPLES, flat=False) == [2, 3, 4]  # 2 and 4 are one text
    flat = {"input_ids": torch.tensor([[1, 2, 3, 9, 9]]), "position_ids": torch.tensor([[0, 1, 2, 0, 1]])}
    assert rows_of([flat], EXAMPLES, flat=True) == [1]


@pytest.mark.parametrize(
    ("loss", "norm", "first", "fp16", "stops"),
    [
        (nan, 1.0, 1.0, False, True),
        (inf, 1.0, 1.0, False, True),
        (1.0, nan, 1.0, False, True),
        (1.0, inf, 1.0, True, False),  # of float16: its scaler leaves the step out
        (2.9 * log(3), 1.0, 1.0, False, False),
        (3.1 * log(3), 1.0, 1.0, False, True),
        (3.1 * log(3), 1.0, 2.0, False, False),  # it began at 2, above a guess
        (6.1, 1.0, 2.0, False, True),
    ],
)
def test_a_loss_is_compared_with_that_of_a_guess(
    loss: float, norm: float, first: float, fp16: bool, stops: bool
) -> None:
    trainer = SimpleNamespace(
        model=Bigram([[1 / 3] * 3] * 3),
        loss_first=torch.tensor(first),
        loss_last=torch.tensor(loss),
        norm=norm,
        parts={},
        in_parts=SimpleNamespace(batches=[PADDED]),
        padding_free=False,
    )
    args, state = SimpleNamespace(fp16=fp16), SimpleNamespace(global_step=6)
    watch = Divergence(trainer, EXAMPLES)
    watch.restore({"norms": [0.5, 20.0]})  # as a checkpoint has them
    try:
        watch.on_pre_optimizer_step(args, state, None)
        said = ""
    except Diverged as error:
        said = str(error)
    expected = (
        f"step 7 has loss {loss:.4g} and gradient norm {norm:.3g}. Norms before it: 0.5, 20. Training rows of the "
        "step: 2, 3, 4"
    )
    assert said == (expected if stops else "")
    assert watch.state() == {"norms": [0.5, 20.0] if stops else [0.5, 20.0, norm]}


def test_a_run_that_explodes_stops_and_keeps_its_last_good_checkpoint(tmp_path: Path) -> None:
    done = train(
        [
            *TINY,
            "tracking=none",
            "backend=transformers",
            "lora=none",
            "optimizer=sgd",
            "optimizer.lr=10",
            "training.max_grad_norm=0",
            "training.save_strategy=steps",
            "training.save_steps=1",
            "training.eval_strategy=no",
            "training.warmup_steps=0",
            "evaluation.questions=0",
        ],
        tmp_path,
    )
    assert done.status == 1, done.out + done.err
    failure = json.loads((done.folder / "failure.json").read_text())
    assert failure["error"] == "Diverged"
    step = failure["step"]
    # The step before it was taken and saved, this one was not.
    kept = sorted(path.name for path in (done.folder / "checkpoints").iterdir())
    assert f"checkpoint-{step - 1}" in kept
    assert f"checkpoint-{step}" not in kept
    assert [row["step"] for row in done.metrics if "train/loss" in row] == list(range(1, step))
    assert f"checkpoints/checkpoint-{step - 1}" in failure["cause"]["likely"]
    assert next(fix for fix, _ in failure["cause"]["fixes"]) == "optimizer.lr=1"
    assert ["training.max_grad_norm=1.0", "clip the gradient"] in failure["cause"]["fixes"]
    assert f"  what      loss diverged at step {step}\n  cause     " in done.err
    assert "  try       optimizer.lr=1 " in done.err
