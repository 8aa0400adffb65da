"""Real tokens a second with each packing, padding not counted, side by side on the same rows and model.

python benchmarks/packing.py [--rounds 6] [OVERRIDE ...]
python benchmarks/packing.py dataset=gsm8k dataset.path=FOLDER        # other rows
python benchmarks/packing.py model.dtype=float32                      # auto where nothing is said

One process. In each round every packing takes one step (forward and backward of a batch of about the
same number of tokens), in an order that is turned round by round; a ratio is the median of the rounds'
ratios to none's step in the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_research import hardware, smollm2
from sft_research.arithmetic import question
from sft_research.config import Run, build, compose

# name -> examples, or rows of model.max_length, in a batch: about 1,000 tokens each
PACKINGS = {"none": 8, "grouped": 8, "padding_free": 8, "bfd": 2, "wrapped": 2}
ROWS = 400


@dataclass(frozen=True)
class Step:
    tokens: int
    places: int
    seconds: float

    @property
    def speed(self) -> float:
        return self.tokens / self.seconds


def sums(file: Path) -> None:
    """Rows of one to ten sums, so that they are of GSM8K's lengths: 60 to 400 tokens."""
    draw = random.Random(0)
    with file.open("w") as out:
        for _ in range(ROWS):
            # Log-normal, as lengths of answers are: most rows short, a few long.
            count = min(10, max(1, round(draw.lognormvariate(0.9, 0.6))))
            asked = [
                question(*sorted(draw.sample(range(100, 1000), 2), reverse=True), draw.choice)
                for _ in range(count)
            ]
            joined = {key: "\n".join(row[key] for row in asked) for key in asked[0]}
            out.write(json.dumps(joined) + "\n")


def trainers(overrides: Sequence[str], place: Path) -> Iterator[tuple[str, Any]]:
    """A trainer for each packing, all from the same weights and rows."""
    from transformers import set_seed

    from sft_research.prepare import prepare
    from sft_research.training import build_trainer

    shared: dict[str, Any] = {}
    for name, batch in PACKINGS.items():
        run: Run = compose(
            [
                "backend=transformers", f"packing={name}", "training.gradient_accumulation_steps=1",
                f"training.per_device_train_batch_size={batch}", "training.eval_strategy=no",
                "evaluation.questions=0", *overrides,
            ]
        )  # fmt: skip
        cfg = run.cfg
        set_seed(cfg.seed)
        model = build(cfg.model)
        tokenizer, added = model.tokenizer()
        data = prepare(cfg, tokenizer, added).data
        weights = build(cfg.backend).load(model, build(cfg.lora), added, len(tokenizer), cfg.seed)
        for parameter_name, parameter in weights.named_parameters():  # in memory once
            parameter.data = shared.setdefault(parameter_name, parameter.data)
        yield name, build_trainer(run, weights, data, str(place))


def steps(trainer: Any) -> Iterator[Step]:
    """One training step after another, without the optimizer's part, which no packing changes."""
    model = trainer.accelerator.prepare(trainer.model)
    trainer.current_gradient_accumulation_steps = 1  # what train() would set
    while True:
        for batch in trainer.get_train_dataloader():
            before = int(trainer.tokens), trainer.places
            began = time.perf_counter()
            trainer.training_step(model, batch)
            took = time.perf_counter() - began
            model.zero_grad()
            yield Step(int(trainer.tokens) - before[0], trainer.places - before[1], took)


def table(measured: dict[str, list[Step]]) -> Iterator[str]:
    yield "| packing | real tokens/s | x none | tokens a step | real |"
    yield "|---|--:|--:|--:|--:|"
    for name, found in measured.items():
        ratios = [s.speed / n.speed for s, n in zip(found, measured["none"], strict=True)]
        tokens, places = sum(s.tokens for s in found), sum(s.places for s in found)
        yield (
            f"| {name} | {statistics.median(s.speed for s in found):.0f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) "
            f"| {tokens / len(found):.0f} | {tokens / places:.0%} |"
        )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=6)
    asked.add_argument("overrides", nargs="*")
    given = asked.parse_args()
    smollm2.folder()  # converted before the clock starts: it is done once a machine
    with tempfile.TemporaryDirectory() as made:
        rows = Path(made) / "rows.jsonl"
        sums(rows)
        own = ["dataset=file", f"dataset.path={rows}", "dataset.held_out=0", "dataset_format=thinking"]
        running = {
            name: (trainer, steps(trainer))
            for name, trainer in trainers([*own, *given.overrides], Path(made))
        }
        measured: dict[str, list[Step]] = {name: [] for name in running}
        for round in range(-1, given.rounds):
            names = list(running)
            for name in names[round % len(names) :] + names[: round % len(names)]:
                step = next(running[name][1])
                if round >= 0:  # the one before warms up
                    measured[name].append(step)
    model = running["none"][0].model
    print(
        f"\n{hardware.cpu()}, {os.cpu_count()} cores; {model.config.model_type} of "
        f"{model.num_parameters() / 1e6:.0f} M parameters, {model.dtype}, LoRA; median of {given.rounds} rounds"
    )
    print(*table(measured), sep="\n")


if __name__ == "__main__":
    main()
