"""Settings of two groups that exclude each other, on machines that are not this one."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig

from sft_research import contradictions, hardware, tracking
from sft_research.check import check
from sft_research.contradictions import (
    CONTRADICTIONS,
    EXTRAS,
    PACKAGES,
    bfloat16_needs_hardware,
    evaluation_needs_held_out_rows,
    float16_weights_cannot_all_be_trained,
    four_bit_weights_cannot_be_trained,
    muon_needs_matrices,
    needs_a_package,
    packed_rows_are_not_padded,
    thinking_needs_tags,
    wandb_online_needs_a_key,
    warm_up_fits_in_the_run,
)
from tests.command_line import composed

Rule = Callable[[DictConfig], Iterator[str]]
CHIP = "an old processor"


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU, no bfloat16 units, nobody logged in."""
    monkeypatch.setattr(hardware, "gpu", lambda: False)
    monkeypatch.setattr(hardware, "cpu", lambda: CHIP)
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: False)
    monkeypatch.setattr(contradictions, "wandb_key_is_configured", lambda: False)
    monkeypatch.setattr(tracking, "wandb_key_is_configured", lambda: False)


def said(rule: Rule, *overrides: str) -> list[str]:
    return list(rule(composed(*overrides)))


@pytest.mark.parametrize(
    ("rule", "overrides", "message"),
    [
        (
            four_bit_weights_cannot_be_trained,
            ["model.load_in_4bit=true", "lora=none"],
            "model.load_in_4bit=true with lora=none: 4-bit weights have no gradient. "
            "Fix: lora=default, or model.load_in_4bit=false",
        ),
        (
            four_bit_weights_cannot_be_trained,
            ["model=qwen3", "model.load_in_4bit=false"],
            "model.load_in_4bit=false, but unsloth/Qwen3-4B-unsloth-bnb-4bit holds 4-bit weights and would be "
            "loaded so. Fix: model.name=unsloth/Qwen3-4B, or model.load_in_4bit=true",
        ),
        (
            muon_needs_matrices,
            ["optimizer=muon", "lora=none"],
            "optimizer=muon takes matrices alone, and lora=none trains norms and biases too. "
            "Fix: optimizer=adamw, or lora=default",
        ),
        (
            bfloat16_needs_hardware,
            ["model.dtype=bfloat16"],
            f"model.dtype=bfloat16, but this machine has no GPU and its {CHIP} does not compute in bfloat16: "
            "emulated, it is 34 times slower. Fix: model.dtype=auto (float32 here)",
        ),
        (
            bfloat16_needs_hardware,
            ["model.dtype=float16"],
            "model.dtype=float16 needs a GPU: a CPU run overflows in it. Fix: model.dtype=auto",
        ),
        (
            thinking_needs_tags,
            ["model=opt_350m", "dataset_format=thinking"],
            "dataset_format=thinking, but facebook/opt-350m has no think tags. Fix: "
            "\"model.think_tags=['<think>','</think>']\" to train them as text, or dataset_format=instruction",
        ),
        (
            evaluation_needs_held_out_rows,
            ["dataset.held_out=0"],
            "dataset.held_out=0 leaves nothing to evaluate on, but training.eval_strategy=steps and "
            "evaluation.questions=48. "
            "Fix: training.eval_strategy=no evaluation.questions=0, or dataset.held_out=64",
        ),
        (
            evaluation_needs_held_out_rows,
            ["dataset.held_out=0", "training.eval_strategy=no"],
            "dataset.held_out=0 leaves nothing to evaluate on, but evaluation.questions=48. "
            "Fix: evaluation.questions=0, or dataset.held_out=64",
        ),
        (
            evaluation_needs_held_out_rows,
            ["dataset=hub", "dataset.path=org/rows", "dataset.held_out=0.0", "evaluation.questions=0"],
            "dataset.held_out=0 leaves nothing to evaluate on, but training.eval_strategy=steps. "
            "Fix: training.eval_strategy=no, or dataset.held_out=0.05",
        ),
        (
            warm_up_fits_in_the_run,
            ["training.max_steps=5", "training.warmup_steps=6", "optimizer.lr=0.1"],
            "training.warmup_steps=6 leaves no step of training.max_steps=5: the learning rate never reaches "
            "optimizer.lr=0.1. Fix: training.warmup_steps=0.1 (a share)",
        ),
        (
            warm_up_fits_in_the_run,  # the rate of step s of a warm-up of 5 is s / 5, and s ends at 4
            ["training.max_steps=5", "training.warmup_steps=5", "optimizer.lr=0.1"],
            "training.warmup_steps=5 leaves no step of training.max_steps=5: the learning rate never reaches "
            "optimizer.lr=0.1. Fix: training.warmup_steps=0.1 (a share)",
        ),
        (
            float16_weights_cannot_all_be_trained,
            ["model.dtype=float16", "lora=none"],
            "model.dtype=float16 with lora=none: torch scales no gradients of float16 weights. "
            "Fix: model.dtype=float32, model.dtype=bfloat16, or lora=default",
        ),
        (
            packed_rows_are_not_padded,
            ["+training.pad_to_multiple_of=8", "packing=bfd"],
            "training.pad_to_multiple_of=8 pads rows, and packing=bfd is there to leave padding out. "
            "Fix: training.pad_to_multiple_of=null, or packing=grouped",
        ),
        (
            wandb_online_needs_a_key,
            ["tracking.mode=online"],
            "tracking.mode=online, but W&B has no key. Fix: wandb login, or tracking.mode=offline",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_contradiction_is_said_with_its_numbers_and_its_fix(
    rule: Rule, overrides: list[str], message: str
) -> None:
    assert said(rule, *overrides) == [message]


@pytest.mark.parametrize(
    ("rule", "overrides"),
    [
        (four_bit_weights_cannot_be_trained, ["model=qwen3"]),
        (four_bit_weights_cannot_be_trained, ["lora=none"]),
        (float16_weights_cannot_all_be_trained, ["model.dtype=float16"]),
        (float16_weights_cannot_all_be_trained, ["lora=none"]),
        (muon_needs_matrices, ["optimizer=muon"]),
        (muon_needs_matrices, ["lora=none"]),
        (bfloat16_needs_hardware, ["model.dtype=float32"]),
        (bfloat16_needs_hardware, ["model.dtype=auto"]),
        (thinking_needs_tags, ["model=opt_350m", "dataset_format=chat"]),
        (
            evaluation_needs_held_out_rows,
            ["dataset.held_out=0", "training.eval_strategy=no", "evaluation.questions=0"],
        ),
        (evaluation_needs_held_out_rows, ["dataset=file", "dataset.held_out=rows.jsonl"]),
        (packed_rows_are_not_padded, ["+training.pad_to_multiple_of=8", "packing=grouped"]),
        (packed_rows_are_not_padded, ["packing=padding_free"]),
        (warm_up_fits_in_the_run, ["training.max_steps=5", "training.warmup_steps=4"]),
        (warm_up_fits_in_the_run, ["training.max_steps=-1", "training.warmup_steps=500"]),
        (wandb_online_needs_a_key, ["tracking.mode=auto"]),
        (wandb_online_needs_a_key, ["tracking=none"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_either_side_alone_is_no_contradiction(rule: Rule, overrides: list[str]) -> None:
    assert said(rule, *overrides) == []


def test_hardware_and_keys_lift_the_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(contradictions, "wandb_key_is_configured", lambda: True)
    assert said(bfloat16_needs_hardware, "model.dtype=bfloat16") == []
    assert len(said(bfloat16_needs_hardware, "model.dtype=float16")) == 1
    assert said(wandb_online_needs_a_key, "tracking.mode=online") == []
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: False)
    monkeypatch.setattr(hardware, "gpu", lambda: True)
    for dtype in ("bfloat16", "float16"):
        assert said(bfloat16_needs_hardware, f"model.dtype={dtype}") == []


def test_the_environment_may_ask_for_wandb_online_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    assert said(wandb_online_needs_a_key) == [
        "WANDB_MODE=online, but W&B has no key. Fix: wandb login, or tracking.mode=offline"
    ]
    assert said(wandb_online_needs_a_key, "tracking.mode=offline") == []


@pytest.mark.parametrize(
    ("overrides", "package", "install", "otherwise"),
    [
        (["backend=unsloth"], "unsloth", '-e ".[unsloth]"', "backend=transformers"),
        (["optimizer=lion"], "bitsandbytes", "bitsandbytes", "optimizer=adamw"),
        (["optimizer=paged_adamw_8bit"], "bitsandbytes", "bitsandbytes", "optimizer=adamw"),
        (["model=qwen3"], "bitsandbytes", "bitsandbytes", "model.load_in_4bit=false"),
        (["tracking=wandb"], "wandb", "wandb", "tracking=none"),
        (["tracking=trackio"], "trackio", '-e ".[trackio]"', "tracking=wandb"),
        (["tracking=tensorboard"], "tensorboard", '-e ".[tensorboard]"', "tracking=wandb"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_part_whose_package_is_missing_names_the_package_and_another_part(
    overrides: list[str], package: str, install: str, otherwise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = {name for name, *_ in PACKAGES}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in installed else None)
    assert said(needs_a_package, *overrides) == []
    installed.remove(package)
    (message,) = said(needs_a_package, *overrides)
    said_of_it = f" needs {package}, which is not installed. Fix: pip install {install}, or {otherwise}"
    assert message.endswith(said_of_it)
    assert said(needs_a_package, "backend=transformers", "tracking=none") == []


def test_the_packages_named_are_installed_by_what_the_message_says() -> None:
    """`pip install -e ".[trackio]"` needs an extra of that name, which pip would else pass over with a warning."""
    project = tomllib.loads((Path(contradictions.__file__).parents[1] / "pyproject.toml").read_text())[
        "project"
    ]
    required = {re.split(r"[<>=]", requirement)[0] for requirement in project["dependencies"]}
    named = {package for package, *_ in PACKAGES}
    assert set(EXTRAS) == named & set(project["optional-dependencies"])
    assert named - set(EXTRAS) <= required


def test_every_rule_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {
        value
        for name, value in vars(contradictions).items()
        if callable(value) and getattr(value, "__module__", "") == contradictions.__name__ and name[0] != "_"
    }
    assert rules == set(CONTRADICTIONS)
    asked: list[int] = []
    spies = tuple((lambda cfg, i=i: asked.append(i) or iter(())) for i in range(len(CONTRADICTIONS)))
    monkeypatch.setattr("sft_research.check.CONTRADICTIONS", spies)
    check(composed())
    assert asked == list(range(len(CONTRADICTIONS)))
