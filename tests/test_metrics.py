"""metrics.jsonl: one line a log, keyed by step and by loss tokens."""

from __future__ import annotations

from collections.abc import Callable

import pytest

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


@pytest.mark.parametrize("logging", ["training.logging_steps=4", "+training.logging_strategy=no"])
def test_the_first_and_last_loss_are_of_one_step_however_seldom_one_is_logged(
    logging: str, trained: Callable[..., Done]
) -> None:
    steps = trained("tracking=none").series("train/loss")
    run = trained("tracking=none", logging)
    assert run.series("train/loss") == ([pytest.approx(sum(steps[:4]) / 4)] if "=4" in logging else [])
    assert run.result["loss_first"] == pytest.approx(steps[0])
    assert run.result["loss_last"] == pytest.approx(steps[-1])


def test_the_loss_of_a_step_is_that_of_all_its_batches(trained: Callable[..., Done]) -> None:
    parts = ("training.per_device_train_batch_size=2", "training.gradient_accumulation_steps=4")
    run = trained("tracking=none", *parts)
    steps = run.series("train/loss")
    assert (run.result["loss_first"], run.result["loss_last"]) == (
        pytest.approx(steps[0]),
        pytest.approx(steps[-1]),
    )


def test_what_is_reported_after_training_is_of_the_weights_that_are_kept(
    trained: Callable[..., Done],
) -> None:
    run = trained(
        "tracking=none",
        "+training.load_best_model_at_end=true",
        "+training.greater_is_better=true",  # the worst, here the first, since it only falls
    )
    _, first, *_, last, after = run.series("eval/loss")
    assert last < first - 0.1
    assert after == run.result["after"]["loss"] == pytest.approx(first, rel=1e-6)
