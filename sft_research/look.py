"""A run's rows, tokenized as training does and without its weights, and all that is to be said of them."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from sft_research import secrets
from sft_research.config import CONF_DIR, Run, build
from sft_research.counts import Split, Tokens, count, spread_over_lengths, tokens_of
from sft_research.overlap import overlap, trained_on
from sft_research.padding import Batches, Packed, packings
from sft_research.prepare import prepare
from sft_research.readers import Broken
from sft_research.tokens import Data
from sft_research.visible import Piece, pieces


@dataclass(frozen=True)
class Shown:
    """A training example, token by token, and why it is shown: `the longest`."""

    number: int  # from 1, of the examples that have a loss
    standing: str
    tokens: int
    loss_tokens: int
    pieces: list[Piece]


@dataclass(frozen=True)
class Preview:
    """All that the screen and the page say."""

    title: str
    source: str  # of the rows
    model: str
    max_length: int
    command: str
    examples: list[Shown]
    splits: list[Split]  # training, and held out where there is one
    overlap: int  # held-out rows that are trained on
    bad: list[Broken]
    batches: Batches
    packings: list[Packed]
    packing: str  # the run's own option, empty where it is none of conf/packing
    with_ids: bool


def look(run: Run, wanted: int, with_ids: bool, command: str) -> Preview:
    """Rows -> tokens -> what is to be said of them."""
    cfg = run.cfg
    _seed(cfg.seed)
    model = build(cfg.model)
    model.require_positions()
    prepared = prepare(cfg, *model.tokenizer())
    data = trained_on(cfg.on_overlap, prepared.data, model.max_length)
    train, held_out = data.train, data.held_out
    splits = [count("training", train), *([count("held out", held_out)] if held_out.examples else [])]
    batches = batches_of(cfg)
    return Preview(
        title=f"{run.experiment} / {run.name}",
        source=str(cfg.dataset.get("path") or cfg.dataset._target_.rpartition(".")[2]),
        model=model.name,
        max_length=model.max_length,
        command=secrets.redact(command),
        examples=_examples(data, splits[0], wanted),
        splits=splits,
        overlap=len(overlap(train.examples, held_out.examples, model.max_length)),
        bad=[*train.bad, *held_out.bad],
        batches=batches,
        packings=packings(*cut_and_whole(cfg, data), batches),
        packing=_option(cfg.packing),
        with_ids=with_ids,
    )


def batches_of(cfg: DictConfig) -> Batches:
    """How the run takes its rows."""
    return Batches(
        cfg.training.get("per_device_train_batch_size", 8),  # TRL's own default, as is 1
        cfg.training.get("gradient_accumulation_steps", 1),
        cfg.model.max_length,
        cfg.seed,
        cfg.training.get("pad_to_multiple_of") or 1,
        cfg.devices,
    )


def _seed(seed: int) -> None:
    """As the run does before it reads rows, for a source or a format of one's own that draws. By hand:
    transformers' `set_seed` imports the trainer, which takes longer than all the rest."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _examples(data: Data, split: Split, wanted: int) -> list[Shown]:
    made = []
    for index, standing in spread_over_lengths(split.lengths, wanted):
        example = data.train.examples[index]
        made.append(
            Shown(
                index + 1,
                standing,
                len(example.input_ids),
                example.loss_tokens,
                pieces(example, data.tokenizer),
            )
        )
    return made


def cut_and_whole(cfg: DictConfig, data: Data) -> tuple[Tokens, Tokens]:
    """Training rows cut at max_length and not: some packings cut them, others let them go on in another row."""
    own = tokens_of(data.train.examples)
    keeps = build(cfg.packing).keeps_long_rows
    longer = (
        (own.lengths > cfg.model.max_length).any() if keeps else data.train.truncated + data.train.dropped
    )
    if not longer:
        return own, own
    other = cfg.copy()
    other.packing = OmegaConf.load(CONF_DIR / "packing" / ("none.yaml" if keeps else "wrapped.yaml"))
    again = prepare(other, data.tokenizer, data.added_tokens).data
    found = tokens_of(trained_on(cfg.on_overlap, again, cfg.model.max_length).train.examples)
    return (found, own) if keeps else (own, found)


def _option(packing: DictConfig) -> str:
    """The file of conf/packing that says the same."""
    files = sorted((CONF_DIR / "packing").glob("*.yaml"))
    return next((file.stem for file in files if OmegaConf.load(file) == packing), "")
