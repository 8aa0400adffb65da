"""Rows that are there twice: within a split, and held-out rows that are trained on."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import xxhash

from sft_research.tokens import Example


def duplicates(examples: Iterable[Example]) -> int:
    """Rows whose tokens are those of an earlier row: [a, b, a, a] -> 2"""
    hashes = [_hash(example) for example in examples]
    return len(hashes) - len(set(hashes))


def overlap(train: Iterable[Example], held_out: Sequence[Example]) -> list[int]:
    """Positions of the held-out rows that are, token for token, training rows too."""
    known = {_hash(example) for example in train}
    return [index for index, example in enumerate(held_out) if _hash(example) in known]


def _hash(example: Example) -> int:
    return xxhash.xxh3_64_intdigest(array("i", example.input_ids).tobytes())
