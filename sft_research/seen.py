"""The tokens that training has seen, kept in every checkpoint: curves go on from where they stopped."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

COUNTS = ("tokens", "loss_tokens")


class Seen(TrainerCallback, ExportableState):
    """`trainer_state.json` then holds stateful_callbacks.Seen.attributes: {"tokens": 1490, "loss_tokens": 512}."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {name: int(getattr(self.trainer, name)) for name in COUNTS}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint that training goes on from has said what was seen before it."""
        if state.global_step:
            kept = state.stateful_callbacks["Seen"]["attributes"]
            for name in COUNTS:
                getattr(self.trainer, name).fill_(kept[name])
