"""`metrics.jsonl`: every logged value, keyed by step and by loss tokens seen; and the progress bar.

{"step": 3, "loss_tokens": 512, "tokens": 1490, "seconds": 21.4, "time": 1795318447.1, ...}
`seconds` are those of training steps alone; `time` is the clock when the line was written.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm
from transformers import TrainerCallback

from sft_research.evaluate import Judged
from sft_research.record import Folder
from sft_research.steps import Steps
from sft_research.training import Trainer

# What TRL and transformers log -> what we call it. Their num_tokens counts from 0 on every launch.
NAMES = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "grad_norm": "train/grad_norm",
    "entropy": "train/entropy",
    "mean_token_accuracy": "train/token_accuracy",
    "eval_loss": "eval/loss",
}
NOTE_S = 1.0  # between two notes of where the run is
OURS = ("step", "seconds", "time")  # of a row, beside what the tracker is given


class Metrics(TrainerCallback):
    """Writes each logged step to the file and the tracker, once, and moves the bar."""

    def __init__(
        self, folder: Folder, tracker: Steps, trainer: Trainer, console: IO[str], constant: dict[str, float]
    ) -> None:
        file = self._file = folder / "metrics.jsonl"
        self._note = folder.note
        self._noted = 0.0
        self._bar: Any = None
        self._tracker = tracker
        self.trainer = trainer
        self._console = console
        self._constant = constant  # logged with every training step: lora/scale
        # Those of an earlier process, where this one goes on: the tracker is given all it has not got.
        self.rows: list[dict[str, float]] = [json.loads(line) for line in _lines(file)]
        for row in self.rows:
            tracker.log({k: v for k, v in row.items() if k not in OURS}, int(row["step"]))
        self.seconds = 0.0  # in steps alone, evaluations left out
        self.earlier = 0.0  # seconds of earlier processes, of all they did
        self._began = time.perf_counter()
        self._step_began = 0.0
        self._before = (0, 0.0, 0, 0, 0)  # what had been counted at the last logged step
        trainer.add_callback(self)
        trainer.parts["metrics"] = self
        trainer.copied.append(file)

    def state(self) -> dict[str, Any]:
        elapsed = self.earlier + time.perf_counter() - self._began
        return {"seconds": self.seconds, "elapsed": elapsed, "before": list(self._before)}

    def restore(self, state: dict[str, Any]) -> None:
        self.seconds, self.earlier = state["seconds"], state["elapsed"]
        tokens, seconds, places, examples, step = state["before"]
        self._before = (tokens, seconds, places, examples, step)

    def record_scores(self, judged: Judged) -> None:
        """What was measured before or after training; a loss the trainer has logged is not logged twice."""
        measured = asdict(judged.scores)
        values = {
            f"eval/{k}": measured[k] for k in ("loss", "exact_match", "form") if measured[k] is not None
        }
        if self.held_out_loss_now() is not None:
            values.pop("eval/loss", None)
        self.record(values, self.trainer.state.global_step)

    def held_out_loss_now(self) -> float | None:
        """The held-out loss of the present weights, where it has been measured."""
        if self.trainer.args.load_best_model_at_end:
            return None  # once trained, the weights are those of an earlier step
        step = self.trainer.state.global_step
        return next(
            (row["eval/loss"] for row in self.rows if row["step"] == step and "eval/loss" in row), None
        )

    def record(self, values: dict[str, float], step: int) -> None:
        """One line; values logged twice at a step (training, then evaluation) are two lines."""
        counts = {"loss_tokens": int(self.trainer.loss_tokens), "tokens": int(self.trainer.tokens)}
        seconds = {"seconds": round(self.seconds, 3), "time": time.time()}
        row = {"step": step, **counts, **seconds, **values}
        with self._file.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self._tracker.log({**values, **counts}, step)
        self.rows.append(row)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="training",
            unit="step",
            file=self._console,
            leave=True,
        )

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._step_began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds += time.perf_counter() - self._step_began
        self._bar.update(1)
        if time.perf_counter() - self._noted > NOTE_S:
            self._noted = time.perf_counter()
            each = self.seconds / state.global_step
            left = (state.max_steps - state.global_step) * each
            loss = self.rows[-1].get("train/loss") if self.rows else None
            self._note(
                "training", step=state.global_step, steps=state.max_steps, loss=loss, left_seconds=left
            )

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        values = {NAMES[key]: float(value) for key, value in (logs or {}).items() if key in NAMES}
        if not values or "train_runtime" in (logs or {}):
            return  # the closing totals of transformers, with TRL's averages since the last logged step
        if "train/loss" in values:
            values |= self._since_the_last(state.global_step) | self._constant
            self._bar.set_postfix(
                loss=f"{values['train/loss']:.3f}", lr=f"{values['train/learning_rate']:.1e}"
            )
        self.record(values, state.global_step)

    def _since_the_last(self, step: int) -> dict[str, float]:
        """Speed, share of tokens that are no padding, and examples an optimizer step, since the last logged step."""
        trainer = self.trainer
        now = int(trainer.tokens), self.seconds, trainer.places, int(trainer.examples), step
        tokens, seconds, places, examples, steps = (
            new - old for new, old in zip(now, self._before, strict=True)
        )
        self._before = now
        return {
            "train/tokens_per_second": tokens / seconds if seconds else 0.0,
            "packing/real_tokens": tokens / places,
            "packing/examples": examples / steps,
        }

    def close(self) -> None:
        """The bar, also where training fails: what is said then is not to be drawn over."""
        if self._bar is not None:
            self._bar.close()

    def totals(self) -> dict[str, Any]:
        """What the training steps add up to: the fields of a Result that the trainer knows."""
        trained = [p.numel() for p in self.trainer.model.parameters() if p.requires_grad]
        tokens = int(self.trainer.tokens)
        return {
            "loss_first": float(self.trainer.loss_first),
            "loss_last": float(self.trainer.loss_last),
            "steps": self.trainer.state.global_step,
            "tokens": tokens,
            "loss_tokens": int(self.trainer.loss_tokens),
            "tokens_per_second": tokens / self.seconds if self.seconds else 0.0,
            "train_seconds": self.seconds,
            "trainable_parameters": sum(trained),
            "lora_scale": self._constant.get("lora/scale"),
        }


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.is_file() else []
