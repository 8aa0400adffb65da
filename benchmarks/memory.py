"""The memory estimate of `plan=true` beside the measured peak: runs of two steps on this CPU, a process each.

python benchmarks/memory.py

SmolLM2-135M with its real weights; the peak is the largest resident memory of the process, as the system
counts it. Every row is as long as model.max_length, so that no batch is smaller than the plan says.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from sft_research import hardware, smollm2
from sft_research.arithmetic import Arithmetic

LENGTH = 256
SETTINGS = (
    ("LoRA r=16, 2 x 256", ["training.per_device_train_batch_size=2"]),
    ("LoRA r=16, 8 x 256", ["training.per_device_train_batch_size=8"]),
    (
        "LoRA r=16, 8 x 256, gradient checkpointing",
        ["training.per_device_train_batch_size=8", "backend.gradient_checkpointing=true"],
    ),
    ("all weights, 2 x 256", ["training.per_device_train_batch_size=2", "lora=none"]),
)


def rows(file: Path) -> Path:
    """Answers of many sums, each longer than 256 tokens, which is where they are cut."""
    sums = Arithmetic(2000, 0, "easy", 0).load().train
    text = [f"{row['instruction']} {row['response']}" for row in sums]
    lines = [
        json.dumps({"instruction": f"Go on, {n}.", "response": " ".join(text[20 * n : 20 * n + 20])})
        for n in range(60)
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


def overrides(data: Path, out: Path) -> list[str]:
    return [
        "dataset=file", f"dataset.path={data}", "dataset.held_out=0", "dataset_format=instruction",
        "evaluation.questions=0", "training.eval_strategy=no", "training.max_steps=2",
        "training.gradient_accumulation_steps=1", f"model.max_length={LENGTH}", "model.dtype=float32",
        "backend=transformers", "tracking=none", "preflight=off", f"runs_dir={out}",
    ]  # fmt: skip


def run(command: list[str]) -> tuple[str, float]:
    """What it printed, and its peak in GiB."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        output.seek(0)
        said = output.read().decode()
    if status:
        sys.exit(f"{' '.join(command)}\n{said[-3000:]}")
    return said, usage.ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    smollm2.folder()
    print(f"{hardware.cpu()}, {os.cpu_count()} cores; SmolLM2-135M, float32, 2 steps\n")
    print("| setting | estimated, GiB | measured, GiB | estimated / measured |")
    print("|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as place:
        data = rows(Path(place) / "rows.jsonl")
        for name, own in SETTINGS:
            command = [sys.executable, "-m", "sft_research.train", *overrides(data, Path(place)), *own]
            said, _ = run([*command, "plan=true"])
            found = re.search(r"^ +peak +([\d.]+) GiB", said, re.MULTILINE)
            assert found, said
            _, measured = run(command)
            estimated = float(found[1])
            print(f"| {name} | {estimated:.2f} | {measured:.2f} | {estimated / measured:.2f} |", flush=True)


if __name__ == "__main__":
    main()
