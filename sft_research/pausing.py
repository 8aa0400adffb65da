"""A run that stops on its way to be held against others at the same point, and may go on: `pause_at=20000`.

Its schedule is that of the whole run, so what it is at 20,000 loss tokens is what the whole run is there. It has
saved a checkpoint, and pauses.json says where it was and what held-out loss it had; without `pause_at`, or with a
later one, the same command goes on from there to the same bits. What it measures goes into no other file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_research import identity, ranks
from sft_research.config import Run

if TYPE_CHECKING:
    from sft_research.record import Folder
    from sft_research.training import Trainer

NAME = "pauses.json"


@dataclass(frozen=True)
class Noted:
    """One pause: the `pause_at` that asked for it, the step and the loss tokens seen, nats a completion token."""

    at: float
    step: int
    loss_tokens: int
    loss: float | None  # None where no rows are held out


class Paused(Exception):
    """The run is where it was asked to pause, and saved."""

    def __init__(self, noted: Noted) -> None:
        self.noted = noted
        loss = "no rows are held out" if noted.loss is None else f"held-out loss {noted.loss:.4f}"
        super().__init__(
            f"Paused at step {noted.step}, after {noted.loss_tokens:,} loss tokens: {loss}. "
            "The same command with a later pause_at, or none, goes on from there."
        )


class Pause:
    """Where a trainer pauses: after the first step that reaches `at`, loss tokens or a share of the steps below 1.

    At its last step a run does not pause: it ends.
    """

    def __init__(
        self, at: float | None, folder: Folder, trainer: Trainer, measured: Callable[[], float | None]
    ) -> None:
        """`measured`: the held-out loss of the present weights, where rank 0 knows it."""
        self._at, self._folder, self._trainer, self._measured = at, folder, trainer, measured

    @property
    def due(self) -> bool:
        state = self._trainer.state
        if self._at is None or not 0 < state.global_step < state.max_steps:
            return False
        if self._at < 1:  # a third of 9 steps is 3, however it is rounded
            return bool(state.global_step >= self._at * state.max_steps - 1e-6)
        return int(self._trainer.loss_tokens) >= self._at

    def __call__(self) -> None:
        """With a checkpoint of these weights: measure, note, and raise Paused where it is due."""
        if not self.due:
            return
        if ranks.first():
            self._folder.note("pausing")
        with self._trainer.saving_when_stopped():
            loss = ranks.by_first(self._measured)
            if loss is None and self._trainer.held_out:
                loss = self._trainer.held_out_loss()
        assert self._at is not None
        step, tokens = self._trainer.state.global_step, int(self._trainer.loss_tokens)
        noted = Noted(self._at, step, tokens, loss)
        if ranks.first():
            earlier = [asdict(other) for other in pauses(self._folder.path) if other.at != self._at]
            self._folder.write_json(NAME, [*earlier, asdict(noted)])
            self._folder.note("paused", step=step, steps=self._trainer.state.max_steps)
        raise Paused(noted)


def pauses(folder: Path) -> list[Noted]:
    """Those of a run's folder, as it came to them."""
    try:
        found: Any = json.loads((folder / NAME).read_text())
        return [Noted(**noted) for noted in found]
    except (OSError, ValueError, TypeError):
        return []


def paused(run: Run, at: float | None) -> Noted | None:
    """What this very run has noted where it was asked to pause `at` some point, unless `rerun=true`."""
    if at is None or run.cfg.rerun or identity.read(run.folder).get("id") != run.id:
        return None
    return next((noted for noted in pauses(run.folder) if noted.at == at), None)
