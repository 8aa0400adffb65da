"""Settings that exclude each other, across groups: each rule gives messages with the override that fixes it.

Nothing here imports torch: packages are looked for, hardware is asked of the system.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sft_research import hardware
from sft_research.tracking import wandb_key_is_configured

# (package, part of the config, how its target begins or ends, what else to choose)
PACKAGES = (
    ("unsloth", "backend", ".Unsloth", "backend=transformers"),
    ("bitsandbytes", "optimizer", "bitsandbytes.", "optimizer=adamw"),
    ("wandb", "tracking", ".Wandb", "tracking=none"),
    ("trackio", "tracking", ".Trackio", "tracking=wandb"),
    ("tensorboard", "tracking", ".TensorBoard", "tracking=wandb"),
)


def needs_a_package(cfg: DictConfig) -> Iterator[str]:
    """A part whose library is not installed."""
    for package, part, target, otherwise in PACKAGES:
        if target in cfg[part]._target_ and importlib.util.find_spec(package) is None:
            extra = (
                f'pip install -e ".[{package}]"' if package != "bitsandbytes" else "pip install bitsandbytes"
            )
            yield f"{part} needs {package}, which is not installed. Fix: {extra}, or {otherwise}"
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
    if "think_tags" in cfg.dataset_format and cfg.dataset_format.think_tags is None:
        yield (
            f"dataset_format=thinking, but {_select(cfg, 'model.name')} has no think tags. "
            "Fix: \"model.think_tags=['<think>','</think>']\" to train them as text, or dataset_format=instruction"
        )


def evaluation_needs_held_out_rows(cfg: DictConfig) -> Iterator[str]:
    if _select(cfg, "dataset.held_out") in (0, 0.0) and cfg.training.get("eval_strategy", "no") != "no":
        some = 0.05 if "path" in cfg.dataset else 64  # a share of rows that are there, or a number to make
        yield (
            "dataset.held_out=0 leaves nothing to evaluate on, but training.eval_strategy="
            f"{cfg.training.eval_strategy}. Fix: training.eval_strategy=no, or dataset.held_out={some}"
        )


def warm_up_fits_in_the_run(cfg: DictConfig) -> Iterator[str]:
    steps, warmup = cfg.training.get("max_steps", -1), cfg.training.get("warmup_steps", 0)
    if steps > 0 and warmup > steps:
        yield (
            f"training.warmup_steps={warmup} is more than training.max_steps={steps}: the learning rate never "
            f"reaches optimizer.lr={_select(cfg, 'optimizer.lr')}. Fix: training.warmup_steps=0.1 (a share)"
        )


def wandb_online_needs_a_key(cfg: DictConfig) -> Iterator[str]:
    if _select(cfg, "tracking.mode") == "online" and not wandb_key_is_configured():
        yield "tracking.mode=online, but W&B has no key. Fix: wandb login, or tracking.mode=offline"


def one_process_trains_a_run(cfg: DictConfig) -> Iterator[str]:
    """Under torchrun every process would write the same folder and count its own tokens alone."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes not in ("", "1"):
        yield (
            f"WORLD_SIZE={processes}: a run is one process, and this is one of {processes} that share it. "
            "Fix: python -m sft_research.train without torchrun or accelerate launch; a grid takes a process "
            "a run with -m hydra/launcher=local"
        )


CONTRADICTIONS: tuple[Callable[[DictConfig], Iterator[str]], ...] = (
    one_process_trains_a_run,
    needs_a_package,
    four_bit_weights_cannot_be_trained,
    muon_needs_matrices,
    bfloat16_needs_hardware,
    thinking_needs_tags,
    evaluation_needs_held_out_rows,
    warm_up_fits_in_the_run,
    wandb_online_needs_a_key,
)


def _select(cfg: DictConfig, key: str) -> Any:
    return OmegaConf.select(cfg, key, throw_on_missing=False)
