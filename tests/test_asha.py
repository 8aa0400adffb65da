"""hydra/sweeper=asha refuses what it could not hold against each other, and searches with runs that really train."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_research.config import ConfigError, compose
from tests.command_line import train as guarded
from tests.forked import Ended, differences
from tests.runs import TINY, started
from tests.searches import search

ASHA = ("-m", "model=tiny", "hydra/sweeper=asha")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["dataset=arithmetic,gsm8k"],
            "dataset decides the rows, and a search holds losses on the same rows against each other. "
            "Fix: dataset=..., one value, or hydra/sweeper=grid",
        ),
        (["dataset.rows=10,20"], "dataset.rows decides the rows"),
        (
            ["lora.r=4,8", "seed=0,1"],
            "seed varies, and a search would end with the luckiest. "
            "Fix: seed=0, and then its best points over seeds by hydra/sweeper=grid",
        ),
        (["model.max_length=256,512"], "model.max_length decides the rows"),
        (
            ["training.num_train_epochs=1,2"],
            "training.num_train_epochs decides how long a run is, and hydra.sweeper.smallest=0.25 is a share of "
            "that. Fix: hydra.sweeper.smallest=LOSS_TOKENS, 1 or more",
        ),
        (
            ["lora.r=4,8", "dataset.held_out=0"],
            "dataset.held_out=0, and a search compares held-out losses. Fix: dataset.held_out=0.1",
        ),
        (
            ["lora.r=4,8", "tracking=none,wandb"],
            "tracking changes no number of a run: two trials would write",
        ),
        (["lora.r=4,8", "devices=1,2"], "devices varies, and every trial is given the same. Fix: devices=1"),
        (["lora.r=4,8", "rerun=true"], "rerun=true starts a run over, and a search goes on with its runs"),
        (
            ["lora.r=4,8", "pause_at=2000"],
            "pause_at=2000, and a search says where its runs pause. "
            "Fix: hydra.sweeper.smallest=2000, its first budget, and pause_at=null",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        search(*overrides, smallest=0.25)
    assert str(refused.value).startswith(said)


def test_a_first_budget_within_the_warm_up_is_refused() -> None:
    """By 3 down to a hundredth there are 1/81, 1/27, 1/9, ..."""
    with pytest.raises(ConfigError) as refused:
        search("lora.r=4,8", "training.warmup_steps=0.05", smallest=0.01)
    assert str(refused.value) == (
        "the first budget, 0.0123 of the steps, ends in the warm-up, 0.05 of them, where all trials are alike. "
        "Fix: hydra.sweeper.smallest=0.111"
    )
    assert search("lora.r=4,8", "training.warmup_steps=0.05", smallest=0.1).knobs.rungs.budget(0) == 1 / 9


def test_budgets_in_tokens_let_runs_differ_in_length() -> None:
    assert search("training.num_train_epochs=1,2", smallest=500).space.grid == 2


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"trials": 0}, "hydra.sweeper.trials=0 cannot be. Fix: hydra.sweeper.trials=..., 1 or more"),
        ({"trials": "many"}, "hydra.sweeper.trials=many cannot be. Fix: hydra.sweeper.trials=..., 1 or more"),
        (
            {"reduction": 1},
            "hydra.sweeper.reduction=1 cannot be. Fix: hydra.sweeper.reduction=..., 2 or more",
        ),
        ({"parallel": 0}, "hydra.sweeper.parallel=0 cannot be. Fix: hydra.sweeper.parallel=..., 1 or more"),
        ({"seed": -1}, "hydra.sweeper.seed=-1 cannot be. Fix: hydra.sweeper.seed=..., 0 or more"),
        (
            {"smallest": 0},
            "hydra.sweeper.smallest=0 cannot be. Fix: hydra.sweeper.smallest=..., loss tokens, or a share of "
            "the steps",
        ),
        (
            {"smallest": 0.5, "reduction": 3},
            "hydra.sweeper.smallest=0.5 and reduction=3 leave no budget below a whole run, so that nothing is halved. "
            "Fix: hydra.sweeper.smallest=0.333",
        ),
        (
            {"sampler": "grid"},
            "hydra.sweeper.sampler=grid cannot be. Fix: hydra.sweeper.sampler=..., tpe or random",
        ),
    ],
)
def test_a_knob_out_of_range_is_refused(knobs: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        search("lora.r=4,8", **knobs)
    assert str(refused.value) == said


def test_only_what_would_decide_otherwise_is_another_search() -> None:
    made = search("lora.r=4,8", sampler="tpe", seed=3, smallest=0.25, reduction=4)
    assert made.folder == Path("runs/default/grids/asha-tpe-3-4-0.25,lora.r=4,8,model=tiny")
    assert search("lora.r=4,8", trials=3, parallel=2).folder == search("lora.r=4,8", trials=9).folder
    assert search("lora.r=4,8", seed=1).folder != search("lora.r=4,8").folder
    assert search("lora.r=4,8").folder != search("lora.r=4,16").folder


def test_without_optuna_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "optuna.py").write_text("raise ImportError('hidden by a test')\n")
    done = guarded([*ASHA, "lora.r=4,8"], tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        'hydra/sweeper=asha needs optuna. Fix: pip install -e ".[asha]", or hydra/sweeper=grid\n',
    )


def test_a_launcher_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    done = guarded([*ASHA, "hydra/launcher=basic", "lora.r=4,8"], tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "hydra/sweeper=asha needs a launcher of ours. Fix: hydra/launcher=local\n",
    )


@pytest.mark.long
def test_a_search_really_trains_and_its_best_is_as_a_run_that_never_paused(
    untouched: Callable[..., tuple[Path, Ended]], tmp_path: Path
) -> None:
    """Two trials paused at step 3 of 6, and the better one trained to the end."""
    typed = [*TINY, "tracking=none", "backend=transformers", "training.save_strategy=no"]
    asha = ["hydra/sweeper=asha", "hydra.sweeper.reduction=2", "hydra.sweeper.smallest=0.5"]
    done = started(["-m", *asha, *typed, "lora.r=2,4"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = tmp_path.glob("runs/default/grids/*/sweep.json")
    points = json.loads(file.read_text())["points"]
    (best,) = [point for point in points if point["state"] == "finished"]
    (other,) = [point for point in points if point["state"] == "paused"]
    assert best["losses"][0] < other["losses"][0]
    overrides = (*typed, best["label"])
    whole, _ = untouched(*overrides)
    assert differences(whole, tmp_path / compose(overrides).folder) == []
    tokens = json.loads((whole / "result.json").read_text())["loss_tokens"]
    assert best["loss_tokens"] == tokens
    assert other["loss_tokens"] < tokens
    assert (
        f"{best['loss_tokens'] + other['loss_tokens']:,} with loss; the whole grid, 2 x {tokens:,}"
        in done.stdout
    )
