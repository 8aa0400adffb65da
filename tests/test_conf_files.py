"""Every option of conf/ and every experiment composes, and names real parameters of real targets."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from sft_research import config
from sft_research.check import STRUCTURE, VALUES, check, missing_values
from sft_research.config import CONF_DIR, ROOT, compose, without_hydra
from sft_research.hub import MADE_HERE
from sft_research.ranges import TRAINING_OWN
from sft_research.signature import parameters

FILES = [
    *sorted(CONF_DIR.glob("*/*.yaml")),
    *sorted(CONF_DIR.glob("hydra/*/*.yaml")),
    *sorted(ROOT.glob("experiments/*.yaml")),
]
EXPERIMENTS = sorted(file.stem for file in ROOT.glob("experiments/*.yaml"))


def option_of(file: Path) -> str:
    """conf/hydra/launcher/ray.yaml -> hydra/launcher=ray"""
    root = CONF_DIR if file.is_relative_to(CONF_DIR) else ROOT
    return f"{file.parent.relative_to(root)}={file.stem}"


OPTIONS = [option_of(file) for file in FILES]

# The table of the design, written out: what a person may choose.
TABLE = {
    "model": [
        "smollm2",
        "smollm2_135m",
        "qwen3",
        "qwen3_thinking",
        "deepseek_r1_distill",
        "opt_350m",
        "tiny",
    ],
    "backend": ["unsloth", "transformers"],
    "lora": ["default", "attention", "rslora", "dora", "none", "opt"],
    "dataset": ["arithmetic", "gsm8k", "smoltalk", "file", "hub", "mixture"],
    "dataset_format": [
        "instruction",
        "chat",
        "sharegpt",
        "thinking",
        "question_answer",
        "prompt_completion",
        "text",
    ],
    "optimizer": ["adamw", "adamw_8bit", "paged_adamw_8bit", "lion", "muon", "sgd"],
    "packing": ["none", "grouped", "padding_free", "bfd", "bfd_split", "wrapped"],
    "training": ["default", "quick"],
    "tracking": ["wandb", "trackio", "tensorboard", "none"],
    "hydra/launcher": ["local", "slurm", "slurm_gpu", "ray"],
    "hydra/sweeper": ["grid", "asha"],
    "experiments": ["demo", "lora_rank"],
}
DEFAULTS = {
    "model": "smollm2",
    "backend": "unsloth",
    "lora": "default",
    "dataset": "arithmetic",
    "dataset_format": "thinking",  # arithmetic's own
    "optimizer": "adamw",
    "packing": "none",
    "training": "default",
    "tracking": "wandb",
    "hydra/launcher": "local",
    "hydra/sweeper": "grid",
    "experiments": None,
}


@cache
def composed(option: str, config_dir: Path | None = None) -> DictConfig:
    """A composed run with Hydra's part left in it: the launcher has a target too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "without_hydra", lambda cfg: cfg)
        return compose([option], config_dir).cfg


def plain(cfg: DictConfig) -> Any:
    """Dicts and lists with `${...}` as it is written: Hydra's own part cannot be resolved here."""
    return OmegaConf.to_container(cfg, resolve=False)


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every `_target_` node, in dicts and lists, however deep; not the code under test's own search."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield value
        for item in value.values():
            yield from nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from nodes(item)


@cache
def signature_of(target: str) -> inspect.Signature:
    return inspect.signature(get_object(target))


def assert_keys_are_parameters(node: dict[str, Any]) -> None:
    own = TRAINING_OWN if node["_target_"] == "trl.SFTConfig" else {}
    keys = [key for key in node if not key.startswith("_") and key not in own]
    signature_of(node["_target_"]).bind_partial(**dict.fromkeys(keys))  # TypeError names the unknown key


def assert_names_real_parameters(cfg: DictConfig) -> None:
    found = list(nodes(plain(cfg)))
    assert len(found) >= 10  # nine groups and the evaluation
    for node in found:
        assert_keys_are_parameters(node)


