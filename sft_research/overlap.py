"""Rows that are there twice: within a split, and held-out rows that are trained on."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import xxhash

from sft_research.cache import Examples
from sft_research.tokens import Example


def duplicates(examples: Iterable[Example]) -> int:
    """Rows whose tokens are those of an earlier row: [a, b, a, a] -> 2"""
    hashes = list(_hashes(examples))
    return len(hashes) - len(set(hashes))


def overlap(train: Iterable[Example], held_out: Sequence[Example]) -> list[int]:
    """Positions of the held-out rows that are, token for token, training rows too."""
    known = set(_hashes(train))
    return [index for index, found in enumerate(_hashes(held_out)) if found in known]


def _hashes(examples: Iterable[Example]) -> Iterator[int]:
    """One a row; of a table, from its memory, since a Python int a token is 30 times the work."""
    if not isinstance(examples, Examples):
        for example in examples:
            yield xxhash.xxh3_64_intdigest(array("i", example.input_ids).tobytes())
        return
    for chunk in examples.table["input_ids"].chunks:
        # Not `to_numpy`, which imports pandas: two seconds.
        ids, ends = np.from_dlpack(chunk.values), np.from_dlpack(chunk.offsets)
        for start, end in pairwise(ends.tolist()):
            yield xxhash.xxh3_64_intdigest(ids[start:end].data)
