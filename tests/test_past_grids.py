"""Grids read back: what is planned, what became of it, and nothing that a stranger's file leads to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sft_research import lock
from sft_research.config import ConfigError
from sft_research.past_grids import command_of, find, value
from tests.compared import run, write
from tests.swept import COMMAND, point, sweep


def states(place: Path) -> dict[str, tuple[str, str]]:
    """{"r=8 seed=0": (state, why)}"""
    found = find([place])
    return {f"r={one.planned.get('lora.r')} seed={one.seed}": (one.state, one.why) for one in found}


def unfinished(place: Path, r: int, seed: int = 0) -> Path:
    folder = run(place, r, seed=seed)
    (folder / "result.json").unlink()
    return folder


def test_points_without_a_folder_are_told_by_their_grid(tmp_path: Path) -> None:
    run(tmp_path, r=4)
    planned = [
        point(4, state="finished", loss=0.5),
        point(4, seed=1),
        point(8, state="running", host="n1"),
        point(8, seed=1, state="failed", cause="no node has a GPU"),
        point(16, state="interrupted"),
        point(16, seed=1, state="finished", loss=0.25),
    ]
    grid = sweep(tmp_path, planned)
    gone = ("absent", "finished with a loss of 0.2500, and its folder is not here")
    rest = {
        "r=8 seed=1": ("failed", "no node has a GPU"),
        "r=16 seed=0": ("interrupted", ""),
        "r=16 seed=1": gone,
    }
    nothing = ("never started", "")
    done = {"r=4 seed=0": ("finished", "")}
    assert states(tmp_path) == {**done, "r=4 seed=1": nothing, "r=8 seed=0": nothing, **rest}
    with lock.held(lock.of(grid), grid):
        coming = {"r=4 seed=1": ("waiting", ""), "r=8 seed=0": ("running", "")}
        assert states(tmp_path) == {**done, **coming, **rest}


def test_a_killed_run_is_told_by_its_grid_and_a_run_that_speaks_by_itself(tmp_path: Path) -> None:
    unfinished(tmp_path, 4)
    spoke = unfinished(tmp_path, 8)
    write(spoke, "failure.json", {"status": "failed", "error": "Boom", "message": "it broke", "step": 2})
    planned = [
        point(4, state="failed", cause="killed by signal 9, as a system that is out of memory does"),
        point(8, state="failed", cause="Boom: it broke; failure.json"),
    ]
    grid = sweep(tmp_path, planned)
    by_signal = "killed by signal 9, as a system that is out of memory does, at step 3"
    assert states(tmp_path) == {
        "r=4 seed=0": ("failed", by_signal),
        "r=8 seed=0": ("failed", "Boom: it broke (step 2)"),
    }
    # A later process of it was killed, and the older one's word lies there still; then it was run again alone.
    planned[1] |= {"cause": "killed by signal 9"}
    sweep(tmp_path, planned)
    os.utime(spoke / "failure.json", (1, 1))
    assert states(tmp_path)["r=8 seed=0"] == ("failed", "killed by signal 9, at step 3")
    os.utime(grid / "sweep.json", (0, 0))
    assert states(tmp_path)["r=8 seed=0"] == ("failed", "Boom: it broke (step 2)")


def test_an_interrupted_run_waits_for_its_turn_while_its_grid_goes_on(tmp_path: Path) -> None:
    folder = unfinished(tmp_path, 4)
    write(folder, "failure.json", {"status": "interrupted", "error": "Stopped", "message": "SIGTERM"})
    grid = sweep(tmp_path, [point(4)])
    assert states(tmp_path) == {"r=4 seed=0": ("interrupted", "Stopped: SIGTERM")}
    with lock.held(lock.of(grid), grid):
        assert states(tmp_path) == {"r=4 seed=0": ("waiting", "interrupted before, at step 3")}


def test_the_folder_of_a_grid_holds_its_points_alone(tmp_path: Path) -> None:
    for r in (4, 8, 16):
        run(tmp_path, r=r)
    one, _ = (
        sweep(tmp_path, [point(4, state="finished"), point(32)]),
        sweep(tmp_path, [point(4), point(8)], "h"),
    )
    found = find([one])
    assert [(r.planned["lora.r"], r.state, r.is_there) for r in found] == [
        (4, "finished", True),
        (32, "never started", False),
    ]
    both = find([one.parent])
    assert [(r.planned["lora.r"], [g.name for g in r.grids]) for r in both] == [
        (4, ["g", "h"]),
        (32, ["g"]),
        (8, ["h"]),
    ]
    everything = find([tmp_path])
    assert [r.state for r in everything].count("finished") == 3
    assert len(everything) == 4
    assert command_of(one) == COMMAND


def test_a_grid_that_has_just_begun_is_one(tmp_path: Path) -> None:
    grid = sweep(tmp_path / "runs" / "e", [point(4), point(8)])
    assert [one.state for one in find([tmp_path / "runs"])] == ["never started"] * 2
    (grid / "sweep.json").write_text('{"points": [')
    with pytest.raises(ConfigError, match=r"grids/g holds no sweep\.json that can be read\. Fix: "):
        find([grid])


@pytest.mark.parametrize(
    "folder",
    ["../../../other", "/etc", "../../..", "../../.", "../../a/b", "../../grids", "x", "", 3, None, ["a"]],
)
def test_a_point_lies_beside_its_grid_or_nowhere(tmp_path: Path, folder: object) -> None:
    run(tmp_path / "other", r=4)
    sweep(tmp_path / "e", [point(8), point(4) | {"folder": folder}])
    assert [one.planned["lora.r"] for one in find([tmp_path / "e"])] == [8]


def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    elsewhere = run(tmp_path / "elsewhere", r=4)
    grid = sweep(tmp_path / "e", [point(4, state="finished"), point(8)])
    (tmp_path / "e" / elsewhere.name).symlink_to(elsewhere)
    out = ("unfinished", "its folder is a link that leads out of the experiment's")
    assert states(grid) == {"r=4 seed=0": out, "r=8 seed=0": ("never started", "")}
    sweep(tmp_path / "f", [point(16)])
    shutil.rmtree(tmp_path / "f" / "grids" / "g")
    (tmp_path / "f" / "grids" / "g").symlink_to(grid)
    run(tmp_path / "f", r=2)
    assert [one.grids for one in find([tmp_path / "f"])] == [()]


def test_what_a_stranger_writes_is_plain_text_and_numbers(tmp_path: Path) -> None:
    evil = point(4) | {
        "state": ["x"],
        "cause": {"a": "\x1b[2J"},
        "loss": "much",
        "overrides": ["lora.r=4\x1b[2J", 3, "--x"],
    }
    rest = [point(8, state="failed", cause="\x1b]0;x\x07" * 900), 7, None, {"folder": "../../a\0b"}]
    sweep(tmp_path, [evil, *rest])
    (first, second) = find([tmp_path])
    assert (first.state, first.why, first.planned) == ("never started", "", {"lora.r": "4\x1b[2J"})
    assert second.why.isprintable()
    assert len(second.why) <= 300
    sweep(tmp_path, {"a": 1})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="holds no run"):
        find([tmp_path])


def test_a_word_is_a_number_or_itself() -> None:
    assert [value(word) for word in ("8", "3e-4", "2r", "[q_proj]", "")] == [8, 3e-4, "2r", "[q_proj]", ""]
