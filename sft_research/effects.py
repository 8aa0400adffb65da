"""Which settings matter: shares of the variance between points, and whether scale x learning rate is all.

Each setting's values are classes, so that steps of 2 and steps of 3 on its axis count alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from sft_research.points import sorted_values
from sft_research.spread import LEVEL, f_tail


@dataclass(frozen=True)
class Effect:
    """One setting: its share of the variance between points, the mean at each value, and a p where seeds tell."""

    key: str
    share: float
    means: dict[Any, float]
    p: float | None

    @property
    def is_clear(self) -> bool:
        return self.p is None or self.p < 1 - LEVEL


@dataclass(frozen=True)
class Product:
    """How much of the variance between points their products, as of scale and learning rate, explain."""

    share: float
    products: int
    points: int
    p: float | None  # of what they leave out, against the spread between seeds

    @property
    def adjusted(self) -> float:
        """The share that is left when each product has paid for itself (adjusted R squared, Ezekiel 1930)."""
        return max(1 - (1 - self.share) * (self.points - 1) / (self.points - self.products), 0.0)

    @property
    def is_all(self) -> bool | None:
        return None if self.p is None else self.p >= 1 - LEVEL


def effects(
    settings: Sequence[dict[str, Any]], means: Sequence[float], noise: tuple[float, int] | None
) -> list[Effect]:
    """Main effects of an additive model, the largest first.

    The share of a setting is what the fit loses without it (sums of squares of type II, Yates 1934): in a
    whole grid that is the classical one. `noise` is the variance of a point's mean and its degrees of freedom.
    """
    total = _squares(means)
    found: list[Effect] = []
    for key in settings[0] if settings else ():
        levels = sorted_values(at[key] for at in settings)
        others = [other for other in settings[0] if other != key]
        without = _left([_row(at, others, settings) for at in settings], means)
        gained = max(without - _left([_row(at, [*others, key], settings) for at in settings], means), 0.0)
        by_value = {v: mean(m for at, m in zip(settings, means, strict=True) if at[key] == v) for v in levels}
        p = None
        if noise and noise[0] > 0 and len(levels) > 1:
            p = f_tail(gained / (len(levels) - 1) / noise[0], len(levels) - 1, noise[1])
        found.append(Effect(key, gained / total if total else 0.0, by_value, p))
    return sorted(found, key=lambda effect: -effect.share)


def beyond(settings: Sequence[dict[str, Any]], means: Sequence[float]) -> float | None:
    """The share that all settings leave, each added to the others; None where so many numbers fit any points."""
    rows = [_row(at, list(settings[0]), settings) for at in settings]
    total = _squares(means)
    return None if len(rows[0]) >= len(rows) else _left(rows, means) / total if total else 0.0


def product_alone(
    products: Sequence[float | None], means: Sequence[float], noise: tuple[float, int] | None
) -> Product | None:
    """The product as the only setting, against every point by itself: an F test of lack of fit (Fisher 1922).

    None where no two points share a product, or all do, so that nothing can be told.
    """
    levels = set(products)
    if None in levels or not 1 < len(levels) < len(means):
        return None
    within = sum(_squares([m for p, m in zip(products, means, strict=True) if p == at]) for at in levels)
    total, freedom = _squares(means), len(means) - len(levels)
    p = f_tail(within / freedom / noise[0], freedom, noise[1]) if noise and noise[0] > 0 else None
    return Product(1 - within / total if total else 0.0, len(levels), len(means), p)


def _squares(values: Sequence[float]) -> float:
    middle = mean(values)
    return sum((value - middle) ** 2 for value in values)


def _row(at: dict[str, Any], keys: Sequence[str], settings: Sequence[dict[str, Any]]) -> list[float]:
    """1, and for every key a 1 at its value, the first value left out."""
    row = [1.0]
    for key in keys:
        row += [float(at[key] == value) for value in sorted_values(one[key] for one in settings)[1:]]
    return row


def _left(design: Sequence[Sequence[float]], means: Sequence[float]) -> float:
    """Squares that least squares leave."""
    import numpy as np

    x, y = np.asarray(design), np.asarray(means)
    fit = np.linalg.lstsq(x, y, rcond=None)[0]
    return float(((y - x @ fit) ** 2).sum())
