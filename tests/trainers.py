"""A trainer in this process, through the Transformers backend, for tests that look inside one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sft_research.config import Run, build, compose
from sft_research.tokens import Data, encode
from sft_research.training import Trainer, build_trainer
from tests.runs import TINY


@dataclass(frozen=True)
class Made:
    """A run, the tokens of its rows, and its trainer."""

    run: Run
    data: Data
    trainer: Trainer


def make(place: Path, *overrides: str, rows: Sequence[dict[str, str]] = ()) -> Trainer:
    return made(place, *overrides, rows=rows).trainer


def made(place: Path, *overrides: str, rows: Sequence[dict[str, str]] = ()) -> Made:
    """With these training rows, or those of the config's dataset."""
    from transformers import set_seed

    run = compose([*TINY, "backend=transformers", "tracking=none", *overrides])
    cfg = run.cfg
    set_seed(cfg.seed)
    model = build(cfg.model)
    tokenizer, added = model.tokenizer()
    source, to_example = build(cfg.dataset).load(), build(cfg.dataset_format)
    cut = not build(cfg.packing).keeps_long_rows
    train = encode(rows or source.train, to_example, tokenizer, model.max_length, "training", cut=cut)
    held_out = encode(source.held_out, to_example, tokenizer, model.max_length, "held-out")
    data = Data(tokenizer, train, held_out, added, source.checkable)
    weights = build(cfg.backend).load(model, build(cfg.lora), added, len(tokenizer), cfg.seed)
    return Made(run, data, build_trainer(run, weights, data, str(place)))
