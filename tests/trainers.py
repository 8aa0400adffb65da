"""A trainer in this process, through the Transformers backend, for tests that look inside one."""

from __future__ import annotations

from pathlib import Path

from sft_research.config import build, compose
from sft_research.tokens import Data, encode
from sft_research.training import Trainer, build_trainer
from tests.runs import TINY


def make(place: Path, *overrides: str) -> Trainer:
    from transformers import set_seed

    run = compose([*TINY, "backend=transformers", "tracking=none", *overrides])
    cfg = run.cfg
    set_seed(cfg.seed)
    model = build(cfg.model)
    tokenizer, added = model.tokenizer()
    rows, to_example = build(cfg.dataset).load(), build(cfg.dataset_format)
    cut = not build(cfg.packing).keeps_long_rows
    train = encode(rows.train, to_example, tokenizer, model.max_length, "training", cut=cut)
    held_out = encode(rows.held_out, to_example, tokenizer, model.max_length, "held-out")
    weights = build(cfg.backend).load(model, build(cfg.lora), added, len(tokenizer), cfg.seed)
    return build_trainer(run, weights, Data(tokenizer, train, held_out, added, rows.checkable), str(place))
