"""Faults in one rank of a run, or in the only one: an optimizer that does at a step what a file beside the run says."""

from __future__ import annotations

from pathlib import Path

OPTIMIZER = """
import os, torch
from pathlib import Path


class Misbehaving(torch.optim.AdamW):
    steps = 0

    def step(self, closure=None):
        done = super().step(closure)
        self.steps += 1
        fault = Path("fault")
        if fault.is_file():
            rank, step, what = fault.read_text().split()
            if (rank, step) == (os.environ.get("RANK", "0"), str(self.steps)):
                fault.unlink()
                if what == "raises":
                    raise ValueError("a bad day")
                os.kill(os.getpid(), int(what))
        return done
"""
OVERRIDES = ("optimizer._target_=misbehaving.Misbehaving",)


def prepare(place: Path, rank: int = 0, step: int = 0, what: str | int = "") -> None:
    """Let `rank` raise, or send itself a signal, after this step of its process, once. Step 0 never comes."""
    (place / "misbehaving.py").write_text(OPTIMIZER)
    if step:
        (place / "fault").write_text(f"{rank} {step} {what}")
