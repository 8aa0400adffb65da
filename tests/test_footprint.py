"""Bytes of a step on fake tensors, against counts made by hand for two layers of width 64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from sft_research.footprint import FOUR_BITS, _measure, _of_layers, measure
from sft_research.lora import FullFineTuning, Lora

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA = Lora(16, 16, 0.0, MODULES)
# Per layer q and o 64 x 64, k and v 32 x 64, three of 64 x 128.
LINEAR = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128)
NUMBERS = LINEAR + 2 * 2 * 64 + 64 + 2 * 259 * 64  # norms of the layers, the last one, embeddings and head
# 16 rows and columns of each matrix: r * (in + out).
TRAINED = 2 * 16 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 128))


def test_weights_and_adapters_are_counted(tiny_folder: Path) -> None:
    config = AutoConfig.from_pretrained(tiny_folder)
    step = measure(config, LORA, 2, 16, torch.float32)
    assert (step.weights, step.trained) == (4 * NUMBERS, TRAINED)
    whole = measure(config, FullFineTuning(), 2, 16, torch.bfloat16)
    assert (whole.weights, whole.trained) == (2 * NUMBERS, NUMBERS)
    four = measure(config, LORA, 2, 16, torch.float32, four_bits=True)
    assert four.weights == pytest.approx(4 * (NUMBERS - LINEAR) + FOUR_BITS * LINEAR)


def test_what_one_layer_and_two_tell_is_true_of_five(tiny_folder: Path) -> None:
    config = AutoConfig.from_pretrained(tiny_folder)
    config.num_hidden_layers = 5
    told, real = measure(config, LORA, 2, 32, torch.float32), _measure(config, LORA, 2, 32, torch.float32)
    assert (told.weights, told.trained) == (real.weights, real.trained)
    assert told.forward == pytest.approx(real.forward, rel=1e-3)
    assert told.workspace == pytest.approx(real.workspace, rel=0.2)


def test_a_layer_keeps_what_its_backward_pass_needs(tiny_folder: Path) -> None:
    """Of a full layer at least the inputs of its matrices: 64 for q, k, v, and for gate and up, 64 for o, 128 for
    down, and gate, up and the activated gate, 128 each. Checkpointed, its input alone: 64."""
    config = _of_layers(AutoConfig.from_pretrained(tiny_folder), 3)
    two = _of_layers(config, 2)
    tokens = 2 * 32
    for checkpointing, least, most in ((False, 3 * 64 + 4 * 128, 2000), (True, 64, 64)):
        step = [
            _measure(c, FullFineTuning(), 2, 32, torch.float32, checkpointing=checkpointing).forward
            for c in (two, config)
        ]
        a_token = (step[1] - step[0]) / 4 / tokens
        assert least <= a_token <= most
