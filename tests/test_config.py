"""A run's name says what was typed, its id says what decides the result, and any folder may hold own options."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError

from sft_research.config import ROOT, Run, build, compose

CHARACTERS = r"[\w.,=+-]+"  # of a folder name that every file system and W&B take


def name(*overrides: str) -> str:
    return Run(OmegaConf.create({}), overrides, "default").name


# The name ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "default"),
        (["lora.r=32"], "lora.r=32"),
        (["optimizer.lr=0.001", "lora.r=32"], "lora.r=32,optimizer.lr=0.001"),
        (["optimizer.lr=1e-3", "seed=007"], "optimizer.lr=0.001,seed=7"),  # as a grid writes them
        (["+training.seed=1", "lora=dora"], "+training.seed=1,lora=dora"),
        (["runs_dir=/data", "rerun=true", "tracking=none", "tracking.tags=[a]"], "default"),
        (["experiments=demo", "hydra/launcher=slurm", "hydra.launcher.gpus=2", "seed=1"], "seed=1"),
        (["+tracking.tags=[a]", "~tracking", "++rerun=true"], "default"),
        (["tracking_of_mine=1"], "tracking_of_mine=1"),
        (["lora.r=" + "1" * 193], "lora.r=" + "1" * 193),  # 200 characters: whole
        (["lora.r=8", "seed=1", "lora.r=16"], "lora.r=16,seed=1"),  # the last one counts
    ],
)
def test_the_name_is_the_sorted_overrides_that_say_what_a_run_is(overrides: list[str], expected: str) -> None:
    assert name(*overrides) == expected


@pytest.mark.parametrize(
    ("override", "begins"),
    [
        ("dataset.path=/data/my rows.jsonl", "dataset.path=_data_my_rows.jsonl-"),
        ("lora.target_modules=[q_proj,v_proj]", "lora.target_modules=_q_proj,v_proj_-"),
        ("dataset.path=../../etc", "dataset.path=.._.._etc-"),
        ("lora.r=" + "1" * 194, "lora.r=" + "1" * 183 + "-"),  # 201 characters: 190 and a hash
    ],
)
def test_what_cannot_stand_in_a_folder_name_is_replaced_and_hashed(override: str, begins: str) -> None:
    assert re.fullmatch(re.escape(begins) + "[0-9a-f]{8}", name(override))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("dataset.path=a/b", "dataset.path=a_b"),
        ("dataset.path=a/b", "dataset.path=a:b"),
        ("lora.r=" + "1" * 200, "lora.r=" + "1" * 201),
        ("dataset.path=" + "x" * 200 + "1", "dataset.path=" + "x" * 200 + "2"),
    ],
)
def test_two_runs_that_look_alike_once_cleaned_have_different_names(one: str, other: str) -> None:
    assert name(one) != name(other)


@given(st.lists(st.text(min_size=1), max_size=4))
def test_a_name_is_one_short_folder_name_whatever_was_typed(overrides: list[str]) -> None:
    assert re.fullmatch(CHARACTERS, name(*overrides))
    assert len(name(*overrides)) <= 200


@given(st.permutations(["seed=1", "lora.r=8", "model=tiny", "dataset.path=/a/b"]))
def test_the_order_of_typing_does_not_matter(overrides: list[str]) -> None:
    assert name(*overrides) == name("seed=1", "lora.r=8", "model=tiny", "dataset.path=/a/b")


def test_a_secret_that_was_typed_is_not_in_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_thisIsASecret")
    assert "hf_thisIsASecret" not in name("model.name=hf_thisIsASecret")


@pytest.fixture(scope="module")
def default() -> Run:
    return compose()


# The id --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("runs_dir=elsewhere", True),
        ("rerun=true", True),
        ("tracking=none", True),
        ("tracking.project=other", True),
        ("lora.r=16", True),  # what it is already
        ("experiments=demo", False),
        ("lora.r=8", False),
        ("seed=1", False),
        ("evaluation.questions=0", False),
        ("backend=transformers", False),
        ("+training.neftune_noise_alpha=5", False),
    ],
)
def test_the_id_changes_with_what_decides_the_result_and_with_nothing_else(
    override: str, same: bool, default: Run
) -> None:
    assert (compose([override]).id == default.id) is same


def test_the_id_is_of_values_not_of_the_way_they_were_typed() -> None:
    by_reference = compose(["lora.r=8", "lora.alpha=${lora.r}"])
    assert by_reference.id == compose(["lora.alpha=8", "lora.r=8"]).id
    assert re.fullmatch("[0-9a-f]{12}", by_reference.id)


# Composing -----------------------------------------------------------------------------------------


def test_a_run_lies_under_its_experiment() -> None:
    assert compose(["seed=1", "runs_dir=out"]).folder == Path("out/default/seed=1")
    assert compose(["seed=1", "experiments=demo"]).folder == Path("runs/demo/seed=1")
    assert compose(["experiments=demo"]).experiment == "demo"


def test_the_resolved_config_is_plain_and_without_hydra() -> None:
    resolved = compose(["dataset_format=thinking"]).resolved
    assert "hydra" not in resolved
    assert resolved["dataset_format"]["think_tags"] == ["<think>", "</think>"]  # was ${model.think_tags}
    assert json.loads(json.dumps(resolved)) == resolved


def test_a_key_that_is_not_there_can_neither_be_read_nor_set(default: Run) -> None:
    with pytest.raises(ConfigAttributeError):
        _ = default.cfg.lorra
    with pytest.raises(ConfigAttributeError):
        default.cfg.lorra = 1


@pytest.mark.parametrize("folder", ["options", "my options", "a,b=[c] d'e"])
def test_options_of_ones_own_are_found_in_any_folder(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for group, text in {
        "lora": "defaults: [default]\nr: 5",
        "experiments": "# @package _global_\ndefaults:\n  - override /lora: mine\nseed: 7",
    }.items():
        (tmp_path / folder / group).mkdir(parents=True)
        (tmp_path / folder / group / "mine.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    run = compose(["experiments=mine"], config_dir=folder)
    assert (run.cfg.lora.r, run.cfg.lora.alpha, run.cfg.seed, run.experiment) == (5, 16, 7, "mine")
    assert compose(["experiments=demo"], config_dir=folder).experiment == "demo"  # ours are still there


def test_experiments_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (ROOT / "experiments" / "lora_rank.yaml").is_file()
    monkeypatch.chdir(tmp_path)
    assert compose(["experiments=lora_rank"]).cfg.lora.alpha == "r"


def test_a_part_is_built_with_plain_lists_since_peft_and_wandb_write_json() -> None:
    built: Any = build(compose(["lora=attention"]).cfg.lora, dropout=0.5)
    assert type(built.target_modules) is list
    assert built.dropout == 0.5
