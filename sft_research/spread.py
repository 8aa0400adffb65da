"""Differences against the spread between seeds, and against the draw of the held-out rows.

Textbook methods, each named where it is used; distributions by the incomplete beta function, so that no
library is needed for three quantiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, lgamma, log, sqrt
from statistics import mean, stdev
from typing import Any

LEVEL, POWER = 0.95, 0.80
RESAMPLES = 2000
MOST_SEEDS = 200  # a difference that needs more is called none


@dataclass(frozen=True)
class Interval:
    """An estimate, the ends of its interval, and how many it is of (seeds or rows)."""

    value: float
    low: float
    high: float
    n: int

    @property
    def is_clear(self) -> bool:
        """Whether no difference is outside of it."""
        return self.low > 0 or self.high < 0


def paired(differences: Sequence[float]) -> Interval:
    """Mean of paired differences with Student's t interval (Student 1908); two or more are needed."""
    middle, n = mean(differences), len(differences)
    half = t_quantile((1 + LEVEL) / 2, n - 1) * stdev(differences) / sqrt(n)
    return Interval(middle, middle - half, middle + half, n)


def block_residual(table: Sequence[Sequence[float]]) -> tuple[float, int] | None:
    """(variance, degrees of freedom) left of points x seeds when each point and each seed has its own level.

    Randomised blocks with seeds as blocks (Fisher 1935): sum of (y - point mean - seed mean + mean)^2 over
    (points - 1)(seeds - 1). None where there is one point or one seed.
    """
    points, seeds = len(table), len(table[0]) if table else 0
    if points < 2 or seeds < 2:
        return None
    by_point = [mean(row) for row in table]
    by_seed = [mean(column) for column in zip(*table, strict=True)]
    middle = mean(by_point)
    rest = sum(
        (value - by_point[i] - by_seed[j] + middle) ** 2
        for i, row in enumerate(table)
        for j, value in enumerate(row)
    )
    freedom = (points - 1) * (seeds - 1)
    return rest / freedom, freedom


def pooled(differences: Sequence[float], residual: tuple[float, int]) -> Interval:
    """The same mean with the spread of all points: Fisher's least significant difference.

    A difference of two points has twice the residual variance; the spread is taken to be the same everywhere.
    """
    variance, freedom = residual
    middle, n = mean(differences), len(differences)
    half = t_quantile((1 + LEVEL) / 2, freedom) * sqrt(2 * variance / n)
    return Interval(middle, middle - half, middle + half, n)


def seeds_needed(difference: float, deviation: float) -> int | None:
    """Seeds with which a paired t test finds this difference in four cases of five; None where above 200.

    The least n >= ((t(0.975, n-1) + t(0.8, n-1)) * deviation / difference)^2, for `deviation` that of one
    paired difference (Snedecor & Cochran 1989, section 6.14).
    """
    if not difference or not isfinite(deviation):
        return None
    ratio = (deviation / difference) ** 2
    if ratio > MOST_SEEDS / 7.8:  # (1.96 + 0.84)^2, which those of t exceed
        return None
    for n in range(2, MOST_SEEDS + 1):
        if n >= (t_quantile((1 + LEVEL) / 2, n - 1) + t_quantile(POWER, n - 1)) ** 2 * ratio:
            return n
    return None


def bootstrap(differences: Sequence[float], weights: Sequence[float], seed: int = 0) -> Interval:
    """Sum of differences over sum of weights, with a percentile interval over resampled rows (Efron 1979)."""
    import numpy as np

    d, w = np.asarray(differences, float), np.asarray(weights, float)
    draw = np.random.default_rng(seed)
    means = []
    for _ in range(RESAMPLES):
        chosen = draw.integers(0, len(d), len(d))
        means.append(d[chosen].sum() / w[chosen].sum())
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(d.sum() / w.sum()), float(low), float(high), len(d))


def t_quantile(p: float, freedom: int) -> float:
    """The t below which Student's distribution has the share `p`, above one half."""
    return _solved(lambda t: 1 - beta_share(freedom / (freedom + t * t), freedom / 2, 0.5) / 2, p)


def f_tail(f: float, above: int, below: int) -> float:
    """The probability of an F ratio of `f` or more (Fisher & Snedecor), for these degrees of freedom."""
    return beta_share(below / (below + above * f), below / 2, above / 2) if f < inf else 0.0


def beta_share(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b): DLMF 8.17.22, its continued fraction by Lentz's way."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly: the other side
        return 1 - beta_share(1 - x, b, a)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(1 - x)) / a
    tiny = 1e-300
    value, c, d = 1.0, 1.0, 0.0
    for step in range(400):
        m = step // 2
        if step == 0:
            part = 1.0
        elif step % 2 == 0:
            part = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            part = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / ((1 + part * d) or tiny)
        c = (1 + part / c) or tiny
        value *= c * d
        if step and abs(1 - c * d) < 1e-14:
            break
    return front * (value - 1)


def _solved(rising: Callable[[float], float], p: float) -> float:
    low, high = 0.0, 1.0
    while rising(high) < p:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < p else (low, middle)
    return (low + high) / 2


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation between seeds; None of one."""
    return stdev(values) if len(values) > 1 else None


def as_plain(interval: Interval | None) -> dict[str, Any] | None:
    return vars(interval) if interval else None
