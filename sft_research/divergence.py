"""A loss that is no number, or far above that of a guess, stops the run before the weights are changed by it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log
from typing import Any

from transformers import TrainerCallback

from sft_research import ranks
from sft_research.on_oom import starts
from sft_research.tokens import Example

FAR = 3  # times the loss of a guess among all tokens, ln(vocabulary)


@dataclass(eq=False)
class Diverged(Exception):
    """`rows`: numbers of the step's training rows from 1, as the preview shows them; `norms`: of the gradient
    in the steps before it, the latest last."""

    step: int
    loss: float
    norm: float
    norms: list[float]
    rows: list[int]

    def __str__(self) -> str:
        before = ", ".join(f"{norm:.3g}" for norm in self.norms) or "none, it is the first step"
        return (
            f"step {self.step} has loss {self.loss:.4g} and gradient norm {self.norm:.3g}. Norms before it: {before}. "
            f"Training rows of the step: {', '.join(map(str, self.rows)) or 'none that is whole'}"
        )


class Divergence(TrainerCallback):
    """Looks at a step's loss when its gradient is whole, before the optimizer uses it.

    The check is free: the trainer waits for the loss of every step anyway, to see whether it is a number.
    """

    def __init__(self, trainer: Any, examples: Sequence[Example]) -> None:
        self.trainer, self.examples = trainer, examples
        self.guess = log(trainer.model.get_output_embeddings().weight.shape[0])
        self.norms: deque[float] = deque(maxlen=5)  # in the steps before
        trainer.parts["divergence"] = self

    def state(self) -> dict[str, Any]:
        return {"norms": list(self.norms)}

    def restore(self, state: dict[str, Any]) -> None:
        self.norms = deque(state["norms"], maxlen=5)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer = self.trainer
        loss, norm = float(trainer.loss_last), float(trainer.norm)
        # In float16 a gradient that overflows is ordinary: the scaler leaves the step out.
        number = isfinite(loss) and (isfinite(norm) or args.fp16)
        if not number or loss > FAR * max(self.guess, float(trainer.loss_first)):
            flat = trainer.padding_free
            # Every rank is here: loss and norm are those of all.
            rows = ranks.gather(rows_of(trainer.in_parts.batches, self.examples, flat))
            numbers = sorted({number for of_rank in rows for number in of_rank})
            raise Diverged(state.global_step + 1, loss, norm, list(self.norms), numbers)
        self.norms.append(norm)


def rows_of(batches: Sequence[Mapping[str, Any]], examples: Sequence[Example], flat: bool) -> list[int]:
    """Numbers, from 1, of the examples that are in these batches whole."""
    wanted = {tuple(ids) for batch in batches for ids in _segments(batch, flat)}
    return [number for number, each in enumerate(examples, 1) if tuple(each.input_ids) in wanted]


def _segments(batch: Mapping[str, Any], flat: bool) -> Iterator[list[int]]:
    ids = batch["input_ids"]
    if flat:
        begins = starts(batch)
        for begin, end in zip(begins, [*begins[1:], ids.shape[1]], strict=True):
            yield ids[0, begin:end].tolist()
    else:
        for row, mask in zip(ids, batch["attention_mask"], strict=True):
            yield row[mask.bool()].tolist()
