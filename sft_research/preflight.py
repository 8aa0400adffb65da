"""Proofs before the first step, on the run's own rows, model and optimizer; they change none of them.

    preflight  masks      424 answers end in a trained end of turn; ...          (in train.log)
    preflight  6 of 6 proofs hold in 3.2 s                                       (on the console too)
The first three need tokens alone and come before the model is loaded, the others when training begins:
only then are there an optimizer and a dataloader.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from sft_research import first_batch, proofs, proofs_of_training
from sft_research.config import ConfigError, Run
from sft_research.lora import FullFineTuning, Lora
from sft_research.proof_of_optimizer import settings
from sft_research.tokens import Data
from sft_research.training import Trainer

log = logging.getLogger(__name__)
PROOFS = ("masks", "turns", "overlap", "isolation", "lora", "optimizer")


class Preflight(TrainerCallback):
    """Raises ConfigError for the first proof that fails; `preflight=off` proves nothing."""

    def __init__(self, run: Run, data: Data, adapter: Lora | FullFineTuning) -> None:
        self.run, self.data, self.adapter = run, data, adapter
        self.seconds = 0.0
        self.held: dict[str, str] = {}
        length = run.cfg.model.max_length
        if run.preflight:
            self._prove("masks", lambda: proofs.masks(data, length))
            self._prove("turns", lambda: proofs.turns(data, length))
            self._prove("overlap", lambda: proofs.no_overlap(data, length))

    def before(self, trainer: Trainer) -> None:
        """Prove the rest when this trainer begins."""
        self.trainer = trainer
        if self.run.preflight:
            trainer.add_callback(self)

    def on_train_begin(self, args: Any, state: Any, control: Any, **live: Any) -> None:
        model, loader, optimizer = self.trainer.model, live["train_dataloader"], live["optimizer"]
        began = time.perf_counter()
        with first_batch.unchanged(model):
            rows = first_batch.features(loader)
            proofs_of_training.labels_in_every_row(loader.collate_fn(rows))
            packed = self.trainer.padding_free
            vocabulary = model.get_output_embeddings().weight.shape[0]
            chosen = first_batch.few(first_batch.pieces(rows), vocabulary)
            batch = first_batch.collated(chosen, loader, packed)
            self.seconds += time.perf_counter() - began
            self._prove("isolation", lambda: proofs_of_training.isolation(model, chosen, batch, packed))
            self._prove("lora", lambda: self._lora(model, batch, state.global_step))
            self._prove(
                "optimizer", lambda: settings(self.trainer, optimizer, self.run.resolved["optimizer"])
            )
        log.info("preflight  %d of %d proofs hold in %.1f s", len(self.held), len(PROOFS), self.seconds)

    def _lora(self, model: Any, batch: Any, step: int) -> str:
        asked = proofs_of_training.trainable(model, self.adapter, self.data.added_tokens)
        if step:
            return f"{asked}; goes on from step {step}, so its adapters have learned"
        return f"{asked}; {proofs_of_training.identity(model, self.adapter, batch)}"

    def _prove(self, name: str, proof: Callable[[], str]) -> None:
        began = time.perf_counter()
        try:
            self.held[name] = proof()
        except ConfigError as error:
            raise ConfigError(f"preflight, {name}: {error} (preflight=off goes on without proof)") from error
        finally:
            self.seconds += time.perf_counter() - began
        print(f"preflight  {name:<10} {self.held[name]}")  # into train.log, which takes what is printed
