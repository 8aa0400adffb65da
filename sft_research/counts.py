"""What a split holds, in numbers: lengths, what is trained, what was lost, what is there twice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sft_research.cache import Examples
from sft_research.overlap import duplicates
from sft_research.tokens import IGNORED, Encoded, Example

PERCENTILES = (0.05, 0.5, 0.95, 1.0)


@dataclass(frozen=True)
class Bar:
    """`count` rows of `low` to `high` tokens, both included."""

    low: int
    high: int
    count: int


@dataclass(frozen=True)
class Split:
    """A split in numbers; `lengths` and `trained` hold one a row, in the order of the rows."""

    name: str
    lengths: np.ndarray  # tokens
    trained: np.ndarray  # tokens with loss, as `Example.loss_tokens` counts them
    truncated: int
    answers_cut: int
    dropped: int
    bad: int
    duplicates: int

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    @property
    def loss_tokens(self) -> int:
        return int(self.trained.sum())

    @property
    def share_trained(self) -> float:
        return self.loss_tokens / max(self.tokens, 1)


@dataclass(frozen=True)
class Tokens:
    """All rows of a split in line."""

    lengths: np.ndarray  # (rows,)
    labels: np.ndarray  # (tokens,)

    @property
    def trained(self) -> np.ndarray:
        """Tokens with loss of each row, (rows,): the first of a row is predicted by nothing."""
        ends = np.cumsum(self.lengths)
        begins = ends - self.lengths
        has_loss = self.labels != IGNORED
        upto = np.concatenate(([0], np.cumsum(has_loss)))
        return upto[ends] - upto[begins] - has_loss[begins]


def count(name: str, encoded: Encoded) -> Split:
    tokens = tokens_of(encoded.examples)
    return Split(
        name,
        tokens.lengths,
        tokens.trained,
        encoded.truncated,
        encoded.answers_cut,
        encoded.dropped,
        len(encoded.bad),
        duplicates(encoded.examples),
    )


def tokens_of(examples: Sequence[Example]) -> Tokens:
    """Read from the columns of the table, where there is one: no list of Python ints is made of them."""
    if not isinstance(examples, Examples):
        return Tokens(
            np.array([len(example.labels) for example in examples], dtype=np.int64),
            np.array([label for example in examples for label in example.labels], dtype=np.int64),
        )
    lengths: list[np.ndarray] = [np.zeros(0, dtype=np.int64)]
    labels: list[np.ndarray] = [np.zeros(0, dtype=np.int32)]
    for chunk in examples.table["labels"].chunks:
        ends = np.from_dlpack(chunk.offsets).astype(np.int64)  # `to_numpy` would import pandas: two seconds
        lengths.append(np.diff(ends))
        labels.append(np.from_dlpack(chunk.values)[ends[0] : ends[-1]])
    return Tokens(np.concatenate(lengths), np.concatenate(labels))


def percentiles(lengths: np.ndarray) -> list[int]:
    """p5, p50, p95 and the largest, each the length of a row that is there: the nearest rank.

    [10, 20, ..., 100] -> [10, 50, 100, 100]
    """
    ordered = np.sort(lengths)
    return [int(ordered[math.ceil(share * len(ordered)) - 1]) for share in PERCENTILES]


def histogram(lengths: np.ndarray, bars: int) -> list[Bar]:
    """At most `bars` bars of one round width that hold all rows: 1, 2 or 5 times a power of ten."""
    if not len(lengths):
        return []
    low, high = int(lengths.min()), int(lengths.max())
    width = next(w for w in _round_widths() if high // w - low // w < bars)
    first = low // width
    counted = np.bincount(lengths // width - first)
    return [Bar((first + i) * width, (first + i + 1) * width - 1, int(n)) for i, n in enumerate(counted)]


def _round_widths() -> Iterator[int]:
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10


def spread_over_lengths(lengths: np.ndarray, wanted: int) -> list[tuple[int, str]]:
    """(index, what it stands for) of rows at even ranks by length, from the shortest to the longest.

    The two ends are where templates and cuts go wrong; the middle is what most rows are like.
    """
    order = np.argsort(lengths, kind="stable")
    last = len(order) - 1
    wanted = min(wanted, len(order))
    ranks = [last // 2] if wanted == 1 else [last * i // (wanted - 1) for i in range(wanted)]
    return [(int(order[rank]), _standing(rank, last)) for rank in ranks]


def _standing(rank: int, last: int) -> str:
    if rank == last // 2:
        return "the median"
    if rank in (0, last):
        return "the longest" if rank else "the shortest"
    return f"longer than {rank / (last + 1):.0%}"
