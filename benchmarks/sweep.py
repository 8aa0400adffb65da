"""A grid of short runs, ours against a plain TRL script started once a point: same model, rows, LoRA and steps.

python benchmarks/sweep.py [--n 2] [--backend transformers] [--steps 6] [OVERRIDE ...]
python benchmarks/sweep.py --ranks 8 --rates 1e-4,2e-4 --steps 4      # two points, to see that it works
python benchmarks/sweep.py preflight=off training.save_strategy=no    # the plain script proves and saves nothing

The plain script runs in turn, at the number of threads with which its first point is quickest. Ours is one command,
as a person types it, `n` runs at a time of cores / n threads each. Threads decide how sums are rounded, so losses are
compared twice: with the plain runs that were timed, and bit by bit with plain runs of as many threads as ours.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

from overhead import command, logged, plain_script, ran, rows_in

from sft_research import hardware, smollm2

BATCH = 4
CORES = len(os.sched_getaffinity(0))
Point = tuple[int, float]  # rank and learning rate


@dataclass(frozen=True)
class Swept:
    """Seconds from the first process to the end of the last, seconds of the runs' own, and their losses."""

    wall: float
    at_once: int
    threads: int
    steps: float  # of all runs: their steps, each as long as those after the first are in the mean
    after: float  # of all runs: from their last step to their end
    losses: dict[Point, list[float]]

    @property
    def shares(self) -> list[float]:
        """Of the time of all places: imports, loading and tokenising (ours: proofs too), steps, saving."""
        whole = self.wall * self.at_once
        return [(whole - self.steps - self.after) / whole, self.steps / whole, self.after / whole]


def swept(
    wall: float, at_once: int, threads: int, runs: dict[Point, tuple[list[dict[str, Any]], float]]
) -> Swept:
    """Of the logged steps and the end of each run."""
    steps = after = 0.0
    for rows, ended in runs.values():
        steps += (rows[-1]["time"] - rows[0]["time"]) * len(rows) / (len(rows) - 1)
        after += ended - rows[-1]["time"]
    losses = {point: [row["train/loss"] for row in rows] for point, (rows, _) in runs.items()}
    return Swept(wall, at_once, threads, steps, after, losses)


@dataclass(frozen=True)
class Sweep:
    """The points, and the work of each."""

    backend: str
    steps: int
    points: Sequence[Point]
    overrides: Sequence[str]

    def ours(self, n: int, place: Path) -> Swept:
        """One command."""
        ranks, rates = ({str(value): None for value in values} for values in zip(*self.points, strict=True))
        ours = command(self.backend, self.steps, BATCH, place, [*self.overrides, f"hydra.launcher.n={n}"])
        grid = ["-m", f"lora.r={','.join(ranks)}", f"optimizer.lr={','.join(rates)}"]
        began, ended, _ = ran([*ours, *grid], None)
        (file,) = place.glob("ours/default/grids/*/sweep.json")
        runs = {}
        for point in json.loads(file.read_text())["points"]:
            folder = file.parent / point["folder"]
            typed = dict(override.split("=", 1) for override in point["overrides"])
            ended_at = (folder / "result.json").stat().st_mtime
            runs[int(typed["lora.r"]), float(typed["optimizer.lr"])] = logged(folder), ended_at
        return swept(ended - began, n, max(CORES // n, 1), runs)

    def plain(self, threads: int, at_once: int, points: Sequence[Point], place: Path) -> Swept:
        """A process a point."""
        rows = rows_in(place)

        def one(point: Point) -> tuple[list[dict[str, Any]], float]:
            out = place / "-".join(map(str, point))
            _, ended, _ = ran(plain_script(rows, out, self.steps, self.backend, *point, BATCH), threads)
            return logged(out), ended

        began = time.time()
        with ThreadPoolExecutor(at_once) as pool:
            runs = dict(zip(points, pool.map(one, points), strict=True))
        return swept(time.time() - began, at_once, threads, runs)


def difference(a: Swept, b: Swept) -> str:
    """How many steps of all runs have the same loss, and by how much the others differ at the most."""
    pairs = [pair for point in a.losses for pair in zip(a.losses[point], b.losses[point], strict=True)]
    equal = sum(x == y for x, y in pairs)
    return f"{equal} of {len(pairs)}, {max(abs(x - y) for x, y in pairs):.1e}"


def table(ours: Swept, plain: Swept, alike: Swept) -> str:
    def row(name: str, of: Swept, *losses: str) -> str:
        shares = (f"{share:.0%}" for share in of.shares)
        cells = [name, f"{of.wall:.0f} s", f"{of.wall / plain.wall:.3f}", *shares, *losses]
        return f"| {' | '.join(cells)} |"

    return "\n".join(
        [
            "| | wall time | of the plain script's | imports, loading, tokenising | steps | saving "
            f"| equal losses, largest difference: at {ours.threads} thread(s) each | as timed |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
            row(f"plain script, in turn, {plain.threads} thread(s)", plain, "", ""),
            row(
                f"ours, {ours.at_once} at a time of {ours.threads} thread(s)",
                ours,
                difference(ours, alike),
                difference(ours, plain),
            ),
        ]
    )


def head(sweep: Sweep) -> str:
    versions = ("torch", "transformers", "trl", "peft", *(["unsloth"] if sweep.backend == "unsloth" else []))
    return (
        f"    python benchmarks/sweep.py {shlex.join(sys.argv[1:])}".rstrip()
        + f"\n\n{time.strftime('%Y-%m-%d')}, {', '.join(f'{v} {metadata.version(v)}' for v in versions)}.\n"
        f"{hardware.cpu()}, {CORES} cores; SmolLM2-135M through {sweep.backend}, float32, {len(sweep.points)} points "
        f"(rank x learning rate), {BATCH} rows x {sweep.steps} steps, no evaluation.\n"
    )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--n", type=int, default=CORES)
    asked.add_argument("--backend", choices=("transformers", "unsloth"), default="transformers")
    asked.add_argument("--steps", type=int, default=6)
    asked.add_argument("--ranks", default="8,16,32")
    asked.add_argument("--rates", default="1e-4,2e-4,4e-4,8e-4")
    asked.add_argument("overrides", nargs="*")
    given = asked.parse_args()
    ranks, rates = map(int, given.ranks.split(",")), map(float, given.rates.split(","))
    sweep = Sweep(given.backend, given.steps, list(product(ranks, rates)), given.overrides)
    smollm2.folder()  # converted before the clock starts: it is done once a machine
    os.environ.pop("OMP_NUM_THREADS", None)  # each side is given its own
    print(head(sweep), flush=True)

    def plain(threads: int, at_once: int, points: Sequence[Point]) -> Swept:
        with tempfile.TemporaryDirectory() as place:
            return sweep.plain(threads, at_once, points, Path(place))

    tried = [plain(threads, 1, sweep.points[:1]) for threads in sorted({1, CORES})]
    best = min(tried, key=lambda run: run.wall).threads
    timed = plain(best, 1, sweep.points)
    with tempfile.TemporaryDirectory() as place:
        ours = sweep.ours(given.n, Path(place))
    alike = timed if ours.threads == best else plain(ours.threads, given.n, sweep.points)
    said = ", ".join(f"{run.wall:.0f} s with {run.threads}" for run in tried)
    print(f"One plain run takes, by its threads: {said}.\n")
    print(table(ours, timed, alike), flush=True)


if __name__ == "__main__":
    main()
