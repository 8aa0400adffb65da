"""The statistics against tables in books and sums worked by hand."""

from __future__ import annotations

from math import inf, sqrt

import pytest

from sft_research.spread import (
    Interval,
    beta_share,
    block_residual,
    bootstrap,
    f_tail,
    paired,
    pooled,
    seeds_needed,
    spread,
    t_quantile,
)


@pytest.mark.parametrize(
    ("p", "freedom", "t"),
    [
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 10, 2.228),
        (0.975, 120, 1.980),
        (0.95, 5, 2.015),
        (0.8, 1, 1.376),
    ],
)
def test_quantiles_of_t_are_those_of_the_tables(p: float, freedom: int, t: float) -> None:
    assert t_quantile(p, freedom) == pytest.approx(t, abs=5e-4)


@pytest.mark.parametrize(
    ("f", "above", "below"), [(4.965, 1, 10), (3.326, 5, 10), (2.711, 5, 20), (161.4, 1, 1)]
)
def test_five_percent_points_of_f_are_those_of_the_tables(f: float, above: int, below: int) -> None:
    assert f_tail(f, above, below) == pytest.approx(0.05, abs=1e-4)


def test_the_ends_of_distributions() -> None:
    assert (f_tail(0.0, 2, 3), f_tail(inf, 2, 3)) == (1.0, 0.0)
    assert (beta_share(0.0, 2, 3), beta_share(1.0, 2, 3)) == (0.0, 1.0)
    # I_x(2, 3) = 6x^2 - 8x^3 + 3x^4, on both sides of where the fraction is turned.
    for x in (0.1, 0.5, 0.9):
        assert beta_share(x, 2, 3) == pytest.approx(6 * x**2 - 8 * x**3 + 3 * x**4, rel=1e-12)


def test_a_paired_interval_by_hand() -> None:
    # 1, 2, 3: mean 2, deviation 1, so half of it is 4.303 / sqrt(3) = 2.484.
    interval = paired([1.0, 2.0, 3.0])
    assert (interval.value, interval.n) == (2.0, 3)
    assert (interval.low, interval.high) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)
    assert not interval.is_clear
    assert paired([2.0, 2.0]).is_clear  # no spread at all
    assert not paired([0.0, 0.0]).is_clear


def test_what_is_left_of_points_and_seeds_by_hand() -> None:
    # Points 2 and 5, seeds 3 and 4, mean 3.5: each value is 0.5 off, 4 x 0.25 over 1 x 1.
    assert block_residual([[1.0, 3.0], [5.0, 5.0]]) == (1.0, 1)
    # A seed that is better for all by the same has no part in it.
    variance, freedom = block_residual([[1.0, 3.0], [5.0, 7.0], [2.0, 4.0]]) or (None, None)
    assert (variance, freedom) == (pytest.approx(0.0, abs=1e-24), 2)
    assert block_residual([[1.0, 2.0]]) is None
    assert block_residual([[1.0], [2.0]]) is None


def test_a_pooled_interval_by_hand() -> None:
    # Twice a variance of 0.5 over 2 seeds: deviation sqrt(0.5); t of 10 is 2.228.
    interval = pooled([1.0, 3.0], (0.5, 10))
    assert interval.value == 2.0
    assert interval.high - 2.0 == pytest.approx(2.228 * sqrt(0.5), abs=1e-3)
    assert interval.is_clear


@pytest.mark.parametrize(
    # (t(0.975, 9) + t(0.8, 9))^2 = (2.262 + 0.883)^2 = 9.89 <= 10, and (2.306 + 0.889)^2 = 10.2 > 9.
    ("difference", "deviation", "seeds"),
    [
        (1.0, 1.0, 10),
        (-1.0, 1.0, 10),
        (1.0, 0.01, 2),
        (1.0, 4.9, 191),
        (1.0, 5.2, None),
        (0.0, 1.0, None),
        (1.0, inf, None),
    ],
)
def test_how_many_seeds_show_a_difference(difference: float, deviation: float, seeds: int | None) -> None:
    assert seeds_needed(difference, deviation) == seeds


def test_resampled_rows() -> None:
    # Equal rows: every sample is the same, 3 nats over 6 tokens.
    assert bootstrap([1.0, 1.0, 1.0], [2.0, 2.0, 2.0]) == Interval(0.5, 0.5, 0.5, 3)
    # A share of 40 successes in 100: the normal interval is 0.4 +- 1.96 sqrt(0.4 x 0.6 / 100).
    interval = bootstrap([1.0] * 40 + [0.0] * 60, [1.0] * 100)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.4, 0.304, 0.496), abs=0.02)
    assert bootstrap([1.0, 2.0, 4.0], [1.0, 1.0, 2.0]) == bootstrap([1.0, 2.0, 4.0], [1.0, 1.0, 2.0])


def test_the_spread_of_seeds() -> None:
    assert spread([1.0, 2.0, 3.0]) == 1.0
    assert spread([1.0]) is None
