"""What to set where memory ran out."""

from __future__ import annotations

from sft_research.config import Run


def savings(run: Run, batch: tuple[int, int] | None) -> list[tuple[str, str]]:
    """(overrides, what they save), the most telling first. `batch`: rows and tokens of the one that failed."""
    cfg = run.cfg.training
    rows, steps = cfg.get("per_device_train_batch_size", 8), cfg.get("gradient_accumulation_steps", 1)
    found = []
    if rows > 1:
        smaller = f"training.per_device_train_batch_size={rows // 2} training.gradient_accumulation_steps={2 * steps}"
        found.append((smaller, ""))
    return found
