"""Colours of charts that the colour-blind tell apart, on light and dark paper."""

from __future__ import annotations

# Viridis (van der Walt & Smith 2015) at equal distances; even in lightness, so that it prints in grey too.
STOPS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")


def colour(share: float) -> str:
    """From dark violet at 0 to yellow at 1."""
    at = min(max(share, 0.0), 1.0) * (len(STOPS) - 1)
    low = min(int(at), len(STOPS) - 2)
    pair = zip(_rgb(STOPS[low]), _rgb(STOPS[low + 1]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * (at - low)):02x}" for a, b in pair)


def ink_on(back: str) -> str:
    """Black or white, whichever has the larger contrast (WCAG 2.1, relative luminance)."""
    parts = [value / 255 for value in _rgb(back)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#ffffff"


def _rgb(text: str) -> tuple[int, int, int]:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
