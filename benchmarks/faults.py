"""Runs that are killed, starved of disk and torn, then started again: does each end as if nothing had been?

python benchmarks/faults.py [--kills 120] [--others 12] [--seed 0]

The tiny model, four settings. A kill is SIGKILL: at a chosen event within loading, training, saving,
evaluating or finishing (a file opened, renamed or removed, a batch, a token), or after a random time. A run is
killed up to four times before it may end. It is recovered when it ends with a result, and bit-identical when
weights, answers, results and every line of metrics.jsonl but its clocks are those of the run nobody touched.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sft_research import hardware
from sft_research.config import compose
from tests.forked import STAGES, Ended, Forker, differences
from tests.runs import TINY

COMMON = (*TINY, "backend=transformers", "tracking=none", "lora.dropout=0.1")
ACCUMULATED = ("training.per_device_train_batch_size=2", "training.gradient_accumulation_steps=4")
SETTINGS = (
    (),
    ("packing=bfd", "model.max_length=256", "training.num_train_epochs=2"),
    (*ACCUMULATED, "optimizer=adamw_8bit", "training.logging_steps=4"),
    (*ACCUMULATED, "packing=grouped", "training.num_train_epochs=2", "training.eval_strategy=epoch"),
)
KINDS = ("loading", *dict.fromkeys(STAGES.values()))


@dataclass
class Campaign:
    """Counts by kind of fault; a run counts for every kind it met."""

    forker: Forker
    place: Path
    random: random.Random
    references: list[tuple[Path, Ended]] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    recovered: Counter[str] = field(default_factory=Counter)
    identical: Counter[str] = field(default_factory=Counter)
    number: int = 0

    def new(self) -> tuple[int, Path]:
        """(setting, an empty folder to run it in)"""
        setting = self.number % len(SETTINGS)
        place = self.place / str(self.number)
        place.mkdir()
        self.number += 1
        return setting, place

    def refer(self) -> None:
        """The runs that nobody touches."""
        for setting in SETTINGS:
            place = self.place / f"reference-{len(self.references)}"
            place.mkdir()
            ended = self.forker.run((*COMMON, *setting), place)
            assert ended.status == 0, (place / "said").read_text()
            self.references.append((place / folder_of(setting), ended))

    def killed(self) -> int:
        """One run, killed one to four times; gives how often it was."""
        setting, place = self.new()
        met = []
        for _ in range(self.random.randint(1, 4)):
            kind, fault = self.kill(self.references[setting][1])
            ended = self.forker.run((*COMMON, *SETTINGS[setting]), place, **fault)
            if ended.status == 0:
                break  # it had no such event left
            assert ended.killed, (place / "said").read_text()
            met.append(kind)
        self.judge(setting, place, [f"kill, {kind}" for kind in met])
        return len(met)

    def kill(self, reference: Ended) -> tuple[str, dict[str, Any]]:
        """(what it is, the fault) of the next kill."""
        if self.random.random() < 0.3:
            return "after a random time", {"kill_after": self.random.uniform(0.05, 3.0)}
        stage = self.random.choice(KINDS)
        return stage, {"stage": stage, "at": self.random.randint(1, reference.stages.count(stage))}

    def starved(self) -> None:
        """No file may grow past a random size, as on a full disk, until the run is started again."""
        setting, place = self.new()
        limit = int(2 ** self.random.uniform(9, 18))
        ended = self.forker.run((*COMMON, *SETTINGS[setting]), place, limit=limit)
        self.judge(setting, place, ["disk full"] if ended.status else [])

    def torn(self) -> None:
        """A file of the folder loses its end or a bit, as in a power cut, before the run goes on."""
        setting, place = self.new()
        events = self.references[setting][1].stages.count("finishing")
        fault = {"stage": "finishing", "at": self.random.randint(1, events)}
        self.forker.run((*COMMON, *SETTINGS[setting]), place, **fault)
        files = [
            f for f in (place / folder_of(SETTINGS[setting])).rglob("*") if f.is_file() and f.stat().st_size
        ]
        file = self.random.choice([f for f in files if f.name not in ("said", "train.log")])
        content = bytearray(file.read_bytes())
        at = self.random.randrange(len(content))
        if self.random.random() < 0.5:
            content = content[:at]
        else:
            content[at] ^= 1 << self.random.randrange(8)
        file.write_bytes(bytes(content))
        self.judge(setting, place, ["torn file"])

    def judge(self, setting: int, place: Path, met: list[str]) -> None:
        """Start the run again, without a fault, and compare."""
        self.injected.update(met)
        ended = self.forker.run((*COMMON, *SETTINGS[setting]), place)
        folder = place / folder_of(SETTINGS[setting])
        well = ended.status == 0 and (folder / "result.json").is_file()
        found = differences(self.references[setting][0], folder) if well else ["no result"]
        if found:
            tqdm.write(f"{place}: {met}: {found}")
        for kind in {*met, "any"} if met else ():
            self.runs[kind] += 1
            self.recovered[kind] += well
            self.identical[kind] += not found

    def table(self) -> str:
        lines = [
            "| fault | injected | runs that met it | recovered | bit-identical | results lost |",
            "|---|--:|--:|--:|--:|--:|",
        ]
        self.injected["any"] = sum(self.injected.values())
        for kind in sorted(self.runs, key=lambda k: (k == "any", k)):
            runs, recovered = self.runs[kind], self.recovered[kind]
            numbers = (self.injected[kind], runs, recovered, self.identical[kind], runs - recovered)
            lines.append(f"| {kind} | {' | '.join(map(str, numbers))} |")
        return "\n".join(lines)


def folder_of(setting: tuple[str, ...]) -> Path:
    return compose((*COMMON, *setting)).folder


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--kills", type=int, default=120)
    asked.add_argument("--others", type=int, default=12, help="runs starved of disk, and as many torn")
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as made, Forker() as forker:
        campaign = Campaign(forker, Path(made), random.Random(given.seed))
        campaign.refer()
        with tqdm(total=given.kills + 2 * given.others, unit="fault") as bar:
            while sum(campaign.injected.values()) < given.kills:
                bar.update(campaign.killed())
            for _ in range(given.others):
                campaign.starved()
                campaign.torn()
                bar.update(2)
    print(
        f"{hardware.cpu()}, {os.cpu_count()} cores; seed {given.seed}; the tiny model, {len(SETTINGS)} settings"
    )
    print(campaign.table())


if __name__ == "__main__":
    main()
