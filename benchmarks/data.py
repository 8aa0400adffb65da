"""How fast rows become tokens: TRL's own preparation, ours, and ours from the cache, in turn in one process.

python benchmarks/data.py ROWS.jsonl [--rounds 3]

ROWS holds questions and answers, such as GSM8K's 7,473. All three give the same tokens with the loss on the
answer, which is checked; one process and one thread, SmolLM2's tokenizer and chat template.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")

import datasets
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

from sft_research import files, hardware, smollm2, tiny
from sft_research.config import compose
from sft_research.prepare import Prepared, prepare

MAX_LENGTH = 512


class Timed(SFTTrainer):
    """TRL's trainer, with a clock around its preparation of the rows."""

    seconds = 0.0

    def _prepare_dataset(self, *given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        made = super()._prepare_dataset(*given, **named)
        self.seconds = time.perf_counter() - began
        return made


def by_trl(rows: list[Any], tokenizer: Any, place: str) -> tuple[float, datasets.Dataset]:
    """Seconds and tokens of prompt and completion as conversations, the loss on the completion."""
    made = datasets.Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": row["question"]}],
                "completion": [{"role": "assistant", "content": row["answer"]}],
            }
            for row in rows
        ]
    )
    args = SFTConfig(place, max_length=MAX_LENGTH, report_to="none", bf16=False, disable_tqdm=True)
    trainer = Timed(str(tiny.folder()), args, train_dataset=made, processing_class=tokenizer)
    return trainer.seconds, trainer.train_dataset


def by_us(file: Path, tokenizer: Any) -> Prepared:
    """From the file to the tokens, reading and fingerprint included."""
    run = compose(
        [
            *("model=smollm2", f"model.max_length={MAX_LENGTH}", "dataset=file", f"dataset.path={file}"),
            *("dataset.held_out=0", "training.eval_strategy=no", "evaluation.questions=0"),
            *("dataset_format=instruction", "tracking=none"),
            *("dataset_format.instruction=question", "dataset_format.response=answer"),
        ]
    )
    return prepare(run.cfg, tokenizer, [])


def one_round(file: Path, rows: list[Any], tokenizer: Any) -> dict[str, float]:
    """Seconds of each, with a cache that is empty at first."""
    with tempfile.TemporaryDirectory() as place:
        os.environ["HF_HOME"] = place
        cold, kept = by_us(file, tokenizer), by_us(file, tokenizer)
        seconds, made = by_trl(rows, tokenizer, place)
        assert (cold.from_cache, kept.from_cache) == (False, True)
        theirs = zip(made["input_ids"], made["labels"], strict=True)
        for example, (ids, labels) in zip(kept.data.train.examples, theirs, strict=True):
            # The template's line break after the end of turn is part of TRL's completion, and not of ours.
            assert example.input_ids == ids[: len(example.input_ids)]
            assert example.labels == labels[: len(example.labels)]
        return {"TRL": seconds, "ours": cold.seconds, "ours, from the cache": kept.seconds}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("rows", type=Path)
    asked.add_argument("--rounds", type=int, default=3)
    given = asked.parse_args()
    datasets.disable_caching()
    datasets.disable_progress_bars()
    tiny.folder()
    tokenizer = AutoTokenizer.from_pretrained(smollm2.folder())
    rows = files.read(str(given.rows), "path")
    tokenizer(["warm"] * 100)
    rounds = [one_round(given.rows, rows, tokenizer) for _ in range(given.rounds)]
    print(f"{hardware.cpu()}, {os.cpu_count()} cores, one used; {len(rows):,} rows of {given.rows.name}")
    print("| preparation | rows/s | times TRL, median of the rounds (range) |")
    print("|---|--:|--:|")
    for name in rounds[0]:
        speed = statistics.median(len(rows) / seconds[name] for seconds in rounds)
        ratios = [seconds["TRL"] / seconds[name] for seconds in rounds]
        print(
            f"| {name} | {speed:,.0f} | {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) |"
        )


if __name__ == "__main__":
    main()
