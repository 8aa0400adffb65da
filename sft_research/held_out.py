"""`held_out.jsonl`: the loss of every held-out row as it was measured last, for comparisons row by row.

{"row": "9f86d081884c7d65", "tokens": 23, "nll": 11.04}
`row` hashes the tokens and which of them are trained: runs with the same `row` were asked the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sft_research.tokens import Example

NAME = "held_out.jsonl"


def write(file: Path, examples: Sequence[Example], nll: Sequence[float]) -> None:
    """A line a row, `nll` in nats; whole or not at all."""
    beside = file.with_name(f".{file.name}.tmp")
    with beside.open("w") as opened:
        for example, loss in zip(examples, nll, strict=True):
            row = {"row": _key(example), "tokens": example.loss_tokens, "nll": loss}
            opened.write(json.dumps(row) + "\n")
    os.replace(beside, file)


def _key(example: Example) -> str:
    text = json.dumps([list(example.input_ids), list(example.labels)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
