"""How examples share a batch, and how the long ones are cut.

    none          a b c     one example a row, padded to the longest of the batch
    grouped       a b c     the same, with examples of like length in a batch
    padding_free  abc       the examples of a batch in one row, nothing padded
    bfd           ab c      whole examples in rows of model.max_length tokens, the rows of a batch in one
    bfd_split     ab c c    the same, where an example longer than a row goes on in another
    wrapped       ab bc     one stream of tokens, cut every model.max_length
Each example, or piece of one that was cut, is a segment: it attends to itself alone, its positions begin
at 0, and its first token has no loss.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sft_research.config import ConfigError
from sft_research.tokens import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import SFTConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Packing:
    """A strategy of the list above, or None for one example a row."""

    strategy: Literal["grouped", "padding_free", "bfd", "bfd_split", "wrapped"] | None

    @property
    def flattens(self) -> bool:
        """Whether a batch is one row of several segments."""
        return self.strategy not in (None, "grouped")

    @property
    def keeps_long_rows(self) -> bool:
        """Whether an example longer than model.max_length is cut here, and not with its tokens."""
        return self.strategy in ("bfd_split", "wrapped")

    def apply(self, args: SFTConfig) -> None:
        """Set it on TRL's arguments.

        After they are built, since Unsloth's CPU backend changes packing while they are, in words alone.
        TRL is told that nothing is packed: its `wrapped` lets examples read each other, and its bfd packs
        a thousand at a time. `rows` packs, and the collator of padding_free flattens.
        """
        args.packing = args.eval_packing = False
        args.padding_free = self.flattens
        args.train_sampling_strategy = "group_by_length" if self.strategy == "grouped" else "random"
        if self.flattens:
            args.max_length = None  # rows are within it already, and TRL refuses to say so twice

    def rows(self, dataset: Dataset, max_length: int) -> Dataset:
        """The rows that training reads: examples as they are, or packed, with `seq_lengths`."""
        from datasets import Dataset

        if self.strategy == "grouped":  # else transformers reads every row to know how long it is
            return dataset.add_column("length", _lengths(dataset))
        if self.strategy in (None, "padding_free"):
            return dataset
        plan = plan_rows(_lengths(dataset), _values(dataset, "labels"), max_length, self.strategy)
        if not plan.rows:
            raise ConfigError(
                f"packing={self.strategy} with model.max_length={max_length} leaves no piece of the "
                f"{plan.examples:,} training examples a token with loss. Fix: packing=bfd"
            )
        log.info("packing=%s: %s", self.strategy, plan)
        return Dataset.from_dict(
            plan.fill({name: _values(dataset, name) for name in ("input_ids", "labels")})
        )


@dataclass(frozen=True)
class Plan:
    """Rows of pieces; piece i is the tokens start[i] up to start[i] + length[i] of all examples in line."""

    start: np.ndarray
    length: np.ndarray
    rows: list[list[int]]  # pieces
    max_length: int
    examples: int
    cut: int  # examples in more than one piece
    left_out: int  # pieces without loss, which nothing reads either

    def __str__(self) -> str:
        full = self.length[np.concatenate(self.rows)].sum() / (len(self.rows) * self.max_length)
        said = (
            f"{self.examples:,} examples in {len(self.rows):,} rows of up to {self.max_length} tokens "
            f"({self.examples / len(self.rows):.1f} a row, {full:.0%} full)"
        )
        if self.cut:
            said += f"; {self.cut:,} examples are cut, and a piece does not see the one before it"
        if self.left_out:
            said += f"; {self.left_out:,} pieces without loss are left out"
        return said

    def fill(self, columns: dict[str, np.ndarray]) -> dict[str, Any]:
        """Columns of packed rows, and the lengths of their pieces."""
        import pyarrow as pa

        order = np.concatenate(self.rows)
        length = self.length[order]
        until = np.cumsum(length)
        where = np.arange(until[-1]) + np.repeat(self.start[order] - (until - length), length)
        pieces = np.cumsum([0, *map(len, self.rows)])
        tokens = np.concatenate([[0], until])[pieces]
        filled = {
            name: pa.LargeListArray.from_arrays(tokens, pa.array(values[where]))
            for name, values in columns.items()
        }
        return {**filled, "seq_lengths": pa.LargeListArray.from_arrays(pieces, pa.array(length))}


def plan_rows(lengths: np.ndarray, labels: np.ndarray, max_length: int, strategy: str) -> Plan:
    """Which tokens share a row. `lengths` (n,) of the examples, `labels` of all their tokens in line."""
    until = np.cumsum(lengths)
    begin = until - lengths
    start = begin
    if strategy == "wrapped":
        start = np.union1d(begin, np.arange(0, until[-1], max_length))
    elif strategy == "bfd_split":
        inside = [np.arange(b, u, max_length) for b, u in zip(begin, until, strict=True)]
        start = np.concatenate(inside)
    length = np.diff(start, append=until[-1])
    cut = int((np.bincount(np.searchsorted(begin, start, side="right")) > 1).sum())
    loss = np.concatenate([[0], np.cumsum(labels != IGNORED)])
    kept = np.flatnonzero(loss[start + length] > loss[start + 1])  # the first token has no loss
    if strategy == "wrapped":
        of_row = start[kept] // max_length
        parts = np.split(kept, np.flatnonzero(np.diff(of_row)) + 1)
        rows = [part.tolist() for part in parts if len(part)]
    else:
        rows = [[int(kept[piece]) for piece in row] for row in best_fit(length[kept].tolist(), max_length)]
    return Plan(start, length, rows, max_length, len(lengths), cut, len(start) - len(kept))


def best_fit(lengths: list[int], room: int) -> list[list[int]]:
    """Best fit, longest first: each length goes where the least room that is enough for it is left.

    best_fit([5, 3, 6, 2], room=8) -> [[2, 3], [0, 1]]
    """
    rows: list[list[int]] = []
    spaces: list[int] = []  # room that is left in some row, ascending
    with_space: dict[int, list[int]] = {}
    for piece in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        at = bisect_left(spaces, lengths[piece])
        if at == len(spaces):
            space, row = room, len(rows)
            rows.append([])
        else:
            space = spaces[at]
            row = with_space[space].pop(0)
            if not with_space[space]:
                del with_space[space], spaces[at]
        rows[row].append(piece)
        left = space - lengths[piece]
        if left not in with_space:
            insort(spaces, left)
            with_space[left] = []
        with_space[left].append(row)
    return rows


def _values(dataset: Dataset, name: str) -> np.ndarray:
    """All lists of a column in line."""
    return dataset.data.table.column(name).combine_chunks().flatten().to_numpy()


def _lengths(dataset: Dataset) -> np.ndarray:
    import pyarrow.compute as pc

    return pc.list_value_length(dataset.data.table.column("input_ids")).to_numpy()
