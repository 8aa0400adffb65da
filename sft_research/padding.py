"""What each packing option would make of a run's rows: rows, steps, and the padding that is computed for nothing.

From lengths alone, for one device and one pass over the rows, in the order in which the trainer takes them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

PACKED_AT_ONCE = 1000  # TRL packs in `datasets.map`, which hands it so many rows at a time


@dataclass(frozen=True)
class Batches:
    """How a run takes its rows."""

    size: int
    accumulation: int
    max_length: int
    seed: int
    multiple: int = 1  # training.pad_to_multiple_of


@dataclass(frozen=True)
class Packed:
    """A packing option, named as in conf/packing, and what it makes of the rows."""

    option: str
    rows: int
    steps: int
    tokens: int
    positions: int  # tokens and padding, all of which the model computes
    largest: int  # positions of the largest batch: what memory has to hold
    cut: int  # examples that go on in another row

    @property
    def padding(self) -> float:
        return 1 - self.tokens / self.positions if self.positions else 0.0

    @property
    def tokens_a_step(self) -> float:
        return self.tokens / self.steps if self.steps else 0.0


def packings(lengths: np.ndarray, batches: Batches) -> list[Packed]:
    """Every option, the ones with an example a row first. No row is longer than max_length."""
    grouped = grouped_order(lengths, batches.size * batches.accumulation, batches.seed)
    bfd = best_fit(lengths, batches.max_length)
    wrapped, cut = wrap(lengths, batches.max_length)
    return [
        _padded("none", lengths, batches, 0),
        _padded("grouped", lengths, batches, 0, grouped),
        _flat("padding_free", lengths, batches),
        _flat("bfd", bfd, batches),
        _flat("bfd_split", bfd, batches),  # no row is longer than max_length, so there is none to split
        _padded("wrapped", wrapped, batches, cut),
    ]


def _padded(
    option: str, rows: np.ndarray, batches: Batches, cut: int, order: np.ndarray | None = None
) -> Packed:
    """Each row padded to the longest of its batch."""
    widths, heights = [], []
    for batch in _in_batches(rows, batches, order):
        widths.append(-(-int(batch.max()) // batches.multiple) * batches.multiple)
        heights.append(len(batch))
    return _made(option, rows, batches, np.multiply(widths, heights), cut)


def _flat(option: str, rows: np.ndarray, batches: Batches) -> Packed:
    """A batch as one row, each example with positions of its own: nothing to pad but its end."""
    sums = [
        -(-int(batch.sum()) // batches.multiple) * batches.multiple for batch in _in_batches(rows, batches)
    ]
    return _made(option, rows, batches, np.array(sums), 0)


def _made(option: str, rows: np.ndarray, batches: Batches, positions: np.ndarray, cut: int) -> Packed:
    steps = -(-len(positions) // batches.accumulation)
    largest = int(positions.max()) if len(positions) else 0
    return Packed(option, len(rows), steps, int(rows.sum()), int(positions.sum()), largest, cut)


def _in_batches(rows: np.ndarray, batches: Batches, order: np.ndarray | None = None) -> Iterator[np.ndarray]:
    ordered = rows[shuffled(len(rows), batches.seed) if order is None else order]
    for start in range(0, len(ordered), batches.size):
        yield ordered[start : start + batches.size]


def shuffled(rows: int, seed: int) -> np.ndarray:
    """The order of accelerate's SeedableRandomSampler in the first epoch."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(rows, generator=generator).numpy()


def grouped_order(lengths: np.ndarray, size: int, seed: int) -> np.ndarray:
    """`transformers.trainer_pt_utils.get_length_grouped_indices`, whose import takes 7 seconds: up to 50
    steps' rows at a time are sorted by length, and the longest row of all comes first.

    The trainer draws from the generator that LoRA's weights came from, so its order is another one.
    """
    order = shuffled(len(lengths), seed)
    together = size * max(min(len(order) // (size * 4), 50), 1)
    groups = [order[start : start + together] for start in range(0, len(order), together)]
    groups = [group[np.argsort(-lengths[group], kind="stable")] for group in groups]
    if groups:
        longest = int(np.argmax([lengths[group[0]] for group in groups]))
        groups[0][0], groups[longest][0] = groups[longest][0], groups[0][0]
    return np.concatenate(groups) if groups else order


def best_fit(lengths: np.ndarray, max_length: int) -> np.ndarray:
    """Lengths of the rows that TRL's best-fit decreasing packs, in its order: the longest example first,
    each where least room is left that still takes it. [1, 2, 3, 4, 5] in rows of 8 -> [8, 7]
    """
    rows: list[int] = []
    for start in range(0, len(lengths), PACKED_AT_ONCE):
        room: list[tuple[int, int, int]] = []  # sorted: what is left in a row, since when, which row
        together = sorted(lengths[start : start + PACKED_AT_ONCE].tolist(), reverse=True)
        for turn, length in enumerate(together):
            found = bisect_left(room, (length,))
            if found < len(room):
                space, _, row = room.pop(found)
            else:
                space, row = max_length, len(rows)
                rows.append(0)
            rows[row] += length
            insort(room, (space - length, turn, row))
    return np.array(rows, dtype=np.int64)


def wrap(lengths: np.ndarray, max_length: int) -> tuple[np.ndarray, int]:
    """(lengths of the rows of one stream cut every max_length tokens, examples that are cut apart)"""
    rows: list[int] = []
    cut = 0
    for start in range(0, len(lengths), PACKED_AT_ONCE):
        ends = np.cumsum(lengths[start : start + PACKED_AT_ONCE])
        begins = np.concatenate(([0], ends[:-1]))
        cut += int(((ends - 1) // max_length > begins // max_length).sum())
        whole, rest = divmod(int(ends[-1]), max_length)
        rows += [max_length] * whole + ([rest] if rest else [])
    return np.array(rows, dtype=np.int64), cut
