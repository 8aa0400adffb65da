"""A comparison in the terminal."""

from __future__ import annotations

from pathlib import Path

from sft_research.compare_screen import screen
from sft_research.comparison import compare
from sft_research.past_runs import find
from sft_research.points import METRICS
from sft_research.verdict import verdict
from tests.compared import grid, run, write


def shown(place: Path, colour: bool = False) -> str:
    found = compare(find([place]), METRICS["loss"])
    return screen(found, verdict(found), colour)


def test_the_answer_comes_first_then_the_ranking(tmp_path: Path) -> None:
    grid(tmp_path, {(4, 1e-3): [0.60, 0.71, 0.72], (8, 1e-3): [0.40, 0.50, 0.50]})
    lines = shown(tmp_path).splitlines()
    assert lines[1] == "  r=8 is better than r=4 by more than the spread between seeds"
    assert lines[-4:-1] == [
        "     lora.r    mean  spread  seeds",
        "  1       8  0.4667  0.0577      3",
        "  2       4  0.6767  0.0666      3",
    ]


def test_what_is_not_ranked_stands_below_with_its_reason(tmp_path: Path) -> None:
    grid(tmp_path, {(4, 1e-3): [0.5, 0.6], (8, 1e-3): [0.4, 0.5], (16, 1e-3): [0.4]})
    run(tmp_path, r=32, loss=0.1, results={"loss_tokens": 900})
    failed = run(tmp_path, r=16, seed=1)
    (failed / "result.json").unlink()
    write(failed, "failure.json", {"status": "failed", "error": "Boom", "message": "it broke"})
    text = shown(tmp_path)
    assert "  Not compared with these: loss tokens: 900, not 300\n" in text
    assert "  failed        r=16 seed=1: Boom: it broke\n" in text
    assert "  missing       r=32 seed=1\n" in text
    assert "  -      16  0.4000              1  lacks seed 1\n" in text


def test_colours_are_there_where_they_are_asked_for(tmp_path: Path) -> None:
    grid(tmp_path, {(4, 1e-3): [0.5], (8, 1e-3): [0.4]})
    assert "\x1b[" not in shown(tmp_path)
    assert shown(tmp_path, colour=True).splitlines()[1].startswith("\x1b[1m  Not decided: ")


def test_a_strangers_folder_moves_no_cursor(tmp_path: Path) -> None:
    place = tmp_path / "a\x1b[2Jb"
    run(place, r=4, alpha="\x1b[31mr", seed="\x1b[5m")
    failed = run(place, r=8, alpha="\x1b[32mr")
    (failed / "result.json").unlink()
    write(failed, "failure.json", {"error": "\x1b]0;x\x07", "message": "\x1b[2J"})
    assert "\x1b" not in shown(place)
    assert "\x07" not in shown(place)


def test_a_long_ranking_is_cut(tmp_path: Path) -> None:
    grid(tmp_path, {(r, 1e-3): [0.5 + r / 100] for r in range(1, 44)})
    text = shown(tmp_path)
    assert "\n  40      40  " in text
    assert "\n  41" not in text
    assert "\n  and 3 more\n" in text
