"""Colours of a chart: the ends are viridis's own, and ink on them can be read."""

from __future__ import annotations

import pytest

from sft_research.colours import colour, ink_on


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.0, "#440154"),
        (1.0, "#fde725"),
        (0.5, "#21918c"),
        (-1.0, "#440154"),
        (2.0, "#fde725"),
        (1 / 16, "#461768"),  # half way from #440154 to #472d7b: 45.5, 17, 67.5
    ],
)
def test_a_share_has_its_colour(share: float, expected: str) -> None:
    assert colour(share) == expected


@pytest.mark.parametrize(
    ("back", "ink"),
    [("#000000", "#ffffff"), ("#ffffff", "#000000"), ("#440154", "#ffffff"), ("#fde725", "#000000")],
)
def test_ink_is_what_stands_out(back: str, ink: str) -> None:
    assert ink_on(back) == ink
