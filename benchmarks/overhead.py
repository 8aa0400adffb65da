"""What our entrypoint costs over a plain TRL script: same model, rows, LoRA and steps, run in turn.

python benchmarks/overhead.py [--rounds 3] [--steps 8] [OVERRIDE ...]
python benchmarks/overhead.py preflight=off training.save_strategy=no   # the plain script proves and saves nothing

Whole processes, from the start of the interpreter to its exit; every figure is the median of the
ratios ours / plain of the rounds, each pair run one after the other on the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_research import hardware, smollm2
from sft_research.arithmetic import Arithmetic

HERE = Path(__file__).parent
ROWS = 240


@dataclass(frozen=True)
class Measured:
    """One process: seconds, GiB, and the training steps it logged."""

    whole: float
    peak: float
    first_step: float
    training: float  # seconds of the steps after the first, so that no one-off cost is in them
    losses: list[float]
    real_tokens: int | None  # of those steps, as ours counts them; the plain script sees the same rows


def ran(command: list[str], threads: int | None) -> tuple[float, float, float]:
    """(when it began, when it ended, GiB of its peak) of a command that must succeed."""
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    began = time.time()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        ended = time.time()
        output.seek(0)
        if status:
            sys.exit(f"{' '.join(command)}\n{output.read().decode()[-3000:]}")
    return began, ended, usage.ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def logged(folder: Path) -> list[dict[str, Any]]:
    """The steps in a run's metrics.jsonl."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "train/loss" in row]


def measure(command: list[str], out: Path) -> Measured:
    """Run to the end and read the metrics.jsonl it left below `out`."""
    began, ended, peak = ran(command, None)
    rows = logged(next(out.rglob("metrics.jsonl")).parent)
    counted = "tokens" in rows[0]
    return Measured(
        whole=ended - began,
        peak=peak,
        first_step=rows[0]["time"] - began,
        training=rows[-1]["time"] - rows[0]["time"],
        losses=[row["train/loss"] for row in rows],
        real_tokens=rows[-1]["tokens"] - rows[0]["tokens"] if counted else None,
    )


def command(backend: str, steps: int, batch: int, place: Path, overrides: list[str]) -> list[str]:
    """Ours for one backend."""
    return [
        sys.executable, "-m", "sft_research.train", f"backend={backend}", "model.dtype=float32", "tracking=none",
        f"runs_dir={place / 'ours'}", f"dataset.rows={ROWS}", "dataset.held_out=0", "evaluation.questions=0",
        f"training.per_device_train_batch_size={batch}", "training.gradient_accumulation_steps=1",
        "training.eval_strategy=no", f"training.max_steps={steps}", *overrides,
    ]  # fmt: skip


def rows_in(place: Path) -> Path:
    """The rows of ours, as a file for the plain script."""
    file = place / "rows.jsonl"
    made = Arithmetic(ROWS, 0, "easy", 0).load().train
    file.write_text("".join(json.dumps(row) + "\n" for row in made))
    return file


def plain_script(rows: Path, out: Path, steps: int, backend: str, *point: object) -> list[str]:
    """The command of the plain script; `point`: rank, learning rate and batch, where they are not 16, 2e-4, 8."""
    words = (HERE / "plain_trl.py", smollm2.folder(), rows, out, steps, backend, *point)
    return [sys.executable, *map(str, words)]


def one_round(backend: str, steps: int, ours_first: bool, overrides: list[str]) -> tuple[Measured, Measured]:
    """(ours, plain), run one after the other in either order."""
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        ours = command(backend, steps, 8, place, overrides)
        plain = plain_script(rows_in(place), place / "plain", steps, backend)
        if ours_first:
            mine = measure(ours, place / "ours")
            return mine, measure(plain, place / "plain")
        theirs = measure(plain, place / "plain")
        return measure(ours, place / "ours"), theirs


def table(backend: str, rounds: list[tuple[Measured, Measured]]) -> str:
    """A row of the printed table: medians of the ratios ours / plain, pair by pair, and their range."""

    def ratio(of: str, inverse: bool = False) -> str:
        found = [getattr(a, of) / getattr(b, of) for a, b in rounds]
        found = [1 / r for r in found] if inverse else found
        return f"{statistics.median(found):.3f} ({min(found):.2f}-{max(found):.2f})"

    difference = max(abs(a - b) for x, y in rounds for a, b in zip(x.losses, y.losses, strict=True))
    plain = statistics.median(b.whole for _, b in rounds)
    speed = statistics.median((a.real_tokens or 0) / b.training for a, b in rounds)
    cells = [backend, ratio("whole"), ratio("first_step"), ratio("training", inverse=True), ratio("peak")]
    return f"| {' | '.join(cells)} | {difference:.1e} | {plain:.0f} s, {speed:.0f} tokens/s |"


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--steps", type=int, default=8)
    asked.add_argument("overrides", nargs="*")
    given = asked.parse_args()
    smollm2.folder()  # converted before the clock starts: it is done once a machine
    print(
        f"{hardware.cpu()}, {os.cpu_count()} cores; SmolLM2-135M, LoRA r=16, float32, 8 rows x {given.steps} steps"
    )
    print(
        "| backend | whole process | to the end of step 1 | real tokens/s | peak memory | loss | plain script |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    for backend in ("transformers", "unsloth"):
        rounds = [one_round(backend, given.steps, i % 2 == 0, given.overrides) for i in range(given.rounds)]
        print(table(backend, rounds), flush=True)


if __name__ == "__main__":
    main()
