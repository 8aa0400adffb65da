"""`held_out.jsonl`: the loss of every held-out row as it was measured last, for comparisons row by row.

{"row": "9f86d081884c7d65", "tokens": 23, "nll": 11.04}
`row` hashes the tokens and which of them are trained: runs with the same `row` were asked the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sft_research.checkpoint import write_whole

if TYPE_CHECKING:
    from sft_research.tokens import Example

NAME = "held_out.jsonl"


def write(file: Path, examples: Sequence[Example], nll: Sequence[float]) -> None:
    """A line a row, `nll` in nats; whole or not at all."""
    rows = (
        {"row": _key(example), "tokens": example.loss_tokens, "nll": loss}
        for example, loss in zip(examples, nll, strict=True)
    )
    write_whole(file, "".join(json.dumps(row) + "\n" for row in rows))


def _key(example: Example) -> str:
    text = json.dumps([list(example.input_ids), list(example.labels)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
