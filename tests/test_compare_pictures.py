"""The charts as files for a paper."""

from __future__ import annotations

import struct
from pathlib import Path

from sft_research.compare_data import data
from sft_research.compare_pictures import draw
from sft_research.comparison import compare
from sft_research.past_runs import find
from sft_research.points import METRICS
from sft_research.verdict import verdict
from tests.compared import run


def drawn(place: Path, out: Path) -> dict[str, tuple[int, int]]:
    """{name: (width, height)} in pixels."""
    found = compare(find([place]), METRICS["loss"])
    out.mkdir()
    files = draw(data(found, verdict(found), ""), out)
    return {file.name: struct.unpack(">II", file.read_bytes()[16:24]) for file in files}


def test_each_chart_of_the_page_is_a_picture(tmp_path: Path) -> None:
    for r in (4, 8):
        for lr in (1e-3, 1e-2):
            for alpha in (8, "$r"):  # no formula
                run(tmp_path / "runs", r=r, lr=lr, alpha=alpha, loss=r * lr)
    # Two columns are 7 inches wide and one is 4.6, of 300 dots.
    assert drawn(tmp_path / "runs", tmp_path / "seen") == {
        "curves.png": (2100, 960),
        "heatmaps.png": (2100, 900),
        "best_learning_rate.png": (1380, 840),
        "parallel.png": (1380, 900),
    }


def test_there_is_no_picture_of_nothing(tmp_path: Path) -> None:
    folder = run(tmp_path / "runs")
    (folder / "metrics.jsonl").unlink()
    assert drawn(tmp_path / "runs", tmp_path / "seen") == {}