def assert_read_as_it_is(target: str) -> None:
    """What is read from the source has the names of the imported thing, and asks for the same of them."""
    real = signature_of(target).parameters.values()
    named = [p for p in real if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    read = parameters(target)
    if len(named) < len(real):
        assert read is None
    else:
        assert read is not None
        assert set(read) == {p.name for p in named}
        assert {n for n, p in read.items() if p.required} == {p.name for p in named if p.default is p.empty}


# Nothing escapes -----------------------------------------------------------------------------------


def test_the_glob_finds_every_yaml_file_but_train() -> None:
    written = {*CONF_DIR.rglob("*.yaml"), *(ROOT / "experiments").rglob("*.yaml")}
    assert set(FILES) == written - {CONF_DIR / "train.yaml"}
    assert len(FILES) >= 45


def test_the_options_are_those_of_the_design() -> None:
    assert {f"{group}={name}" for group, names in TABLE.items() for name in names} - set(OPTIONS) == set()
    assert {option.partition("=")[0] for option in OPTIONS} == set(TABLE)


def test_the_defaults_are_those_of_the_design() -> None:
    choices = composed("seed=0").hydra.runtime.choices
    assert {group: choices[group] for group in DEFAULTS} == DEFAULTS


def test_hydras_own_launcher_may_be_chosen_too() -> None:
    assert compose(["hydra/launcher=basic"]).cfg.seed == 0


# Every option --------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", OPTIONS)
def test_the_option_names_real_parameters(option: str) -> None:
    assert_names_real_parameters(composed(option))


def test_each_target_is_read_as_it_is() -> None:
    targets = {node["_target_"] for option in OPTIONS for node in nodes(plain(composed(option)))}
    assert {"trl.SFTConfig", "torch.optim.Muon", "bitsandbytes.optim.PagedAdamW8bit"} < targets
    assert {
        f"hydra_plugins.sft_research_launcher.{name}Launcher" for name in ("Local", "Slurm", "Ray")
    } < targets
    for target in sorted(targets):
        if not target.startswith("hydra._internal."):
            assert_read_as_it_is(target)


@pytest.mark.parametrize("option", OPTIONS)
def test_the_option_passes_the_rules_of_structure_and_values(option: str) -> None:
    cfg = without_hydra(composed(option))
    rules = [rule for rule in (*STRUCTURE, *VALUES) if rule is not missing_values]
    assert [message for rule in rules for message in rule(cfg)] == []


def test_what_is_ours_in_the_training_group_is_no_field_of_trl() -> None:
    """A field of that name in a later TRL would be taken from it."""
    assert set(TRAINING_OWN) & set(parameters("trl.SFTConfig") or ()) == set()


def test_only_the_paths_of_own_data_are_left_to_be_filled_in() -> None:
    missing = {option: list(missing_values(without_hydra(composed(option)))) for option in OPTIONS}
    fix = ["dataset.path has no value. Fix: dataset.path=..."]
    assert {o: m for o, m in missing.items() if m} == {"dataset=file": fix, "dataset=hub": fix}


def test_models_that_come_from_no_hub_are_made_here() -> None:
    names = [composed(option).model.name for option in OPTIONS if option.startswith("model=")]
    assert {name for name in names if ":" in name} == set(MADE_HERE)


# Experiments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_experiment_says_what_it_asks_and_what_it_costs(name: str) -> None:
    text = (ROOT / "experiments" / f"{name}.yaml").read_text()
    assert text.startswith("# @package _global_\n")
    labels = re.findall(r"^# (Question|Run|Cost|Expect|Result)  +\S", text, re.MULTILINE)
    assert labels == ["Question", "Run", "Cost", "Expect", "Result"]
    assert f"python -m sft_research.train experiments={name}\n" in text


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_point_of_the_experiment_passes_the_check(name: str) -> None:
    grid = composed(f"experiments={name}").hydra.sweeper.params or {}
    for key, values in grid.items():
        for value in str(values).split(","):
            check(compose([f"experiments={name}", f"{key}={value}"]).cfg)


# The net -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("planted", "error"),
    [
        ("defaults: [default]\nlora_dropuot: 0.1", "lora_dropuot"),
        ("_target_: sft_research.lora.LoRA", "LoRA"),
        ("_target_: sft_research.lroa.Lora", "lroa"),
        ("defaults: [default]\ntarget_modules: [{deep: {_target_: torch.optim.SGD, rate: 1}}]", "rate"),
    ],
)
def test_an_error_planted_in_an_option_is_caught(planted: str, error: str, tmp_path: Path) -> None:
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "planted.yaml").write_text(planted)
    with pytest.raises(Exception, match=error):
        assert_names_real_parameters(composed("lora=planted", tmp_path))


@pytest.mark.parametrize("name", ["renamed", "defaulted", "widened"])
def test_a_signature_that_is_not_as_its_source_says_is_caught(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planted_module.py").write_text(
        "def renamed(a): ...\n"
        "def defaulted(a): ...\n"
        "def widened(a): ...\n"
        "globals().update(renamed=lambda b: 0, defaulted=lambda a=1: 0, widened=lambda a, **more: 0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AssertionError):
        assert_read_as_it_is(f"planted_module.{name}")
