"""plan=true: what a run would take, printed before any weights are loaded; and the refusal of one that cannot fit.

python -m sft_research.train model=smollm2 plan=true
"""

from __future__ import annotations

import logging
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from sft_research import hardware
from sft_research.check import check
from sft_research.config import ConfigError, Run, build
from sft_research.console import captured, speaking
from sft_research.memory import Batch, Memory, batch_size, estimate, roughly
from sft_research.savings import fitting
from sft_research.tokens import Data

log = logging.getLogger("sft_research")
TOO_LARGE = 1.25  # times the memory that there is: beyond what the estimate may err by
NEAR = 0.5  # below this share of it, by a rough bound, no estimate is made: it takes seconds
FILLED = ("bfd", "bfd_split", "wrapped")  # packings whose rows are model.max_length tokens

ABOUT = {
    "process": "  Python and its libraries",
    "holes": "  freed, and in pieces too small to be used again",
    "evaluation": "  of this, and of activations with logits, the larger counts",
}


@dataclass(frozen=True)
class Plan:
    """What a run would take; `gib`: the memory that there is."""

    steps: int
    tokens: int
    loss_tokens: int
    batch: Batch
    memory: Memory
    gib: float


def plan(run: Run) -> None:
    """Check and tokenize as training does, and print what would be trained and held."""
    check(run.cfg)
    with speaking() as console:
        with captured(Path(os.devnull)):
            made = _plan(run)
        console.write(screen(run, made))
        console.flush()


def screen(run: Run, made: Plan) -> str:
    many = made.batch.accumulation
    batch = f"{made.batch.rows} x {made.batch.tokens} tokens, {many} batch{'es' * (many > 1)} a step"
    if run.cfg.devices > 1:
        batch += f" on each of {run.cfg.devices} devices"
    lines = [
        "",
        f"  {run.experiment} / {run.name}",
        "",
        f"  {made.steps:,} steps, {made.tokens:,} tokens, {made.loss_tokens:,} of them with loss",
        f"  largest batch {batch}",
        "",
        *(f"  {name:<12}{_size(gib)}{ABOUT.get(name, '')}" for name, gib in made.memory.parts.items()),
        f"  {'peak':<12}{_size(made.memory.total)}, of {made.gib:.1f} GiB that there are",
        "",
    ]
    return "\n".join(lines)


def _size(gib: float) -> str:
    return f"{gib:>8.2f} GiB" if gib >= 0.1 else f"{gib * 1024:>8.2f} MiB"


def require_room(cfg: DictConfig, data: Data) -> None:
    """Raise ConfigError, with the overrides that would make it fit, for a run that clearly cannot."""
    gib, batch = _gib(cfg), _largest_batch(cfg, data)
    try:
        if roughly(cfg, batch) < NEAR * gib:
            return
        memory = estimate(cfg, batch)
    except Exception as error:  # an architecture that transformers, or the estimate, does not know
        log.info("The memory is not estimated: %s: %s", type(error).__name__, str(error).partition("\n")[0])
        return
    if memory.total > TOO_LARGE * gib:
        parts = ", ".join(f"{name} {part:.1f}" for name, part in memory.parts.items() if part >= 0.05)
        # In 4 bits weights are an eighth of float32's: where that is too much, no override helps.
        fix = fitting(cfg, batch, gib) if memory.weights / 8 < gib else ""
        raise ConfigError(
            f"The run needs about {memory.total:.1f} GiB ({parts}) for batches of {batch.rows} x {batch.tokens} "
            f"tokens, and there are {gib:.1f} GiB. Fix: {fix or 'another model, or another machine'}"
        )


def _largest_batch(cfg: DictConfig, data: Data) -> Batch:
    """The one that memory has to hold, from lengths alone."""
    from sft_research.counts import tokens_of

    size, accumulation = batch_size(cfg)
    lengths = sorted(tokens_of(data.train.examples).lengths.tolist())
    strategy, longest = cfg.packing.get("strategy"), lengths[-size:]
    if strategy in FILLED:
        rows = -(-sum(lengths) // cfg.model.max_length)
        return Batch(min(size, rows), cfg.model.max_length, accumulation)
    if strategy == "padding_free":  # one row of them all, nothing padded
        return Batch(len(longest), -(-sum(longest) // len(longest)), accumulation)
    return Batch(len(longest), longest[-1], accumulation)


def _plan(run: Run) -> Plan:
    build(run.cfg.backend).activate()
    # What training imports is part of what its process holds.
    from sft_research import metrics, preflight, training  # noqa: F401
    from sft_research.counts import tokens_of
    from sft_research.look import batches_of, cut_and_whole
    from sft_research.overlap import trained_on
    from sft_research.padding import packings
    from sft_research.prepare import prepare

    cfg = run.cfg
    model = build(cfg.model)
    model.require_positions()
    prepared = prepare(cfg, *model.tokenizer())
    data = trained_on(cfg.on_overlap, prepared.data, model.max_length)
    option = cfg.packing.get("strategy") or "none"
    packed = next(p for p in packings(*cut_and_whole(cfg, data), batches_of(cfg)) if p.option == option)
    size, accumulation = batch_size(cfg)
    size = min(size, packed.rows)
    steps = math.ceil(packed.steps * cfg.training.get("num_train_epochs", 3))
    if cfg.training.get("max_steps", -1) > 0:
        steps = cfg.training.max_steps
    passes = steps / packed.steps
    loss_tokens = int(tokens_of(data.train.examples).trained.sum())
    batch = Batch(size, -(-packed.largest // size), accumulation)
    memory = estimate(cfg, batch)
    return Plan(
        steps,
        round(packed.tokens * passes),
        round(loss_tokens * passes),
        batch,
        memory,
        _gib(cfg),
    )


def _gib(cfg: DictConfig) -> float:
    """Of one device: a GPU has its own, and the processes on a CPU share what there is."""
    torch = sys.modules.get("torch")
    shared = cfg.devices if torch is None or not torch.cuda.is_available() else 1
    return hardware.memory_gib() / shared
