"""Watches the training loop: where an epoch's order was drawn from, when to save, and whether to stop or to pause."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import TrainerCallback

from sft_research import ranks, stopping

if TYPE_CHECKING:
    from sft_research.resume import Resumable

PROGRESS = "progress.json"


class Loop(TrainerCallback):
    def __init__(self, trainer: Resumable) -> None:
        self.trainer = trainer
        self._epoch_began = torch.get_rng_state()
        self._resuming = False
        self._save_at_epoch_end = False

    def order(self) -> str | None:
        """The random state that the epoch's order was drawn from; None between two epochs."""
        between = float(self.trainer.state.epoch or 0).is_integer()
        return None if between else self._epoch_began.numpy().tobytes().hex()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trainer.came_from:
            self.trainer.restore()
            self._resuming = True
            self._pause()  # killed between the checkpoint and the note of it, or past it already

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._resuming:
            self._resuming = False
            self._resume_order()
        if ranks.count() > 1:  # each draws the order by itself, and they must draw the same
            torch.set_rng_state(ranks.by_first(torch.get_rng_state))
        self._epoch_began = torch.get_rng_state()
        self._random = random_states()

    def _resume_order(self) -> None:
        """transformers sets the random states only after it has drawn this epoch's order, by other ones.

        It matters to packing=grouped; otherwise accelerate's sampler draws from the seed and the epoch's number.
        """
        assert self.trainer.came_from
        order = json.loads((self.trainer.came_from / PROGRESS).read_text())["order"]
        if order is not None:
            torch.set_rng_state(torch.tensor(list(bytes.fromhex(order)), dtype=torch.uint8))

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.begun = state.global_step + 1
        self._counts = self.trainer.counts()

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Asked to stop between two batches of a step: the whole step before it is what is kept."""
        if not stopping.requested():
            return
        if state.global_step and self.trainer.saved_step() is None:
            self.trainer.set_counts(self._counts)
            set_random_states(self._random)
            self.trainer._save_checkpoint(self.trainer.model, None)
        stopping.poll(self.trainer.saved_step())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._random = random_states()
        if stopping.requested() or (self.trainer.pause and self.trainer.pause.due):
            control.should_save = True
        ends_epoch = control.should_training_stop or float(state.epoch).is_integer()
        if control.should_save and ends_epoch:
            # What is logged and evaluated once an epoch comes first, else it would be lost.
            control.should_save = False
            self._save_at_epoch_end = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._save_at_epoch_end:
            control.should_save = True
            self._save_at_epoch_end = False

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        stopping.poll(self.trainer.saved_step())
        self._pause()

    def _pause(self) -> None:
        if self.trainer.pause:
            self.trainer.pause()


def random_states() -> tuple[Any, ...]:
    """Of Python, numpy, and torch on the CPU and every GPU."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), gpus


def set_random_states(states: tuple[Any, ...]) -> None:
    python, numpy, cpu, gpus = states
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if gpus is not None:
        torch.cuda.set_rng_state_all(gpus)
