"""A search finds the known winner of a formula in the tokens that were counted by hand, killed or not."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sft_research import launcher
from sft_research.asha import searched
from sft_research.launcher import GridFailed
from sft_research.point import Ended, Point
from tests.searches import Formula, search

ROOT = Path(__file__).parents[1]
GRID = ("lora.r=4,8,16", "optimizer.lr=1e-4,1e-3,1e-2")
WHOLE = 9 * 900  # loss tokens of the whole grid


def loss(words: dict[str, str], tokens: int) -> float:
    """Lowest at r=8 and 1e-3, at every budget."""
    far = abs(math.log10(float(words["optimizer.lr"])) + 3) + 0.1 * abs(int(words["lora.r"]) - 8)
    return 1 + far + 100 / tokens


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launcher, "LOOK_S", 0.0)


def sweep() -> dict[str, Any]:
    (file,) = Path.cwd().glob("runs/default/grids/*/sweep.json")
    return json.loads(file.read_text())


def in_order(words: dict[str, str], tokens: int, seen: list[str] | None = None) -> float:
    """Each new trial is worse than the one before it."""
    seen = ORDER if seen is None else seen
    name = f"{words['lora.r']} {words['optimizer.lr']}"
    if name not in seen:
        seen.append(name)
    return 1 + seen.index(name) + 100 / tokens


ORDER: list[str] = []


def test_the_tokens_are_those_counted_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """Trial 0 goes on after 3, 1 after 6, 2 after 9, then 0 to the end: 9 x 100 + 3 x 200 + 600 tokens."""
    ORDER.clear()
    engine = Formula(in_order)
    searched(search(*GRID), engine)
    assert [tokens for _, tokens in engine.jobs] == [*[100] * 3, 300, *[100] * 3, 300, *[100] * 3, 300, 900]
    first = engine.jobs[0][0]
    assert engine.jobs[-1] == (first, 900)
    assert sum(point["loss_tokens"] for point in sweep()["points"]) == 6 * 100 + 2 * 300 + 900 == 2100
    said = capsys.readouterr().out
    assert f"best      {first}\n            held-out loss 1.1111\n" in said
    assert "9 trials, 1 of them to the end of their run" in said
    assert "2,100 with loss; the whole grid, 9 x 900, would take 8,100: 3.9 times as many" in said
    assert f"whole run python -m sft_research.train model=tiny {first}" in said


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_known_winner_is_found(sampler: str) -> None:
    engine = Formula(loss)
    searched(search(*GRID, sampler=sampler), engine)
    ended = {point["label"]: point for point in sweep()["points"] if point["state"] == "finished"}
    assert min(ended, key=lambda label: ended[label]["loss"]) == "lora.r=8 optimizer.lr=0.001"
    assert sum(point["loss_tokens"] for point in sweep()["points"]) < WHOLE / 2


def test_sweep_json_says_of_each_trial_how_far_it_came() -> None:
    searched(search("lora.r=4,8,16", "optimizer.lr=1e-3", trials=3), Formula(loss))
    points = {point["label"]: point for point in sweep()["points"]}
    keys = ("state", "loss", "values", "rung", "pause_at", "losses", "loss_tokens")
    assert {label: [point[key] for key in keys] for label, point in points.items()} == {
        "lora.r=4": ["paused", 2.4, {"lora.r": "4"}, 0, 1 / 9, [2.4], 100],
        # Of three one goes on, and as the leader to the end.
        "lora.r=8": ["finished", 1 + 1 / 9, {"lora.r": "8"}, 2, None, [2.0, 1 + 1 / 3, 1 + 1 / 9], 900],
        "lora.r=16": ["paused", 2.8, {"lora.r": "16"}, 0, 1 / 9, [2.8], 100],
    }


def test_budgets_in_loss_tokens_end_where_a_run_does() -> None:
    """100, 300, and 900 is a whole run; 2,700 is asked of nobody."""
    engine = Formula(loss)
    searched(search(*GRID, smallest=100), engine)
    assert {tokens for _, tokens in engine.jobs} == {100, 300, 900}
    ended = [point for point in sweep()["points"] if point["state"] == "finished"]
    assert "lora.r=8 optimizer.lr=0.001" in [point["label"] for point in ended]
    assert {point["pause_at"] for point in ended} == {900}


def test_a_trial_that_fails_is_named_and_the_search_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    def failing(words: dict[str, str], tokens: int) -> float:
        return -1 if words["lora.r"] == "8" else loss(words, tokens)

    with pytest.raises(GridFailed) as failed:
        searched(search("lora.r=4,8,16", "optimizer.lr=1e-3", trials=3), Formula(failing))
    assert str(failed.value) == "1 of 3 runs failed\n  lora.r=8: it cannot be"
    assert [(p["label"], p["state"]) for p in sorted(sweep()["points"], key=lambda p: p["label"])] == [
        ("lora.r=16", "paused"),
        ("lora.r=4", "finished"),
        ("lora.r=8", "failed"),
    ]
    assert "best      lora.r=4\n" in capsys.readouterr().out


def test_a_run_that_was_interrupted_keeps_its_losses_and_goes_on_with_the_same_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stopped at its second rung, by somebody else: the others go on, and it is still known by its first."""

    class Stopping(Formula):
        def trained(self, point: Point) -> Ended:
            stops = point.label.startswith("lora.r=8") and f"pause_at={1 / 9}" not in point.command
            return Ended(143, "Interrupted.\n") if stops else super().trained(point)

    asked = ("lora.r=4,8,16", "optimizer.lr=1e-3")
    with pytest.raises(GridFailed, match=r"1 of 3 runs failed\n  lora\.r=8: interrupted"):
        searched(search(*asked, trials=3), Stopping(loss))
    interrupted = {point["label"]: point for point in sweep()["points"]}["lora.r=8"]
    assert (interrupted["state"], interrupted["rung"], interrupted["losses"]) == ("interrupted", 1, [2.0])
    assert (
        "best      lora.r=8\n            held-out loss 2.0000, on its way at rung 0\n"
        in capsys.readouterr().out
    )
    again = Formula(loss)
    searched(search(*asked, trials=3), again)
    assert again.jobs == [("lora.r=8", 300), ("lora.r=8", 900)]


