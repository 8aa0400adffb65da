"""Run folders written by hand, as a run leaves them: small enough to work a comparison out on paper."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROWS = {"aa": (2, 1.0), "bb": (3, 2.0), "cc": (5, 2.0)}  # {row: (tokens, nats)}: 5 nats over 10 tokens


def config(r: int = 8, alpha: Any = 16, lr: float = 1e-3, seed: Any = 0, **more: Any) -> dict[str, Any]:
    """A run's config.yaml; `more` sets dotted keys, as training__max_steps=4."""
    node: dict[str, Any] = {
        "lora": {"r": r, "alpha": alpha},
        "optimizer": {"lr": lr},
        "seed": seed,
        "runs_dir": "runs",
        "model": {"name": "tiny", "max_length": 64},
        "dataset": {"seed": 0, "rows": 48},
        "training": {"max_steps": 6, "lr_scheduler_type": "linear", "per_device_train_batch_size": 8},
        "evaluation": {"questions": 2, "max_new_tokens": 8},
    }
    node["training"]["gradient_accumulation_steps"] = 1
    for key, value in more.items():
        group, _, name = key.partition("__")
        node[group][name] = value
    return node


def result(loss: float | None = 0.5, **more: Any) -> dict[str, Any]:
    scores = {"loss": loss, "questions": 2, "exact_match": 0.5, "form": 1.0}
    return {
        "id": "0" * 12,
        "name": "one",
        "command": "python -m sft_research.train model=tiny lora.r=8 seed=0",
        "before": scores | {"loss": 2.0, "exact_match": 0.0},
        "after": scores,
        "steps": 6,
        "held_out_rows": 3,
        "tokens": 900,
        "loss_tokens": 300,
        "train_seconds": 6.0,
        "lora_scale": 2.0,
        "preflight": "passed",
    } | more


def write(folder: Path, name: str, value: Any) -> None:
    text = "".join(json.dumps(line) + "\n" for line in value) if name.endswith("l") else json.dumps(value)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def metrics(losses: Sequence[float], examples: float = 8.0) -> list[dict[str, float]]:
    """A step each, of 50 loss tokens and a second; the held-out loss is that of training, at the last step."""
    rows = [
        {
            "step": i,
            "loss_tokens": 50 * i,
            "seconds": float(i),
            "train/loss": loss,
            "packing/examples": examples,
        }
        for i, loss in enumerate(losses, start=1)
    ]
    return [*rows, {"step": len(losses), "loss_tokens": 50 * len(losses), "eval/loss": losses[-1]}]


def run(
    place: Path,
    r: int = 8,
    lr: float = 1e-3,
    seed: Any = 0,
    loss: float | None = 0.5,
    *,
    alpha: Any = 16,
    rows: dict[str, tuple[float, float]] | None = None,
    results: dict[str, Any] | None = None,
    **more: Any,
) -> Path:
    """A finished run in `place`; each row's loss is moved so that they come to `loss`."""
    folder = place / f"lora.alpha={alpha},lora.r={r},optimizer.lr={lr:g},seed={seed}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config(r, alpha, lr, seed, **more)))
    command = f"python -m sft_research.train model=tiny lora.r={r} lora.alpha={alpha} optimizer.lr={lr:g} seed={seed}"
    said = {
        "name": folder.name,
        "command": command,
        "lora_scale": alpha / r if isinstance(alpha, int) else 1.0,
    }
    write(folder, "result.json", result(loss, **said | (results or {})))
    write(folder, "metrics.jsonl", metrics([2.0, 1.5, loss or 1.0]))
    write(
        folder,
        "environment.json",
        {"dataset_fingerprint": "f" * 16, "git": {"commit": "c" * 40}, "cpu": "a cpu"},
    )
    of = ROWS if rows is None else rows
    if loss is not None and of:
        times = loss * sum(tokens for tokens, _ in of.values()) / sum(nll for _, nll in of.values())
        lines = [{"row": key, "tokens": tokens, "nll": nll * times} for key, (tokens, nll) in of.items()]
        write(folder, "held_out.jsonl", lines)
    asked = [{"question": "1+1?", "expected": "2", "before": "7", "after": f"{r}", "right": r == 2}]
    write(folder, "samples.jsonl", asked)
    return folder


def grid(place: Path, losses: dict[tuple[int, float], Sequence[float]]) -> Path:
    """A run for each (rank, learning rate) and seed 0, 1, ..."""
    for (r, lr), by_seed in losses.items():
        for seed, loss in enumerate(by_seed):
            run(place, r, lr, seed, loss)
    return place
