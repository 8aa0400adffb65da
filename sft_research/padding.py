"""What each packing option would make of a run's rows: rows, steps, and the padding that is computed for nothing.

From lengths alone, for one pass over the rows, in the order in which the trainer takes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from sft_research.counts import Tokens
from sft_research.packing import plan_rows


@dataclass(frozen=True)
class Batches:
    """How a run takes its rows."""

    size: int
    accumulation: int
    max_length: int
    seed: int
    multiple: int = 1  # training.pad_to_multiple_of
    devices: int = 1  # each takes `accumulation` batches a step


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


def packings(within: Tokens, whole: Tokens, batches: Batches) -> list[Packed]:
    """Every option, the ones with an example a row first.

    `within` are the rows cut at max_length, `whole` the same uncut, for the options that go on in another row.
    """
    lengths = within.lengths
    grouped = grouped_order(lengths, batches.size * batches.accumulation, batches.seed)
    return [
        _padded("none", lengths, batches),
        _padded("grouped", lengths, batches, grouped),
        _flat("padding_free", lengths, batches),
        _packed("bfd", within, batches),
        _packed("bfd_split", whole, batches),
        _packed("wrapped", whole, batches),
    ]


def _packed(option: str, tokens: Tokens, batches: Batches) -> Packed:
    """Rows as training packs them, and a batch of them as one row."""
    plan = plan_rows(tokens.lengths, tokens.labels, batches.max_length, option)
    rows = np.array([plan.length[row].sum() for row in plan.rows], dtype=np.int64)
    return _flat(option, rows, batches, plan.cut)


def _padded(option: str, rows: np.ndarray, batches: Batches, order: np.ndarray | None = None) -> Packed:
    """Each row padded to the longest of its batch."""
    widths, heights = [], []
    for batch in _in_batches(rows, batches, order):
        widths.append(-(-int(batch.max()) // batches.multiple) * batches.multiple)
        heights.append(len(batch))
    return _made(option, rows, batches, np.multiply(widths, heights), 0)


def _flat(option: str, rows: np.ndarray, batches: Batches, cut: int = 0) -> Packed:
    """A batch as one row, each example with positions of its own: nothing to pad."""
    sums = [int(batch.sum()) for batch in _in_batches(rows, batches)]
    return _made(option, rows, batches, np.array(sums, dtype=np.int64), cut)


def _made(option: str, rows: np.ndarray, batches: Batches, positions: np.ndarray, cut: int) -> Packed:
    steps = -(-len(positions) // (batches.accumulation * batches.devices))
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
