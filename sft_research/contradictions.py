"""Settings that exclude each other, across groups: each rule gives messages with the override that fixes it.

Nothing here imports torch: packages are looked for, hardware is asked of the system.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sft_research import hardware
from sft_research.tracking import wandb_key_is_configured, wandb_mode

# (package, part of the config, how its target begins or ends, what else to choose)
PACKAGES = (
    ("unsloth", "backend", ".Unsloth", "backend=transformers"),
    ("bitsandbytes", "optimizer", "bitsandbytes.", "optimizer=adamw"),
    ("wandb", "tracking", ".Wandb", "tracking=none"),
    ("trackio", "tracking", ".Trackio", "tracking=wandb"),
    ("tensorboard", "tracking", ".TensorBoard", "tracking=wandb"),
)
EXTRAS = ("unsloth", "trackio", "tensorboard")  # of pyproject.toml; the others are plain dependencies


def needs_a_package(cfg: DictConfig) -> Iterator[str]:
    """A part whose library is not installed."""
    for package, part, target, otherwise in PACKAGES:
        if target in cfg[part]._target_ and importlib.util.find_spec(package) is None:
            install = f'-e ".[{package}]"' if package in EXTRAS else package
            yield f"{part} needs {package}, which is not installed. Fix: pip install {install}, or {otherwise}"
    if _select(cfg, "model.load_in_4bit") and importlib.util.find_spec("bitsandbytes") is None:
        yield (
            "model.load_in_4bit=true needs bitsandbytes, which is not installed. "
            "Fix: pip install bitsandbytes, or model.load_in_4bit=false"
        )


def four_bit_weights_cannot_be_trained(cfg: DictConfig) -> Iterator[str]:
    if not _select(cfg, "model.load_in_4bit"):
        if str(_select(cfg, "model.name")).endswith("-bnb-4bit"):
            plain = cfg.model.name.removesuffix("-bnb-4bit").removesuffix("-unsloth")
            yield (
                f"model.load_in_4bit=false, but {cfg.model.name} holds 4-bit weights and would be loaded so. "
                f"Fix: model.name={plain}, or model.load_in_4bit=true"
            )
    elif "r" not in cfg.lora:
        yield (
            "model.load_in_4bit=true with lora=none: 4-bit weights have no gradient. "
            "Fix: lora=default, or model.load_in_4bit=false"
        )


def float16_weights_cannot_all_be_trained(cfg: DictConfig) -> Iterator[str]:
    if _select(cfg, "model.dtype") == "float16" and "r" not in cfg.lora:
        yield (
            "model.dtype=float16 with lora=none: torch scales no gradients of float16 weights. "
            "Fix: model.dtype=float32, model.dtype=bfloat16, or lora=default"
        )


def muon_needs_matrices(cfg: DictConfig) -> Iterator[str]:
    if cfg.optimizer._target_.endswith(".Muon") and "r" not in cfg.lora:
        yield (
            "optimizer=muon takes matrices alone, and lora=none trains norms and biases too. "
            "Fix: optimizer=adamw, or lora=default"
        )


def bfloat16_needs_hardware(cfg: DictConfig) -> Iterator[str]:
    dtype = _select(cfg, "model.dtype")
    if dtype == "bfloat16" and not hardware.gpu() and not hardware.cpu_has_bf16():
        yield (
            f"model.dtype=bfloat16, but this machine has no GPU and its {hardware.cpu()} does not compute in "
            "bfloat16: emulated, it is 34 times slower. Fix: model.dtype=auto (float32 here)"
        )
    if dtype == "float16" and not hardware.gpu():
        yield "model.dtype=float16 needs a GPU: a CPU run overflows in it. Fix: model.dtype=auto"


def thinking_needs_tags(cfg: DictConfig) -> Iterator[str]:
    formats = [cfg.dataset_format, *(part.format for part in _parts(cfg).values() if "format" in part)]
    if any("think_tags" in each and each.think_tags is None for each in formats):
        yield (
            f"dataset_format=thinking, but {_select(cfg, 'model.name')} has no think tags. "
            "Fix: \"model.think_tags=['<think>','</think>']\" to train them as text, or dataset_format=instruction"
        )


def evaluation_needs_held_out_rows(cfg: DictConfig) -> Iterator[str]:
    wanted = {
        "training.eval_strategy": (cfg.training.get("eval_strategy", "no"), "no"),
        "evaluation.questions": (_select(cfg, "evaluation.questions"), 0),
    }
    asked = {key: (value, off) for key, (value, off) in wanted.items() if value != off}
    if _select(cfg, "dataset.held_out") in (0, 0.0) and asked:
        some = 0.05 if "path" in cfg.dataset else 64  # a share of rows that are there, or a number to make
        yield (
            "dataset.held_out=0 leaves nothing to evaluate on, but "
            f"{' and '.join(f'{key}={value}' for key, (value, _) in asked.items())}. "
            f"Fix: {' '.join(f'{key}={off}' for key, (_, off) in asked.items())}, or dataset.held_out={some}"
        )


def a_seed_picks_held_out_rows(cfg: DictConfig) -> Iterator[str]:
    seed, held_out = _select(cfg, "dataset.seed"), _select(cfg, "dataset.held_out")
    if seed and isinstance(held_out, str):
        yield (
            f"dataset.seed={seed} would be ignored: it picks a share, and dataset.held_out={held_out} is held out "
            "whole. Fix: dataset.seed=0, or dataset.held_out=0.05"
        )


def a_mixture_has_weights(cfg: DictConfig) -> Iterator[str]:
    parts = _parts(cfg)
    weights = {name: part.get("weight", 1) for name, part in parts.items()}
    for name, weight in weights.items():
        if isinstance(weight, (int, float)) and weight < 0:
            yield f"dataset.parts.{name}.weight={weight} is no share. Fix: dataset.parts.{name}.weight=1"
    if parts and not any(weights.values()):
        some = next(iter(parts))
        yield f"Every weight of dataset.parts is 0, so there are no rows. Fix: dataset.parts.{some}.weight=1"
    for name in parts:
        key = f"dataset.parts.{name}.source.on_bad_row"
        if _select(cfg, key) == "skip":
            yield f"{key}=skip would be ignored: the mixture decides. Fix: dataset.on_bad_row=skip, and ~{key}"


def warm_up_fits_in_the_run(cfg: DictConfig) -> Iterator[str]:
    steps, warmup = cfg.training.get("max_steps", -1), cfg.training.get("warmup_steps", 0)
    if 0 < steps <= warmup:
        yield (
            f"training.warmup_steps={warmup} leaves no step of training.max_steps={steps}: the learning rate never "
            f"reaches optimizer.lr={_select(cfg, 'optimizer.lr')}. Fix: training.warmup_steps=0.1 (a share)"
        )


def packed_rows_are_not_padded(cfg: DictConfig) -> Iterator[str]:
    multiple, strategy = cfg.training.get("pad_to_multiple_of"), _select(cfg, "packing.strategy")
    if multiple and strategy not in (None, "grouped"):
        yield (
            f"training.pad_to_multiple_of={multiple} pads rows, and packing={strategy} is there to leave padding "
            "out. Fix: training.pad_to_multiple_of=null, or packing=grouped"
        )


def wandb_online_needs_a_key(cfg: DictConfig) -> Iterator[str]:
    asked = _select(cfg, "tracking.mode")
    if asked and wandb_mode(asked) == "online" and not wandb_key_is_configured():
        said = "WANDB_MODE" if asked == "auto" else "tracking.mode"
        yield f"{said}=online, but W&B has no key. Fix: wandb login, or tracking.mode=offline"


CONTRADICTIONS: tuple[Callable[[DictConfig], Iterator[str]], ...] = (
    needs_a_package,
    four_bit_weights_cannot_be_trained,
    float16_weights_cannot_all_be_trained,
    muon_needs_matrices,
    bfloat16_needs_hardware,
    thinking_needs_tags,
    evaluation_needs_held_out_rows,
    a_seed_picks_held_out_rows,
    a_mixture_has_weights,
    warm_up_fits_in_the_run,
    packed_rows_are_not_padded,
    wandb_online_needs_a_key,
)


def _parts(cfg: DictConfig) -> Any:
    """The parts of a mixture by name; none of any other source."""
    return _select(cfg, "dataset.parts") or {}


def _select(cfg: DictConfig, key: str) -> Any:
    return OmegaConf.select(cfg, key, throw_on_missing=False)
