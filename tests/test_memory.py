"""The parts of an estimate, each against its own arithmetic; benchmarks/memory.py compares it with real runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from sft_research.config import compose
from sft_research.footprint import measure
from sft_research.lora import FullFineTuning
from sft_research.memory import GIB, Batch, Memory, estimate, roughly
from tests.test_footprint import NUMBERS, TRAINED

OWN = ["model=tiny", "model.dtype=float32", "backend=transformers"]


@pytest.mark.parametrize(
    ("overrides", "weights", "adapters", "optimizer"),
    [
        ([], 4 * NUMBERS, 4 * TRAINED, 8 * TRAINED),
        (["optimizer=adamw_8bit"], 4 * NUMBERS, 4 * TRAINED, 2 * TRAINED),
        (["optimizer=sgd", "optimizer.momentum=0"], 4 * NUMBERS, 4 * TRAINED, 0),
        (["lora=none", "optimizer=sgd"], 4 * NUMBERS, 0, 4 * NUMBERS),
    ],
)
def test_what_is_held_follows_from_the_numbers_of_weights(
    overrides: list[str], weights: int, adapters: int, optimizer: int, tiny_folder: Path
) -> None:
    found = estimate(compose([*OWN, *overrides]).cfg, Batch(2, 32))
    trained = NUMBERS if "lora=none" in overrides else TRAINED
    assert [found.weights, found.adapters, found.optimizer, found.gradients] == pytest.approx(
        [part / GIB for part in (weights, adapters, optimizer, 4 * trained)]
    )
    assert found.logits == pytest.approx(64 * 259 * 4 * 4 / GIB)  # fewer tokens than a chunk


def test_gradients_wait_for_the_next_batch_where_batches_are_accumulated(tiny_folder: Path) -> None:
    """Else they come while the activations, which are fewer here, go."""
    cfg, config = (
        compose([*OWN, "lora=none", "dataset.held_out=0"]).cfg,
        AutoConfig.from_pretrained(tiny_folder),
    )
    once, twice = (estimate(cfg, Batch(1, 8, accumulation)) for accumulation in (1, 2))
    forward = measure(config, FullFineTuning(), 1, 8, torch.float32).forward
    assert forward < 4 * NUMBERS
    assert (twice.total - twice.process) - (once.total - once.process) == pytest.approx(forward / GIB)


def test_training_or_evaluation_is_at_the_peak_and_not_both() -> None:
    parts = Memory(1.0, 2.0, 0.5, 0.25, 1.0, 0.25, activations=3.0, logits=1.0, evaluation=2.0)
    assert parts.total == 9.0
    assert replace(parts, evaluation=6.0).total == 11.0


@pytest.mark.parametrize("overrides", [[], ["lora=none"], ["model=smollm2"]])
def test_the_rough_bound_lies_above_the_estimate(
    overrides: list[str], tiny_folder: Path, smollm2_folder: Path
) -> None:
    cfg, batch = compose([*OWN, *overrides]).cfg, Batch(8, 256, 2)
    found = estimate(cfg, batch)
    assert roughly(cfg, batch) > found.total - found.process
