"""The tables of check.py name settings that exist, and hold what the libraries say."""

from __future__ import annotations

import ast
import inspect
from math import inf
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from sft_research import packing, training
from sft_research.check import (
    GROUPS,
    PARTS,
    numbers_in_range,
    run_settings_are_of_their_type,
    words_are_known,
)
from sft_research.config import CONF_DIR
from sft_research.ranges import CHOICES, RANGES, SETTINGS, TRAINING_IS_SET_BY
from sft_research.signature import parameters
from tests.command_line import composed

SFT_CONFIG = parameters("trl.SFTConfig")


def with_value(key: str, value: Any) -> DictConfig:
    """A composed run whose key has this value, through the option of its group that has the key."""
    overrides = (
        ["dataset=file", "dataset.path=x"] if key.startswith("dataset.") and key != "dataset.rows" else []
    )
    cfg = composed(*overrides).copy()
    assert OmegaConf.select(cfg, key, default="absent") != "absent", f"no option has {key}"
    OmegaConf.update(cfg, key, value)
    return cfg


# key: the least and the most that is allowed, and the nearest that is not
ENDS: dict[str, tuple[list[float], list[float]]] = {
    "lora.r": ([1, 4096], [0, 0.999, 4097]),
    "lora.dropout": ([0, 0.99], [-0.001, 0.991, 1]),
    "optimizer.lr": ([1e-12, 10], [0, -1e-4, 10.1]),
    "optimizer.weight_decay": ([0, 1], [-0.01, 1.01]),
    "model.max_length": ([8, 10_000_000], [7, 10_000_001]),
    "dataset.rows": ([1, 100_000_000], [0, 100_000_001]),
    "dataset.seed": ([0, 4_294_967_295], [-1, 4_294_967_296]),
    "dataset.held_out": ([0, 0.5, 100_000_000], [-0.01, 100_000_001]),
    "dataset.limit": ([1, 1e12], [0]),
    "dataset.held_out_limit": ([1, 1e12], [0]),
    "training.per_device_train_batch_size": ([1, 65_536], [0, 65_537]),
    "training.gradient_accumulation_steps": ([1, 65_536], [0, 65_537]),
    "training.num_train_epochs": ([0.000001, 10_000], [0, 10_001]),
    "training.max_steps": ([-1, 1, 1e12], [-2, -0.5, 0, 0.5]),
    "training.warmup_steps": ([0, 0.05, 1e12], [-1]),
    "training.max_grad_norm": ([0, 1e12], [-0.1]),
    "training.logging_steps": ([1, 1e12], [0, 0.5]),
    "evaluation.questions": ([0, 1_000_000], [-1, 1_000_001]),
    "evaluation.max_new_tokens": ([1, 1_000_000], [0, 1_000_001]),
    "evaluation.batch_size": ([1, 65_536], [0, 65_537]),
    "seed": ([0, 4_294_967_295], [-1, 4_294_967_296]),
    "devices": ([1, 1024], [0, 1025]),
    "pause_at": ([1e-9, 0.5, 1e12], [0, -1]),
}


@pytest.mark.parametrize("key", RANGES)
def test_both_ends_of_a_range_are_in_it_and_what_lies_beyond_is_not(key: str) -> None:
    within, beyond = ENDS[key]
    for value in within:
        assert list(numbers_in_range(with_value(key, value))) == []
    for value in (*beyond, float("nan"), -inf):
        (message,) = numbers_in_range(with_value(key, value))
        assert message.startswith(f"{key}={value} is out of range. Fix: {key}=..., {RANGES[key][2]}, ")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lora.r", 4097, "lora.r=4097 is out of range. Fix: lora.r=..., a rank, from 1 to 4096"),
        ("seed", 2**32, "seed=4294967296 is out of range. Fix: seed=..., a seed, from 0 to 4294967295"),
        (
            "training.logging_steps",
            0,
            "training.logging_steps=0 is out of range. Fix: training.logging_steps=..., steps, 1 or more",
        ),
        (
            "training.max_steps",
            0,
            "training.max_steps=0 is out of range. "
            "Fix: training.max_steps=..., optimizer steps, -1 for whole epochs, 1 or more",
        ),
        (
            "optimizer.lr",  # whose annotation bitsandbytes leaves out
            "fast",
            "optimizer.lr='fast' is of the wrong type: it takes float. Fix: optimizer.lr=..., as float",
        ),
    ],
)
def test_the_refusal_gives_the_numbers(key: str, value: Any, message: str) -> None:
    assert list(numbers_in_range(with_value(key, value))) == [message]


