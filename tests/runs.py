"""Real runs for tests, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sft_research.config import compose
from tests import warm

# Two layers of width 64 in float32, so that numbers do not depend on the processor; 6 steps of 8 rows.
TINY = (
    "model=tiny",
    "model.dtype=float32",
    "dataset.rows=48",
    "dataset.held_out=8",
    "optimizer.lr=1e-2",
    "training.per_device_train_batch_size=8",
    "training.gradient_accumulation_steps=1",
    "evaluation.questions=3",
    "evaluation.max_new_tokens=8",
)


@dataclass(frozen=True)
class Done:
    """A command that ended, and the folder its overrides name."""

    status: int
    out: str
    err: str
    folder: Path

    @property
    def result(self) -> dict[str, Any]:
        return json.loads((self.folder / "result.json").read_text())

    @property
    def metrics(self) -> list[dict[str, float]]:
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]

    def series(self, key: str) -> list[float]:
        return [row[key] for row in self.metrics if key in row]


def train(
    overrides: Sequence[str], cwd: Path, flags: Sequence[str] = (), fresh: bool = False, **environment: str
) -> Done:
    """`python -m sft_research.train` in `cwd`, with runs/ below it.

    In a `fresh` interpreter, or forked from a warm one, where libraries log past the run to standard error.
    """
    begin = partial(started, **environment) if fresh or environment else warm.started
    done = begin([*flags, *overrides], cwd)
    folder = cwd / compose([o for o in overrides if not o.startswith("-")]).folder
    return Done(done.returncode, done.stdout, done.stderr, folder)


def started(arguments: Sequence[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same for any command line, a grid's too, as a person starts it."""
    return subprocess.run(
        [sys.executable, "-m", "sft_research.train", *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def torchrun(ranks: int, overrides: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same as a person starts it who has torchrun start the ranks."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return subprocess.run(
        [sys.executable, *launcher, "-m", "sft_research.train", *overrides],
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def python(code: str, cwd: Path, **environment: str) -> str:
    """What a fresh interpreter prints; the code fails the test when it raises."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
