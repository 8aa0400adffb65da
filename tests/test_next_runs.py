"""The command that is printed makes the runs that are lacking, and nothing that a stranger wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sft_research.config import compose
from sft_research.next_runs import again, command
from sft_research.past_runs import PastRun

HEAD = "python -m sft_research.train "


def of(said: Any, environment: Any = None) -> PastRun:
    run = PastRun(Path("."), "finished", "", {}, {"command": said})
    run.__dict__["environment"] = {"command": environment}  # where a run without a result says it
    return run


def test_other_values_take_the_place_of_the_old_ones() -> None:
    made = command(of(HEAD + "model=tiny lora.r=8 seed=0"), {"seed": [2, 3], "optimizer.lr": [0.0005]})
    assert made == HEAD + "-m model=tiny lora.r=8 seed=2,3 optimizer.lr=0.0005"
    overrides = [word for word in made.split()[4:] if not word.startswith("seed")]
    assert compose([*overrides, "seed=2"]).cfg.optimizer.lr == 0.0005


def test_a_run_of_a_grid_says_its_command_in_its_environment() -> None:
    words = ["python3", "-m", "sft_research.train", "--config-dir", "my options", "seed=0", "hydra.mode=RUN"]
    assert command(of(None, words), {"seed": [1]}) == HEAD + "-m --config-dir 'my options' seed=1"


@pytest.mark.parametrize(
    "said",
    [
        "rm -rf /",
        "python -m other.module lora.r=8",
        HEAD + "lora.r=8 ; rm -rf /",
        HEAD + "lora.r=8\x1b[2J",
        HEAD + "'unclosed",
        HEAD + "--config-path /evil",
        "",
        None,
        7,
        [HEAD, 3],
    ],
)
def test_what_is_no_command_of_ours_is_not_repeated(said: Any) -> None:
    assert command(of(said), {"seed": [1]}) == ""


def test_words_are_quoted_for_a_shell() -> None:
    made = command(of([*HEAD.split(), "dataset.path=$(reboot);x"]), {"seed": [1]})
    assert made == HEAD + "-m 'dataset.path=$(reboot);x' seed=1"


def test_a_grids_command_is_repeated_under_the_same_checks() -> None:
    said = "python -m sft_research.train -m --config-dir 'my options' lora.r=4,8 hydra/launcher=slurm"
    assert again(said) == said
    evil = "python -m sft_research.train -m lora.r=4 'x=1;$(touch y)'"
    assert again(evil) == evil  # one word, quoted
    for other in (
        "rm -rf runs",
        "python -m sft_research.train -m; rm -rf runs",
        "python -m sft_research.train 'a",
        3,
        None,
    ):
        assert again(other) == ""


def test_the_command_of_a_grid_does_not_start_over_what_is_finished() -> None:
    said = "python -m sft_research.train -m rerun=true lora.r=4,8"
    assert again(said) == "python -m sft_research.train -m lora.r=4,8"
