"""Rows of several sources in given shares, each in its own format."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sft_research.config import ConfigError
from sft_research.dataset import Rows
from sft_research.readers import Broken, Row


@dataclass(frozen=True)
class Part:
    """A source, how its rows are read, and its weight among the others."""

    source: Any
    format: Callable[[Any], Any]
    weight: float


@dataclass(frozen=True)
class Mixture:
    """`rows` in the shares of the weights, no row twice; null: as many as the scarcest source allows.

    Each part's rows are picked by `seed` and its name, so that another part or weight changes none of the
    order in which they are picked; the whole is then shuffled by `seed`. Held-out rows come in the same shares,
    of the parts that hold any out.
    """

    parts: dict[str, Part]
    rows: int | None
    seed: int
    on_bad_row: Literal["error", "skip"] = "error"

    def load(self) -> Rows:
        loaded = {name: part.source.load() for name, part in self.parts.items()}
        train = self._mixed({name: rows.train for name, rows in loaded.items()}, self.rows)
        held_out = self._mixed(
            {name: rows.held_out for name, rows in loaded.items() if len(rows.held_out)}, None
        )
        checkable = all(rows.checkable for rows in loaded.values())
        return Rows(train, held_out, checkable, self.on_bad_row)

    def _mixed(self, sources: dict[str, Sequence[Any]], wanted: int | None) -> list[Any]:
        made = []
        for name, count in self._counts({name: len(rows) for name, rows in sources.items()}, wanted).items():
            rows = sources[name]
            picked = random.Random(f"{self.seed}/{name}").sample(range(len(rows)), len(rows))[:count]
            made += [self._of(name, rows[index], index) for index in picked]
        random.Random(self.seed).shuffle(made)
        return made

    def _counts(self, have: dict[str, int], wanted: int | None) -> dict[str, int]:
        """{"a": 100, "b": 30} with weights 3 and 1 -> {"a": 90, "b": 30}"""
        weights = {name: self.parts[name].weight for name in have if self.parts[name].weight > 0}
        shares = {name: weight / sum(weights.values()) for name, weight in weights.items()}
        possible = min((have[name] / share for name, share in shares.items()), default=0)
        if wanted is not None and wanted > possible + 1e-9:
            scarce = min(shares, key=lambda name: have[name] / shares[name])
            raise ConfigError(
                f"dataset.rows={wanted} needs {math.ceil(wanted * shares[scarce])} rows of {scarce}, which has "
                f"{have[scarce]}. Fix: dataset.rows={int(possible + 1e-9)}, or a smaller dataset.parts.{scarce}.weight"
            )
        size = int(possible + 1e-9) if wanted is None else wanted
        counts = {name: int(size * share + 1e-9) for name, share in shares.items()}
        # Rows that rounding down has left over go to those that lost most by it.
        by_loss = sorted(shares, key=lambda name: counts[name] - size * shares[name])
        for name in by_loss[: size - sum(counts.values())]:
            counts[name] += 1
        return counts

    def _of(self, name: str, row: Any, index: int) -> Any:
        if isinstance(row, Broken):
            return row
        made = Row(row)
        made.where = getattr(row, "where", "") or f"row {index + 1} of {name}"
        made.format = self.parts[name].format
        return made
