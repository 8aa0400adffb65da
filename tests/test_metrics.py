"""metrics.jsonl: one line a log, keyed by step and by loss tokens."""

from __future__ import annotations

from collections.abc import Callable

from tests.runs import Done


def test_loss_tokens_only_grow_and_end_at_the_total(trained: Callable[..., Done]) -> None:
    run = trained("tracking=none")
    counts = [row["loss_tokens"] for row in run.metrics]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[-1] == run.result["loss_tokens"]


def test_the_held_out_loss_of_a_step_is_written_once(trained: Callable[..., Done]) -> None:
    steps = [row["step"] for row in trained("tracking=none").metrics if "eval/loss" in row]
    assert steps == [0, 2, 4, 6]  # before training, then every quarter of six steps, rounded up


def test_the_scale_of_lora_is_logged(trained: Callable[..., Done]) -> None:
    run = trained("tracking=none", "lora.alpha=2r", "training.max_steps=2", "training.eval_strategy=no")
    assert run.series("lora/scale") == [2.0, 2.0]
