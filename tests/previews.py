"""A preview small enough to read: one example of four tokens, two of them trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sft_research.counts import Split
from sft_research.look import Preview, Shown
from sft_research.padding import Batches, Packed
from sft_research.visible import Piece

PIECES = [
    Piece("<|user|>", (1,), 0, trained=False, special=True),
    Piece("<1&1>\n", (7, 8), 1, trained=False, special=False),
    Piece(" 2", (20,), 3, trained=True, special=False),
    Piece("<|end|>", (2,), 4, trained=True, special=True),
]
TRAINING = Split("training", np.array([5, 8, 30]), np.array([2, 4, 6]), 0, 0, 0, 0, 0)
HELD_OUT = Split("held out", np.array([5]), np.array([2]), 0, 0, 0, 0, 0)


def toy(**changes: Any) -> Preview:
    preview = Preview(
        title="demo / lora.r=8",
        source="rows.jsonl",
        model="SmolLM2",
        max_length=32,
        command="python -m sft_research.preview lora.r=8",
        examples=[Shown(2, "the median", 5, 2, PIECES)],
        splits=[TRAINING, HELD_OUT],
        overlap=0,
        bad=[],
        batches=Batches(2, 4, 32, seed=0),
        packings=[Packed("none", 3, 1, 43, 68, 60, 0), Packed("bfd", 2, 1, 43, 43, 43, 0)],
        packing="bfd",
        with_ids=False,
    )
    return replace(preview, **changes)