@pytest.mark.parametrize(("key", "value"), [("dataset.held_out", "rows.jsonl"), ("dataset.limit", None)])
def test_a_number_may_be_left_out_or_be_a_file_where_that_means_something(key: str, value: Any) -> None:
    assert list(numbers_in_range(with_value(key, value))) == []


@pytest.mark.parametrize(
    ("key", "value", "annotation"),
    [
        ("seed", 1.5, "int"),
        ("seed", None, "int"),
        ("seed", "x", "int"),
        ("runs_dir", None, "str"),
        ("rerun", "no", "bool"),
    ],
)
def test_a_setting_of_the_run_is_of_its_type(key: str, value: Any, annotation: str) -> None:
    (message,) = run_settings_are_of_their_type(with_value(key, value))
    assert message.startswith(
        f"{key}={value!r} is of the wrong type: it takes {annotation}. Fix: {key}=..., as "
    )


def test_every_key_of_a_run_is_a_part_or_a_setting() -> None:
    assert {*PARTS, *SETTINGS} == set(map(str, composed()))
    assert set(GROUPS) == {p.name for p in CONF_DIR.iterdir() if p.is_dir()} - {"hydra"}


# What the libraries say ----------------------------------------------------------------------------


def test_the_words_are_those_of_transformers() -> None:
    from transformers.trainer_utils import IntervalStrategy, SaveStrategy, SchedulerType

    enums = {"lr_scheduler_type": SchedulerType, "save_strategy": SaveStrategy}
    for key, words in CHOICES.items():
        assert set(words) == {
            member.value for member in enums.get(key.removeprefix("training."), IntervalStrategy)
        }


@pytest.mark.parametrize("key", CHOICES)
def test_a_word_that_transformers_does_not_know_is_refused_with_those_it_knows(key: str) -> None:
    cfg = composed().copy()
    OmegaConf.set_struct(cfg, False)
    for word in CHOICES[key]:
        OmegaConf.update(cfg, key, word)
        assert list(words_are_known(cfg)) == []
    for wrong in ("stepz", False):  # `no` without quotes in YAML is False
        OmegaConf.update(cfg, key, wrong)
        (message,) = words_are_known(cfg)
        assert message.startswith(f"{key}={wrong}: there is no such choice.")
        assert message.endswith(f" Fix: {key}={' or '.join(CHOICES[key])}")


def test_what_another_part_decides_are_fields_of_trl() -> None:
    assert SFT_CONFIG is not None
    assert set(TRAINING_IS_SET_BY) - set(SFT_CONFIG) == set()


def test_no_option_sets_what_another_part_decides() -> None:
    for file in CONF_DIR.glob("training/*.yaml"):
        keys = set(map(str, OmegaConf.load(file))) - {"defaults", "_target_"}  # type: ignore[arg-type]
        assert keys & set(TRAINING_IS_SET_BY) == set()


def test_all_that_the_trainer_sets_itself_is_refused_in_the_training_group() -> None:
    """Each keyword of `build(fields, ...)` and each `args.x = ...`: what was typed there would be lost."""
    tree = [n for module in (training, packing) for n in ast.walk(ast.parse(inspect.getsource(module)))]
    keywords = {
        keyword.arg
        for node in tree
        if isinstance(node, ast.Call) and list(map(ast.unparse, node.args)) == ["fields"]
        for keyword in node.keywords
    }
    assigned = {
        target.removeprefix("args.")
        for node in tree
        if isinstance(node, ast.Assign)
        for target in map(ast.unparse, node.targets)
        if target.startswith("args.")
    }
    assigned -= {"loss_type"}  # of TRL's default alone, for the same numbers in another way
    assigned -= {"_n_gpu"}  # no field
    assert {"learning_rate", "output_dir", "save_only_model"} < keywords
    assert "eval_packing" in assigned
    assert (keywords | assigned) - set(TRAINING_IS_SET_BY) == set()
