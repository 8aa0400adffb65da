"""What a grid shows in a terminal: a line a run, drawn over; elsewhere only what ended."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from sft_research.grid import Became, Grid
from sft_research.live import Live
from tests.grids import grid


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def going_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    """Two of three go on, of which one trains."""
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((71, 24)))
    made = grid(tmp_path, {"lora.r=8": "", "lora.r=16": "", "lora.r=32": ""})
    made.became = dict(
        zip(made.points, [Became("running", host="n1"), Became("running"), Became()], strict=True)
    )
    made.points[0].folder.mkdir()
    state = {"state": "training", "step": 12, "steps": 45, "loss": 0.53214, "left_seconds": 83.2}
    (made.points[0].folder / "state.json").write_text(json.dumps(state))
    return made


def test_each_run_that_goes_on_has_its_line_and_the_rest_a_count(going_on: Grid) -> None:
    console = Terminal()
    Live(going_on, console).show()
    assert console.getvalue().splitlines() == [
        "  lora.r=8   training 12/45  loss 0.532  1 min 23 s left  n1",
        "  lora.r=16  starting",
        "  2 running, 1 waiting of 3 runs",
    ]


def test_what_ended_stays_above_and_the_lines_are_drawn_over(going_on: Grid) -> None:
    console = Terminal()
    with Live(going_on, console) as live:
        live.show()
        console.truncate(0)
        console.seek(0)
        done = Became("finished", loss=0.25)
        going_on.became[going_on.points[0]] = done
        live.ended(going_on.points[0], done)
    folder = going_on.points[0].folder
    assert console.getvalue() == f"\x1b[3A\x1b[J[1/3] lora.r=8  held-out loss 0.2500  {folder}\n"


@pytest.mark.parametrize(("loss", "said"), [(0.25, "held-out loss 0.2500, rests"), (None, "rests")])
def test_a_run_that_paused_rests_with_its_loss_where_it_has_one(
    going_on: Grid, loss: float | None, said: str
) -> None:
    console, point = io.StringIO(), going_on.points[0]
    going_on.became[point] = paused = Became("paused", loss=loss)
    with Live(going_on, console) as live:
        live.ended(point, paused)
    assert console.getvalue().startswith(f"[1/3] lora.r=8  {said}  ")


def test_a_second_drawing_waits_for_a_second(going_on: Grid) -> None:
    console = Terminal()
    live = Live(going_on, console)
    live.show()
    live.show()
    assert console.getvalue().count("waiting of 3 runs") == 1


def test_those_that_were_stopped_are_counted(going_on: Grid) -> None:
    going_on.became[going_on.points[1]] = Became("interrupted")
    console = Terminal()
    Live(going_on, console).show()
    assert console.getvalue().splitlines()[-1] == "  1 interrupted, 1 running, 1 waiting of 3 runs"


def test_more_runs_than_lines_are_counted(going_on: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((72, 4)))
    console = Terminal()
    Live(going_on, console).show()
    assert console.getvalue().splitlines()[1:] == ["... and 1 more", "  2 running, 1 waiting of 3 runs"]


def test_a_log_file_gets_no_lines_that_change(going_on: Grid) -> None:
    console = io.StringIO()
    Live(going_on, console).show()
    assert console.getvalue() == ""
