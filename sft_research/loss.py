"""Held-out loss: the sum of the negative log-likelihood over the number of completion tokens.

It does not move with the batch size, unlike a mean of batch means (huggingface/transformers#39241).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sft_research import held_out, ranks
from sft_research.tokens import IGNORED, Example

LOGIT_BYTES = 2**30  # at most this much memory for the logits of one batch


def held_out_loss(
    model: Any, examples: Sequence[Example], batch_size: int, file: Path | None = None
) -> float:
    """Sum of NLL over completion tokens, in nats a token; that of each row goes to `file`.

    Of several ranks each takes its share of the rows, and all are given the same number.
    """
    import torch

    ordered = sorted(examples, key=lambda e: len(e.input_ids))
    mine = ordered[ranks.rank() :: ranks.count()]
    rows: list[float] = []  # sums, in the order of `mine`
    with evaluating(model):
        for ids, mask, labels in ranks.in_turns(batches(mine, batch_size, _vocabulary(model), model.device)):
            # use_cache=False: with a cache, rows packed into one would see each other.
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
            kept = labels[:, 1:] != IGNORED
            nll = torch.nn.functional.cross_entropy(
                logits[kept].float(), labels[:, 1:][kept], reduction="none"
            )
            sums = torch.zeros(len(ids), dtype=torch.float64)
            sums.index_add_(0, kept.nonzero()[:, 0].cpu(), nll.cpu().double())  # mps has no float64
            rows += sums.tolist()
    nll = [0.0] * len(ordered)
    for number, part in enumerate(ranks.gather(rows)):
        nll[number :: ranks.count()] = part
    if file and ranks.first():
        held_out.write(file, ordered, nll)
    return sum(nll) / sum(example.loss_tokens for example in ordered)


def batches(
    examples: Sequence[Example], batch_size: int, vocabulary: int, device: Any
) -> Iterator[tuple[Any, Any, Any]]:
    """(ids, attention mask, labels), each (B, T), right-padded; short rows together, logits bounded."""
    import torch

    batch: list[Example] = []
    budget = LOGIT_BYTES // (4 * vocabulary)
    for example in [*sorted(examples, key=lambda e: len(e.input_ids)), None]:
        full = example is None or (len(batch) + 1) * len(example.input_ids) > budget
        if batch and (full or len(batch) == batch_size):
            width = len(batch[-1].input_ids)
            pad = [width - len(e.input_ids) for e in batch]
            ids = [e.input_ids + [0] * p for e, p in zip(batch, pad, strict=True)]
            mask = [[1] * len(e.input_ids) + [0] * p for e, p in zip(batch, pad, strict=True)]
            labels = [e.labels + [IGNORED] * p for e, p in zip(batch, pad, strict=True)]
            yield tuple(torch.tensor(part, device=device) for part in (ids, mask, labels))
            batch = []
        if example is not None:
            batch.append(example)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Dropout and gradients off, in the precision of training; the training state back afterwards.

    Accelerate patches a model's `forward` into autocast when training begins. One that is judged before it, or
    after a resume past the last step, or that generates (PEFT then goes past that `forward`) would be another.
    """
    import torch

    half = model.dtype in (torch.bfloat16, torch.float16)
    precision = torch.autocast(model.device.type, dtype=model.dtype if half else None, enabled=half)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(False), torch.no_grad(), precision:
            yield
    finally:
        model.train(training)


def _vocabulary(model: Any) -> int:
    return int(model.get_output_embeddings().weight.shape[0])
