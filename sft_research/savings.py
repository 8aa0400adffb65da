"""What to set where memory does not do: overrides, and what each would save by the estimate."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sft_research.config import CONF_DIR, Run
from sft_research.memory import Batch, batch_size, estimate
from sft_research.on_oom import in_smaller

Overrides = tuple[str, ...]
ENOUGH = 0.9  # of the memory that there is, for a run that is said to fit


def savings(run: Run, batch: tuple[int, int] | None) -> list[tuple[str, str]]:
    """(overrides, what they save), of a run whose batch of `batch` rows and tokens did not fit."""
    cfg, taken = run.cfg, batch_of(run.cfg, batch)
    found = [(" ".join(wanted), _saved(cfg, taken, wanted)) for wanted in candidates(cfg, taken)]
    if cfg.training.get("on_oom", "error") == "error" and taken.rows > 1 and cfg.devices == 1:
        found.insert(1, ("training.on_oom=halve", "halves the batch when it does not fit, and goes on"))
    return found


def fitting(cfg: DictConfig, batch: Batch, gib: float) -> str:
    """Overrides, as few as do, with which the run fits in `gib`; empty where none do."""
    chosen: dict[str, str] = {}
    while True:
        for wanted in candidates(cfg, batch):
            chosen |= dict(each.split("=", 1) for each in wanted)
            cfg, batch = _with(cfg, batch, wanted)
            total = estimate(cfg, batch).total
            if total < ENOUGH * gib:
                words = " ".join(f"{key}={value}" for key, value in chosen.items())
                return f"{words} (about {total:.1f} GiB)"
        if batch.rows == 1:
            return ""


def batch_of(cfg: DictConfig, shape: tuple[int, int] | None) -> Batch:
    """The batch of this shape, or the largest that the config allows."""
    rows, accumulation = batch_size(cfg)
    if shape is None:
        return Batch(rows, cfg.model.max_length, accumulation)
    flat = shape[0] == 1 and rows > 1  # a row of all of them
    return Batch(rows, -(-shape[1] // rows), accumulation) if flat else Batch(*shape, accumulation)


def candidates(cfg: DictConfig, batch: Batch) -> Iterator[Overrides]:
    """The ones that change the result least come first."""
    rows, accumulation = batch_size(cfg)
    if rows > 1:
        fewer, more = in_smaller(rows, accumulation, rows // 2)
        yield (
            f"training.per_device_train_batch_size={fewer}",
            f"training.gradient_accumulation_steps={more}",
        )
    if cfg.backend.get("gradient_checkpointing") in ("auto", False):
        yield ("backend.gradient_checkpointing=true",)
    if "r" not in cfg.lora:
        yield ("lora=default",)
        if cfg.optimizer._target_.endswith(".AdamW"):
            yield ("optimizer=adamw_8bit",)
    elif not cfg.model.load_in_4bit and importlib.util.find_spec("bitsandbytes"):
        yield ("model.load_in_4bit=true",)
    if batch.tokens >= 64:
        yield (f"model.max_length={batch.tokens // 2}",)


def _saved(cfg: DictConfig, batch: Batch, wanted: Overrides) -> str:
    try:
        less = estimate(cfg, batch).total - estimate(*_with(cfg, batch, wanted)).total
    except Exception:  # of a model that cannot be estimated, or where no memory is left to do so
        return ""
    return f"saves about {less:.2f} GiB" if less > 0.005 else "saves next to nothing"


def _with(cfg: DictConfig, batch: Batch, wanted: Sequence[str]) -> tuple[DictConfig, Batch]:
    """The config and the batch as these overrides make them."""
    other: Any = cfg.copy()
    OmegaConf.set_struct(other, False)
    for override in wanted:
        key, _, value = override.partition("=")
        if "." in key:
            OmegaConf.update(other, key, OmegaConf.create(f"x: {value}").x)
        else:
            lr = other[key].get("lr")
            other[key] = OmegaConf.load(CONF_DIR / key / f"{value}.yaml")
            if lr is not None:
                other[key].lr = lr
    rows, accumulation = batch_size(other)
    smaller = min(batch.rows, -(-batch.rows * rows // batch_size(cfg)[0]))
    shape = replace(batch, rows=smaller, tokens=min(batch.tokens, other.model.max_length))
    return other, replace(shape, accumulation=accumulation)
