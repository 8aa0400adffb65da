"""A grid's folder written by hand, as a driver leaves it: sweep.json beside the runs that it plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.compared import write

COMMAND = "python -m sft_research.train -m model=tiny lora.r=4,8"


def point(r: int, lr: float = 1e-3, seed: int = 0, state: str = "waiting", **more: Any) -> dict[str, Any]:
    """As `Grid.write` notes it; its run, where there is one, is what `tests.compared.run` writes."""
    overrides = ["lora.alpha=16", f"lora.r={r}", f"optimizer.lr={lr:g}", f"seed={seed}"]
    return {
        "overrides": [*overrides, "model=tiny"],
        "label": " ".join(overrides[1:]),
        "folder": f"../../{','.join(overrides)}",
        "state": state,
        "cause": None,
        "loss": None,
        "seconds": None,
        "host": None,
        "job": None,
    } | more


def sweep(
    experiment: Path, points: Sequence[Mapping[str, Any]], name: str = "g", command: Any = COMMAND
) -> Path:
    """Gives the grid's folder."""
    folder = experiment / "grids" / name
    write(folder, "sweep.json", {"command": command, "points": points})
    return folder
