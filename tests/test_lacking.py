"""What is not there, in words: half-finished grids above all."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from sft_research import compare_files, lock
from sft_research.compare_data import data
from sft_research.compare_files import table, write
from sft_research.compare_page import page
from sft_research.compare_screen import screen
from sft_research.comparison import Comparison, compare
from sft_research.lacking import lacking, progress
from sft_research.past_grids import find
from sft_research.points import METRICS
from sft_research.verdict import verdict
from tests.compared import grid, run
from tests.swept import point, sweep


def half(place: Path) -> Path:
    """Ranks 4, 8, 16 by rates 1e-3, 1e-2 by seeds 0, 1, of which rank 4 is done but for one run that failed."""
    grid(place, {(4, 1e-3): [0.50, 0.53], (4, 1e-2): [0.4]})
    points = [point(r, lr, seed) for r in (4, 8, 16) for lr in (1e-3, 1e-2) for seed in (0, 1)]
    points[3] |= {"state": "failed", "cause": "killed by signal 9"}
    return sweep(place, points)


def compared(place: Path) -> Comparison:
    return compare(find([place]), METRICS["loss"])


def test_points_to_come_are_named_once_with_their_seeds(tmp_path: Path) -> None:
    folder = half(tmp_path)
    failed = ("failed", ["r=4 lr=0.01 seed=1: killed by signal 9"])
    rest = [
        "r=8 lr=0.001 seed=0,1",
        "r=8 lr=0.01 seed=0,1",
        "r=16 lr=0.001 seed=0,1",
        "r=16 lr=0.01 seed=0,1",
    ]
    assert lacking(compared(tmp_path)) == [failed, ("never started", rest)]
    with lock.held(lock.of(folder), folder):
        assert lacking(compared(tmp_path)) == [failed, ("waiting", rest)]


def test_how_far_a_grid_is_comes_first_with_its_command(tmp_path: Path) -> None:
    folder = half(tmp_path)
    found = verdict(compared(tmp_path))
    # On seed 0 alone two points can be held against each other.
    assert (
        found.title == "Not decided: r=4 lr=0.01 is ahead of r=4 lr=0.001, with one seed each (3 of 12 runs)"
    )
    said = "Of 12 runs that the grid plans, 3 are finished, 1 failed, 8 never started; its own command goes on with it:"
    first = found.findings[0]
    assert (first.kind, first.text) == ("grid", said)
    assert first.commands == ["python -m sft_research.train -m model=tiny lora.r=4,8"]
    with lock.held(lock.of(folder), folder):
        first = verdict(compared(tmp_path)).findings[0]
        assert first.text.endswith("8 are waiting. All below is of those that are finished.")
        assert first.commands == []
    # No more seeds are asked for before the grid has come to its end.
    assert [finding.kind for finding in found.findings] == ["grid", "best", "rows", "edge"]
    assert found.findings[3].commands == []


def test_a_grid_at_its_end_says_nothing_of_itself(tmp_path: Path) -> None:
    run(tmp_path, r=4, loss=0.5)
    run(tmp_path, r=8, loss=0.4)
    sweep(tmp_path, [point(4, state="finished"), point(8, state="finished")])
    assert progress(find([tmp_path])) == ""
    assert verdict(compared(tmp_path)).title == "Not decided: r=8 is ahead of r=4, with one seed each"


def test_no_edge_is_called_while_values_beyond_it_are_planned(tmp_path: Path) -> None:
    grid(tmp_path, {(8, 1e-3): [0.5], (8, 1e-2): [0.4], (8, 1e-4): [0.6]})
    planned = [point(8, lr) for lr in (1e-4, 1e-3, 1e-2)]
    sweep(tmp_path, planned)
    edge = "The best learning rate, 0.01, is the highest of 3 tried: try higher learning rates."
    assert edge in [finding.text for finding in verdict(compared(tmp_path)).findings]
    sweep(tmp_path, [*planned, point(8, 1e-1)])
    assert "edge" not in [finding.kind for finding in verdict(compared(tmp_path)).findings]


def test_what_a_search_has_paused_is_no_loss(tmp_path: Path) -> None:
    grid(tmp_path, {(4, 1e-3): [0.5], (8, 1e-3): [0.4]})
    sweep(tmp_path, [point(4), point(8), point(16, state="paused")])
    found = verdict(compared(tmp_path))
    assert found.findings[0].text == "Of 3 runs that the grid plans, 2 are finished, 1 is paused."
    assert found.title.endswith("with one seed each")


def test_screen_csv_and_json_name_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_files, "draw", lambda *_: [])
    half(tmp_path / "runs")
    found = compared(tmp_path / "runs")
    answer = verdict(found)
    lines = screen(found, answer, colour=False).splitlines()
    assert "  failed        r=4 lr=0.01 seed=1: killed by signal 9" in lines
    assert "  never started r=16 lr=0.001 seed=0,1" in lines
    rows = list(csv.DictReader(io.StringIO(table(found))))
    assert len(rows) == 12
    last = rows[-1]
    assert (last["state"], last["point"], last["seed"], last["lora.r"], last["optimizer.lr"]) == (
        "never started",
        "r=16 lr=0.01",
        "1",
        "16",
        "0.01",
    )
    write(tmp_path / "seen", found, answer, "compare")
    made = json.loads((tmp_path / "seen" / "compare.json").read_text())
    (of_grid,) = made["grids"]
    assert of_grid["runs"] == {"finished": 3, "failed": 1, "never started": 8}
    assert of_grid["command"] == "python -m sft_research.train -m model=tiny lora.r=4,8"
    assert len(made["unfinished"]) == 9
    assert made["missing"] == []


def test_the_page_shows_what_is_to_come(tmp_path: Path) -> None:
    half(tmp_path)
    found = compared(tmp_path)
    made = page(data(found, verdict(found), "compare"))
    assert "3 finished runs of 12, by held-out loss" in made
    assert "<li>failed: r=4 lr=0.01 seed=1: killed by signal 9</li>" in made
    assert "<summary>never started <span>4 points</span></summary><ul><li>r=8 lr=0.001 seed=0,1</li>" in made
    assert (
        made.count('<td class="none to-come" title="no whole point; not all of its runs are finished">·</td>')
        == 4
    )
    assert made.count('<details class="card">') == 3  # of runs that have something to say


def test_values_that_are_there_make_no_grid_where_one_is_known(tmp_path: Path) -> None:
    """Three of four combinations are planned: the fourth is nobody's."""
    losses = {(4, 1e-3): [0.5], (4, 1e-2): [0.4], (8, 1e-3): [0.3]}
    grid(tmp_path / "e", losses)
    assert [at for at, _ in compared(tmp_path).missing] == [{"lora.r": 8, "optimizer.lr": 0.01}]
    sweep(tmp_path / "e", [point(r, lr) for r, lr in losses])
    assert compared(tmp_path).missing == []


def test_a_strangers_grid_moves_no_cursor_and_runs_no_command(tmp_path: Path) -> None:
    run(tmp_path, r=4)
    evil = point(8, state="failed", cause="\x1b[2J<b>") | {
        "overrides": ["lora.r=\x1b]0;x\x07", "seed=\x1b[5m"]
    }
    sweep(tmp_path, [point(4), evil], command="python -c 'print(1)'")
    found = compared(tmp_path)
    answer = verdict(found)
    shown = screen(found, answer, colour=False)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert answer.findings[0].commands == []
    assert "<b>" not in page(data(found, answer, "compare")).partition("<script")[0]
