"""A result is read back from its file as it was written, and agrees with the run's own lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sft_research.evaluate import Scores
from sft_research.result import read
from tests.runs import Done

FILE = """{
  "id": "0123456789ab", "experiment": "demo", "name": "seed=1", "folder": "runs/demo/seed=1",
  "command": "python -m sft_research.train experiments=demo seed=1", "model": "m", "backend": "unsloth",
  "loss_first": 2.5, "loss_last": 0.5,
  "before": {"loss": 2.25, "questions": 4, "exact_match": 0.25, "form": 0.0},
  "after": {"loss": 0.75, "questions": 4, "exact_match": null, "form": 1.0},
  "steps": 3, "rows": 24, "rows_truncated": 1, "rows_dropped": 2, "held_out_rows": 4,
  "tokens": 600, "loss_tokens": 200, "tokens_per_second": 60.0, "train_seconds": 10.0, "seconds": 12.5,
  "peak_memory_gib": 1.5, "trainable_parameters": 99, "lora_scale": null, "weights": "w", "curves": "c"
}"""


def test_scores_come_back_as_scores(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(FILE)
    result = read(tmp_path / "result.json")
    assert result.before == Scores(loss=2.25, questions=4, exact_match=0.25, form=0.0)
    assert result.after == Scores(loss=0.75, questions=4, exact_match=None, form=1.0)
    assert (result.name, result.tokens, result.lora_scale) == ("seed=1", 600, None)


def test_a_result_counts_what_the_run_saw(trained: Callable[..., Done]) -> None:
    run = trained("tracking=none")
    result, last = read(run.folder / "result.json"), run.metrics[-1]
    assert (result.rows, result.held_out_rows, result.steps) == (48, 8, 6)
    assert (result.rows_truncated, result.rows_dropped) == (0, 0)
    assert (result.tokens, result.loss_tokens) == (last["tokens"], last["loss_tokens"])
    assert result.train_seconds == pytest.approx(last["seconds"], abs=1e-3)
    assert result.tokens_per_second == pytest.approx(result.tokens / result.train_seconds)
    # Two layers; LoRA of rank 16 on (n, m) weights has 16 * (n + m): q and o are (64, 64), k and v (64, 32),
    # gate, up and down (64, 128).
    assert result.trainable_parameters == 2 * 16 * (2 * 128 + 2 * 96 + 3 * 192)
    assert result.lora_scale == 1.0
    assert result.command.startswith("python -m sft_research.train model=tiny model.dtype=float32 ")
