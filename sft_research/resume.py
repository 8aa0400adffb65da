"""A trainer that goes on from its checkpoint as if it had never stopped: bit for bit, on a CPU.

transformers restores weights, optimizer, schedule and, once the first batch is drawn, the random states. What
it leaves out makes results differ (huggingface/transformers#11323) and is kept here, in progress.json beside
its files: the state from which the epoch's order was drawn, losses and counts between two logged steps, an
evaluation that was cut short. A checkpoint holds metrics.jsonl as it was, too.

Imported only after `backend.activate()`.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import TrainerState
from transformers.trainer_utils import rotate_checkpoints
from trl import SFTTrainer

from sft_research import checkpoint, ranks
from sft_research.config import ConfigError
from sft_research.loop import PROGRESS, Loop
from sft_research.pausing import Pause
from sft_research.stopping import Stopped

TENSORS = ("tokens", "loss_tokens", "examples", "loss_first", "loss_last", "_tr_loss")  # each of no dimension
NUMBERS = ("places", "_loss_step", "_globalstep_last_logged", "_total_loss_scalar")


class Part(Protocol):
    """Something beside the trainer that counts along; `state` is plain, for JSON."""

    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...


class Resumable(SFTTrainer):
    """SFTTrainer whose checkpoints are whole, hold all that decides what follows, and are made when asked to stop."""

    def __init__(self, *rest: Any, **named: Any) -> None:
        super().__init__(*rest, **named)
        self.parts: dict[str, Part] = {}
        self.copied: list[Path] = []  # files that a checkpoint holds as they were
        self.came_from: Path | None = None
        self.pause: Pause | None = None
        self._writing: Path | None = None
        self.begun = 0  # the step that was begun last, from 1
        self.cut_short = False  # whether the evaluation of this step is still to be made
        self.loop = Loop(self)
        self.add_callback(self.loop)

    @property
    def checkpoints(self) -> Path:
        return Path(self.args.output_dir)

    def saved_step(self) -> int | None:
        """The step of the checkpoint of the present weights, where there is one."""
        step = self.state.global_step
        return step if (self.checkpoints / f"checkpoint-{step}" / checkpoint.MANIFEST).is_file() else None

    def train(self, resume_from_checkpoint: Any = None, **named: Any) -> Any:
        if resume_from_checkpoint is None:
            return super().train(**named)
        self.came_from = Path(resume_from_checkpoint)
        state = TrainerState.load_from_json(str(self.came_from / "trainer_state.json"))
        if state.global_step < state.max_steps:
            return super().train(resume_from_checkpoint=str(self.came_from), **named)
        return self._take_up_the_end(state)  # transformers would train one step more

    def _take_up_the_end(self, state: TrainerState) -> None:
        """What training ended with: the last weights, or the best where those are asked for."""
        self._load_from_checkpoint(str(self.came_from))
        self.state = state
        self.restore()
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint:
            self._load_best_model()

    def counts(self) -> dict[str, Any]:
        """All that a micro-batch adds to, as it is now."""
        return {
            "tensors": {name: getattr(self, name).clone() for name in TENSORS},
            "numbers": {name: getattr(self, name) for name in NUMBERS},
            "logged": {name: list(values) for name, values in self._metrics["train"].items()},
            "parts": {name: part.state() for name, part in self.parts.items()},
        }

    def set_counts(self, counts: dict[str, Any]) -> None:
        for name, value in counts["tensors"].items():
            device = self.args.device
            dtype = getattr(self, name, torch.zeros(())).dtype
            setattr(self, name, torch.as_tensor(value, dtype=dtype, device=device).clone())
        for name, value in counts["numbers"].items():
            setattr(self, name, value)
        self._metrics["train"].clear()
        self._metrics["train"].update({name: list(values) for name, values in counts["logged"].items()})
        for name, part in self.parts.items():
            part.restore(counts["parts"][name])

    def restore(self) -> None:
        """Take up the counts of the checkpoint, and make the evaluation that it still owes."""
        assert self.came_from
        kept = json.loads((self.came_from / PROGRESS).read_text())
        self.set_counts(kept["counts"])
        self._find_best()
        best = self.state.best_model_checkpoint
        if self.args.load_best_model_at_end and best and not checkpoint.whole(Path(best)):
            raise ConfigError(f"{best}, the best checkpoint so far, is damaged. Fix: rerun=true")
        if kept["cut_short"]:
            self.control.should_evaluate, self.control.should_save = True, False
            self._maybe_log_save_evaluate(self._tr_loss, None, self.model, None, 0, None, time.time())
            self._find_best()

    def _find_best(self) -> None:
        """The best checkpoint lies in this folder, wherever the folder lay when it was saved."""
        step, before = self.state.best_global_step, self.state.best_model_checkpoint
        best = self.checkpoints / f"checkpoint-{step}"
        if step and (step == self.state.global_step or best.is_dir()):
            self.state.best_model_checkpoint = str(best)
        elif before:  # the best step was evaluated, and not saved
            self.state.best_model_checkpoint = str(self.checkpoints / Path(before).name)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The run's own card says more than TRL's, which would lie beside the checkpoints."""

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._writing or self.checkpoints)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        place = self.checkpoints / f"checkpoint-{self.state.global_step}"
        with _written_by_all(place) as beside:
            self._writing = beside.parent
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._writing = None
            self._find_best()
            if not ranks.first():  # it has saved its random states
                return
            self.state.save_to_json(str(beside / "trainer_state.json"))
            counts = self.counts()
            counts["tensors"] = {name: tensor.item() for name, tensor in counts["tensors"].items()}
            kept = {"counts": counts, "order": self.loop.order(), "cut_short": self.cut_short}
            (beside / PROGRESS).write_text(json.dumps(kept))
            for file in self.copied:
                shutil.copyfile(file, beside / file.name)
        rotate_checkpoints(
            output_dir=str(self.checkpoints),
            save_total_limit=self.args.save_total_limit,
            best_model_checkpoint=self.state.best_model_checkpoint,
            use_mtime=True,
        )

    def _evaluate(self, *rest: Any, **named: Any) -> Any:
        with self.saving_when_stopped(cut_short=True):
            return super()._evaluate(*rest, **named)

    @contextmanager
    def saving_when_stopped(self, cut_short: bool = False) -> Iterator[None]:
        """Between two steps: what is stopped inside is made again from a checkpoint of these weights."""
        try:
            yield
        except Stopped as stopped:
            if self.saved_step() is None and self.state.global_step:
                self.cut_short = cut_short
                self._save_checkpoint(self.model, None)
            raise Stopped(stopped.number, self.saved_step()) from None


@contextmanager
def _written_by_all(place: Path) -> Iterator[Path]:
    """`checkpoint.writing` of all ranks: the first begins and ends it, the others write what is theirs meanwhile."""
    if ranks.first():
        with checkpoint.writing(place) as beside:
            ranks.wait()
            yield beside
            ranks.wait()
    else:
        ranks.wait()
        yield checkpoint.beside(place)
        ranks.wait()
    ranks.wait()  # it is whole, for all to see
