"""Rows that are there twice: within a split, and held-out rows that are trained on."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
import xxhash

from sft_research.cache import Examples
from sft_research.config import ConfigError
from sft_research.tokens import Data, Example

log = logging.getLogger(__name__)


def duplicates(examples: Iterable[Example]) -> int:
    """Rows whose tokens are those of an earlier row: [a, b, a, a] -> 2"""
    hashes = list(_hashes(examples))
    return len(hashes) - len(set(hashes))


def overlap(train: Iterable[Example], held_out: Sequence[Example], max_length: int) -> list[int]:
    """Positions of the held-out rows that are, token for token up to max_length, training rows too.

    Held-out rows are cut there; of training rows some packings go on.
    """
    known = set(_hashes(train, max_length))
    return [index for index, found in enumerate(_hashes(held_out, max_length)) if found in known]


def trained_on(on_overlap: Literal["error", "drop"], data: Data, max_length: int) -> Data:
    """The data, with `drop` less the training rows that are held out too.

    Never the other way: the same held-out rows measure every run of a comparison. `error` is preflight's.
    """
    if on_overlap == "error":
        return data
    examples = data.train.examples
    shared = set(overlap(data.held_out.examples, examples, max_length))
    log.info("%d of %d training rows left out: they are held-out rows too", len(shared), len(examples))
    if shared and len(shared) == len(examples):
        raise ConfigError(
            f"all {len(examples)} training rows are held-out rows too, so on_overlap=drop leaves nothing to "
            "train on. Fix: dataset.held_out=... with other rows"
        )
    kept: Sequence[Example]
    if isinstance(examples, Examples):
        kept = Examples(examples.table.filter([index not in shared for index in range(len(examples))]))
    else:
        kept = [example for index, example in enumerate(examples) if index not in shared]
    return replace(data, train=replace(data.train, examples=kept))


def _hashes(examples: Iterable[Example], most: int | None = None) -> Iterator[int]:
    """One a row; of a table, from its memory, since a Python int a token is 30 times the work."""
    if not isinstance(examples, Examples):
        for example in examples:
            yield xxhash.xxh3_64_intdigest(array("i", example.input_ids[:most]).tobytes())
        return
    for chunk in examples.table["input_ids"].chunks:
        # Not `to_numpy`, which imports pandas: two seconds.
        ids, ends = np.from_dlpack(chunk.values), np.from_dlpack(chunk.offsets)
        for start, end in pairwise(ends.tolist()):
            yield xxhash.xxh3_64_intdigest(ids[start:end][:most].data)
