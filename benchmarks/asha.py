"""How many loss tokens a search by successive halving takes, next to the whole grid, to find the same winner.

python benchmarks/asha.py                                        the tiny model, about 15 minutes on one core
python benchmarks/asha.py --runs FOLDER --reduction 2 4 --smallest 0.25    a grid that is there already

Every point of the grid is trained to its end once, and measured on the way. A run that pauses has the bits of one
that does not (tests/test_pausing.py), so a search of any seed is then driven by our own code over what was measured.
That this is what a search would do is shown on one that is really run, on the tiny model.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import comb, inf
from pathlib import Path
from statistics import mean
from typing import Any

from tqdm import tqdm

from sft_research import hardware, launcher, past_runs
from sft_research.asha import searched
from sft_research.config import NOT_IDENTITY
from sft_research.past_runs import PastRun
from sft_research.point import Ended, Point
from sft_research.suggestion import SAMPLERS
from tests.forked import Forker
from tests.searches import Formula, OneByOne, search

TASK = (
    *("model=tiny", "model.dtype=float32", "backend=transformers", "tracking=none", "preflight=off"),
    *("dataset.rows=360", "dataset.held_out=32", "evaluation.questions=0", "training.save_strategy=no"),
    *("training.per_device_train_batch_size=8", "training.gradient_accumulation_steps=1"),  # 45 steps
    f"training.eval_steps={1 / 9}",
)
VARIED = {
    "lora.r": ("4", "16", "64"),
    "optimizer.lr": ("1e-3", "3e-3", "1e-2", "2e-2", "5e-2", "1e-1"),
}

SEEDS = ("seed", "dataset.seed")


@dataclass(frozen=True)
class Table:
    """A grid of one seed, trained to its end: `varied` values, and the run of each combination."""

    varied: dict[str, tuple[str, ...]]
    runs: dict[tuple[str, ...], PastRun]

    @cached_property
    def tokens(self) -> list[int]:
        """Loss tokens seen after each step: the same in every run."""
        seen = {tuple(_of_steps(run)) for run in self.runs.values()}
        assert len(seen) == 1, "the runs differ in their batches"
        return list(seen.pop())

    @cached_property
    def losses(self) -> dict[tuple[str, ...], dict[int, float]]:
        return {
            values: {int(row["loss_tokens"]): row["eval/loss"] for row in run.metrics if "eval/loss" in row}
            for values, run in self.runs.items()
        }

    @property
    def winner(self) -> tuple[str, ...]:
        return min(self.losses, key=self.whole)

    @property
    def model(self) -> str:
        return str(next(iter(self.runs.values())).config.get("model.name"))

    @property
    def overrides(self) -> list[str]:
        return [f"{key}={','.join(values)}" for key, values in self.varied.items()]

    def whole(self, values: tuple[str, ...]) -> float:
        """The loss of a point at its end."""
        return self.losses[values][self.tokens[-1]]

    def by_chance(self, runs: int) -> float:
        """By how much the best of so many points exceeds the winner, in the mean of all ways to pick them."""
        losses = sorted(self.whole(values) for values in self.losses)
        ways = [comb(len(losses) - 1 - place, runs - 1) for place in range(len(losses))]
        return sum(w * loss for w, loss in zip(ways, losses, strict=True)) / sum(ways) - losses[0]

    def loss(self, words: dict[str, str], tokens: int) -> float:
        """What was measured there."""
        rows = self.losses[tuple(words[key] for key in self.varied)]
        assert tokens in rows, f"no held-out loss after {tokens} loss tokens; --smallest 0.25 --reduction 2?"
        return rows[tokens]


@dataclass(frozen=True)
class Found:
    """What a search came to: its best trial, and the loss tokens that it took."""

    values: tuple[str, ...]
    tokens: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", help="folders of finished runs: a whole grid")
    parser.add_argument("--reduction", type=int, nargs="+", default=[3])
    parser.add_argument("--smallest", type=float, default=1 / 9, help="as hydra.sweeper.smallest")
    parser.add_argument("--sampler", choices=SAMPLERS, nargs="+", default=list(SAMPLERS))
    parser.add_argument(
        "--seeds", type=int, default=20, help="searches of each kind, for each seed of the runs"
    )
    asked = parser.parse_args()
    launcher.LOOK_S = 0.0
    with tempfile.TemporaryDirectory() as place:
        if asked.runs:
            tables, checked = tables_of(past_runs.find(asked.runs)), ""
        else:
            tables = [made(Path(place))]
            checked = really(tables[0])
        kinds = [
            {"sampler": sampler, "reduction": reduction, "smallest": asked.smallest}
            for reduction, sampler in product(asked.reduction, asked.sampler)
        ]
        print(report(tables, asked.seeds, kinds), checked, sep="\n")


def made(place: Path) -> Table:
    """The grid of the tiny model."""
    with Forker() as forker:
        for values in tqdm(list(product(*VARIED.values())), desc="the whole grid"):
            pairs = zip(VARIED, values, strict=True)
            overrides = [*TASK, *(f"{key}={value}" for key, value in pairs), f"runs_dir={place}/grid"]
            assert forker.run(overrides, place).status == 0, (place / "said").read_text()[-2000:]
    (table,) = tables_of(past_runs.find([place / "grid"]))
    return table


def tables_of(runs: Sequence[PastRun]) -> list[Table]:
    """One for each seed."""
    known = [run for run in runs if run.state == "finished"]
    keys = sorted({key for run in known for key in run.config})
    tried = {key: {str(run.config.get(key)) for run in known} for key in keys}
    varied = {
        key: tuple(sorted(values, key=_number))
        for key, values in tried.items()
        if len(values) > 1 and key not in SEEDS and key.partition(".")[0] not in NOT_IDENTITY
    }
    tables = []
    for seed in sorted({str(run.seed) for run in known}):
        of = {tuple(str(run.config.get(k)) for k in varied): run for run in known if str(run.seed) == seed}
        if missing := set(product(*varied.values())) - set(of):
            raise SystemExit(f"the grid is not whole: {len(missing)} points of seed {seed} are not finished")
        tables.append(Table(varied, of))
    return tables


def sought(table: Table, engine: Formula | Really, **how: Any) -> Found:
    """One search of all points of the grid, in a folder of its own."""
    with tempfile.TemporaryDirectory() as place, chdir(place), open(os.devnull, "w") as nowhere:
        extra = TASK[1:] if isinstance(engine, Really) else ()
        asked = search(
            *extra,
            *table.overrides,
            trials=len(table.runs),
            **how,
        )
        with redirect_stdout(nowhere):
            searched(asked, engine)
        return found_in(asked.folder / "sweep.json", table)


def found_in(file: Path, table: Table) -> Found:
    points = json.loads(file.read_text())["points"]
    ended = [point for point in points if point["state"] == "finished"]
    best = min(ended, key=lambda point: point["loss"])["values"]
    return Found(tuple(str(best[key]) for key in table.varied), sum(p["loss_tokens"] for p in points))


class Really(OneByOne):
    """Each run is forked from a process that has done the imports, and trains."""

    def __init__(self, forker: Forker) -> None:
        super().__init__()
        self._forker = forker

    def trained(self, point: Point) -> Ended:
        words = [word for word in point.command[3:] if not word.startswith("hydra.")]
        return Ended(self._forker.run(words, Path.cwd()).status, "")


def really(table: Table) -> str:
    """Whether a search that trains comes to what one over the table does."""
    over_table = sought(table, Formula(table.loss, table.tokens), sampler="tpe", seed=0)
    with Forker() as forker:
        trained = sought(table, Really(forker), sampler="tpe", seed=0)
    same = "the same" if trained == over_table else f"another, which must not be: {over_table}"
    return (
        f"\nThe search by tpe of seed 0 was really run too: {trained.tokens:,} loss tokens, winner "
        f"{' '.join(trained.values)}; over the table it is {same}."
    )


def report(tables: Sequence[Table], seeds: int, kinds: Sequence[dict[str, Any]]) -> str:
    points, whole = len(tables[0].runs), mean(table.tokens[-1] for table in tables)
    lines = [
        f"{hardware.cpu()}, {os.cpu_count()} cores; {tables[0].model}; {points} points,",
        f"{'; '.join(tables[0].overrides)};",
        f"{len(tables)} seeds of training, {whole:,.0f} loss tokens a whole run;",
        f"first budget {kinds[0]['smallest']:.3g} of it, {seeds} searches of each seed.",
        "",
        "| | loss tokens, mean | of the grid's | same winner | loss above the winner's, mean | at most |",
        "|---|--:|--:|--:|--:|--:|",
        f"| the whole grid | {points * whole:,.0f} | 100 % | | | |",
    ]
    for how in kinds:
        lines += _rows(tables, seeds, how)
    for table in tables:
        order = sorted(table.losses, key=table.whole)[:3]
        said = "; ".join(f"{' '.join(values)} {table.whole(values):.4f}" for values in order)
        lines += ["", f"Best of the grid ({', '.join(table.varied)}): {said}"]
    return "\n".join(lines)


def _rows(tables: Sequence[Table], seeds: int, how: dict[str, Any]) -> list[str]:
    """Of one kind of search, and of as many whole runs as it costs."""
    name = f"asha, {how['sampler']}, reduction {how['reduction']}"
    all_of = [(table, seed) for table in tables for seed in range(seeds)]
    found = [
        (table, sought(table, Formula(table.loss, table.tokens), seed=seed, **how))
        for table, seed in tqdm(all_of, desc=name)
    ]
    runs = mean(one.tokens / table.tokens[-1] for table, one in found)
    points, picked = len(tables[0].runs), round(runs)
    above = [table.whole(one.values) - table.whole(table.winner) for table, one in found]
    same = mean(one.values == table.winner for table, one in found)
    spent = f"{mean(one.tokens for _, one in found):,.0f} | {runs / points:.0%}"
    chance = mean(table.by_chance(picked) for table in tables)
    return [
        f"| {name} | {spent} | {same:.0%} | {mean(above):.4f} | {max(above):.4f} |",
        f"| {picked} whole runs, picked by chance | {picked * tables[0].tokens[-1]:,.0f} | {picked / points:.0%} "
        f"| {picked / points:.0%} | {chance:.4f} | |",
    ]


def _of_steps(run: PastRun) -> list[int]:
    seen = {int(row["step"]): int(row["loss_tokens"]) for row in run.metrics if row.get("step", 0) > 0}
    return [seen[step] for step in sorted(seen)]


def _number(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return inf, text


if __name__ == "__main__":
    main()
