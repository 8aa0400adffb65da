"""The first batch of a run, as the trainer will feed it, looked at without changing the run."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sft_research.loss import LOGIT_BYTES
from sft_research.tokens import IGNORED

EXAMPLES = 4  # looked at: a proof needs two, and costs one forward each


@dataclass(frozen=True)
class Piece:
    """One example, or the part of one that a packed row holds; `row` is its row of the dataset."""

    row: int
    input_ids: list[int]
    labels: list[int]

    @property
    def loss_tokens(self) -> int:
        return sum(label != IGNORED for label in self.labels[1:])


def features(dataloader: Any) -> list[dict[str, list[int]]]:
    """The rows of the dataset that the first batch is made of.

    From the sampler, not from an iterator of the dataloader: that would start its workers.
    """
    # Of several ranks each has a sampler of its share about the one that draws.
    sampler = getattr(dataloader.batch_sampler, "batch_sampler", dataloader.batch_sampler).sampler
    generator = getattr(sampler, "generator", None)
    state = generator.get_state() if generator is not None else None
    indices = next(iter(dataloader.batch_sampler))
    if generator is not None:
        generator.set_state(state)
    return [dataloader.dataset[int(index)] for index in indices]


def pieces(rows: Sequence[dict[str, list[int]]]) -> list[Piece]:
    """The examples in the rows: one each, or as many as `seq_lengths` of a packed row says."""
    found = []
    for number, row in enumerate(rows):
        ids, labels = list(row["input_ids"]), list(row["labels"])
        start = 0
        for length in row.get("seq_lengths") or [len(ids)]:
            found.append(Piece(number, ids[start : start + length], labels[start : start + length]))
            start += length
    return found


def few(found: Sequence[Piece], vocabulary: int) -> list[Piece]:
    """The shortest examples with loss, in their order: two, and up to EXAMPLES while their logits fit."""
    shortest = sorted((p for p in found if p.loss_tokens), key=lambda piece: len(piece.input_ids))
    chosen = shortest[:2]
    for piece in shortest[2:EXAMPLES]:
        if 4 * vocabulary * sum(len(p.input_ids) for p in [*chosen, piece]) <= LOGIT_BYTES:
            chosen.append(piece)
    ids = {id(piece) for piece in chosen}
    return [piece for piece in found if id(piece) in ids]


def collated(chosen: Sequence[Piece], dataloader: Any, packed: bool) -> dict[str, Any]:
    """The examples as one batch, by the trainer's own collator: padded, or flattened where they are packed."""
    rows: dict[int, list[Piece]] = {}
    for number, piece in enumerate(chosen):
        rows.setdefault(piece.row if packed else number, []).append(piece)
    made = []
    for inside in rows.values():
        row = {
            "input_ids": [token for piece in inside for token in piece.input_ids],
            "labels": [label for piece in inside for label in piece.labels],
        }
        made.append(row | ({"seq_lengths": [len(p.input_ids) for p in inside]} if packed else {}))
    batch: dict[str, Any] = dataloader.collate_fn(made)
    return batch


def losses(model: Any, batch: dict[str, Any]) -> Any:
    """NLL of each token with loss, (N,), in the order of the batch."""
    inputs = {
        key: value.to(model.device) if torch.is_tensor(value) else value
        for key, value in batch.items()
        if key != "labels"
    }
    # use_cache=False as in TRL's own forward: with a cache, packed rows would see each other.
    logits = model(**inputs, use_cache=False).logits[:, :-1]
    labels = batch["labels"][:, 1:].to(logits.device)
    kept = labels != IGNORED
    nll = torch.nn.functional.cross_entropy(logits[kept].float(), labels[kept], reduction="none")
    return nll.double().cpu()


def losses_alone(model: Any, piece: Piece) -> Any:
    """The same for one example by itself, without any collator."""
    ids, labels = torch.tensor([piece.input_ids]), torch.tensor([piece.labels])
    return losses(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})


@contextmanager
def unchanged(model: Any) -> Iterator[None]:
    """No gradients and no dropout inside; random states, modes and what requires a gradient as before, after."""
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    python, numpy = random.getstate(), np.random.get_state()
    model.eval()
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())), torch.no_grad():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for module, training in modes:
            module.training = training
        for parameter, required in gradients:
            parameter.requires_grad_(required)
