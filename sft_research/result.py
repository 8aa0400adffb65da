"""What a finished run says of itself: the fields of `result.json`, and `run()`'s return value."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sft_research import hardware
from sft_research.config import Run
from sft_research.evaluate import Scores
from sft_research.tokens import Data

if TYPE_CHECKING:
    from sft_research.metrics import Metrics


@dataclass(frozen=True)
class Result:
    """Losses are nats a completion token; shares are 0 to 1; `tokens` leave padding out."""

    id: str
    experiment: str
    name: str
    folder: str
    command: str
    model: str
    backend: str
    loss_first: float  # of the first and the last training step
    loss_last: float
    before: Scores
    after: Scores
    steps: int
    rows: int
    rows_truncated: int
    rows_dropped: int
    held_out_rows: int
    tokens: int
    loss_tokens: int
    tokens_per_second: float  # over the training steps alone
    train_seconds: float
    seconds: float
    peak_memory_gib: float
    trainable_parameters: int
    lora_scale: float | None
    weights: str
    curves: str
    preflight: str = "off"  # or passed
    rows_bad: int = 0  # left out by dataset.on_bad_row=skip, of both splits
    devices: int = 1  # peak_memory_gib is that of one


def read(file: Path) -> Result:
    """A result back from its file."""
    found = json.loads(file.read_text())
    return Result(**found | {"before": Scores(**found["before"]), "after": Scores(**found["after"])})


def result_of(
    run: Run,
    weights: Path,
    data: Data,
    metrics: Metrics,
    before: Scores,
    after: Scores,
    curves: str,
    seconds: float,
) -> Result:
    """Put together what the parts of a finished run know."""
    return Result(
        id=run.id,
        experiment=run.experiment,
        name=run.name,
        folder=str(run.folder),
        command=run.command,
        model=run.cfg.model.name,
        backend=run.cfg.backend["_target_"].rpartition(".")[2].lower(),
        before=before,
        after=after,
        rows=len(data.train.examples),
        rows_truncated=data.train.truncated,
        rows_dropped=data.train.dropped,
        held_out_rows=len(data.held_out.examples),
        seconds=seconds,
        peak_memory_gib=hardware.peak_memory_gib(),
        weights=str(weights),
        curves=curves,
        rows_bad=len(data.train.bad) + len(data.held_out.bad),
        preflight="passed" if run.preflight else "off",
        devices=run.cfg.devices,
        **metrics.totals(),
    )