def test_a_budget_at_which_nothing_is_learned_yet_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    def warming_up(words: dict[str, str], tokens: int) -> float:
        return 5.5 if tokens == 100 else loss(words, tokens)

    with caplog.at_level("WARNING", "sft_research"):
        searched(search(*GRID, trials=4), Formula(warming_up))
    assert [record.getMessage() for record in caplog.records] == [
        "Two trials have the same held-out loss, 5.5000, at the budget of rung 0: as in a warm-up, where nothing is "
        "learned yet. Fix: hydra.sweeper.smallest=..., more than 0.111111"
    ]


def test_the_same_command_again_runs_nothing_and_more_trials_run_what_is_new() -> None:
    searched(search(*GRID, trials=4), Formula(loss))
    before = sweep()
    again = Formula(loss)
    searched(search(*GRID, trials=4), again)
    assert (again.jobs, sweep()) == ([], before)
    more = Formula(loss)
    searched(search(*GRID, trials=9), more)
    assert [p["label"] for p in sweep()["points"]][:4] == [p["label"] for p in before["points"]]
    assert len(sweep()["points"]) == 9
    labels = {p["label"] for p in before["points"]}
    assert [job for job in more.jobs if job[0] in labels and job[1] == 100] == []


def test_runs_that_a_grid_has_finished_are_taken_and_not_made_again() -> None:
    made = search(*GRID)
    done = Formula(loss)
    for r in (4, 8, 16):  # as a grid of the same folder would have left them
        values = {"lora.r": str(r), "optimizer.lr": "0.001"}
        made._begin(values, rung=2)
    done.start(made, made.points)
    while not done.idle:
        list(done.poll())
    engine = Formula(loss)
    searched(search(*GRID), engine)
    assert [label for label, _ in engine.jobs if "0.001" in label] == []
    assert len(sweep()["points"]) == 9


def test_another_seed_is_another_search() -> None:
    folders = [search(*GRID, seed=seed).folder for seed in (0, 1)]
    assert folders[0] != folders[1]
    engines = [Formula(loss), Formula(loss)]
    for seed, engine in enumerate(engines):
        searched(search(*GRID, seed=seed, trials=5), engine)
    drawn = [
        [p["label"] for p in json.loads((folder / "sweep.json").read_text())["points"]] for folder in folders
    ]
    assert drawn[0] != drawn[1]


# One process a call: it drives the search, and is killed by SIGKILL in its n-th run.
DRIVER = """
import os, signal, sys
from sft_research import launcher
from sft_research.asha import searched
from tests.searches import Formula, search
from tests.test_search import GRID, loss

launcher.LOOK_S = 0.0
left = int(sys.argv[1])

def killed(words, tokens):
    global left
    if (left := left - 1) == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(words, tokens)

engine = Formula(killed)
searched(search(*GRID, sampler="tpe"), engine)
"""


def test_a_driver_that_is_killed_and_started_again_gives_the_same_table(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    os.chdir(whole)
    untouched = Formula(loss)
    searched(search(*GRID, sampler="tpe"), untouched)
    expected = sweep()

    torn = tmp_path / "torn"
    torn.mkdir()
    os.chdir(torn)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for at in (2, 4, 5):
        done = subprocess.run([sys.executable, "-c", DRIVER, str(at)], cwd=torn, env=environment)
        assert done.returncode == -9
    last = Formula(loss)
    searched(search(*GRID, sampler="tpe"), last)
    assert sweep() == expected
    # Each driver was killed in a run that it had not finished, which the next began with.
    assert len(last.jobs) == len(untouched.jobs) - (1 + 3 + 4)
