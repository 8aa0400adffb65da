"""Shares of variance worked by hand on grids of two by two."""

from __future__ import annotations

import pytest

from sft_research.effects import beyond, effects, product_alone

GRID = [{"r": r, "lr": lr} for r in (4, 8) for lr in (0.1, 0.2)]


def test_shares_of_a_whole_grid_by_hand() -> None:
    # 1 2 / 3 6: mean 3. Rank 1.5 against 4.5: 4 x 2.25 = 9. Rate 2 against 4: 4 x 1 = 4. In all 14; 1 is left.
    by_key = {effect.key: effect for effect in effects(GRID, [1.0, 2.0, 3.0, 6.0], None)}
    assert list(by_key) == ["r", "lr"]  # the larger first
    assert (by_key["r"].share, by_key["lr"].share) == (pytest.approx(9 / 14), pytest.approx(4 / 14))
    assert by_key["r"].means == {4: 1.5, 8: 4.5}
    assert by_key["r"].p is None
    assert by_key["r"].is_clear


def test_a_setting_is_held_against_the_spread_between_seeds() -> None:
    # F = 9 / 1 / 2 = 4.5 of 1 and 10: p = 0.0599; F = 2 for the rate: 0.188.
    r, lr = effects(GRID, [1.0, 2.0, 3.0, 6.0], (2.0, 10))
    assert (r.p, lr.p) == (pytest.approx(0.0599, abs=2e-4), pytest.approx(0.1877, abs=2e-4))
    assert (r.is_clear, lr.is_clear) == (False, False)
    assert effects(GRID, [1.0, 2.0, 3.0, 6.0], (0.5, 10))[0].is_clear


def test_a_point_that_is_missing_does_not_lend_its_weight() -> None:
    # 1 2 / 3 .: additive fits all three. Without rank: rates 2 and 2, so 2 + 0 is left of 2: all of it is rank's.
    # Without rate: ranks 1.5 and 3, so 0.5 is left.
    by_key = {effect.key: effect.share for effect in effects(GRID[:3], [1.0, 2.0, 3.0], None)}
    assert by_key == {"r": pytest.approx(1.0), "lr": pytest.approx(0.25)}


def test_equal_points_have_no_shares() -> None:
    assert [effect.share for effect in effects(GRID, [1.0] * 4, None)] == [0.0, 0.0]


def test_the_product_alone_by_hand() -> None:
    # Products 1, 2, 2, 4 with means 1, 2, 3, 6: only 2 and 3 share one, and leave 0.5 of 14.
    found = product_alone([1.0, 2.0, 2.0, 4.0], [1.0, 2.0, 3.0, 6.0], None)
    assert found is not None
    # Adjusted: 1 - (0.5 / 14) x (4 - 1) / (4 - 3).
    assert found.adjusted == pytest.approx(1 - 1.5 / 14)
    assert (found.share, found.products, found.points) == (pytest.approx(1 - 0.5 / 14), 3, 4)
    assert found.is_all is None
    # F = 0.5 / 1 / 0.1 = 5 of 1 and 10: p = 0.0493, just more than chance; over 0.2 it is 2.5, and chance.
    clear = product_alone([1.0, 2.0, 2.0, 4.0], [1.0, 2.0, 3.0, 6.0], (0.1, 10))
    assert clear is not None
    assert (clear.p, clear.is_all) == (pytest.approx(0.0493, abs=2e-4), False)
    chance = product_alone([1.0, 2.0, 2.0, 4.0], [1.0, 2.0, 3.0, 6.0], (0.2, 10))
    assert chance is not None
    assert chance.is_all is True


@pytest.mark.parametrize("products", [[1.0, 2.0, 3.0, 4.0], [1.0] * 4, [1.0, None, 1.0, 2.0]])
def test_where_the_product_cannot_be_told_apart_nothing_is_said(products: list[float | None]) -> None:
    assert product_alone(products, [1.0, 2.0, 3.0, 6.0], None) is None


def test_what_is_beyond_each_setting_alone() -> None:
    """0, 0, 0, 4: (4 - 0 - 0 + 0)^2 / 4 = 4 of 1 + 1 + 1 + 9 = 12."""
    settings = [{"a": a, "b": b} for a in (0, 1) for b in (0, 1)]
    assert beyond(settings, [0.0, 0.0, 0.0, 4.0]) == pytest.approx(1 / 3)
    assert beyond(settings[:3], [0.0, 1.0, 3.0]) is None  # three numbers fit any three points
