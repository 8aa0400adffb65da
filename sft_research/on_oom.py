"""training.on_oom=halve: a batch that does not fit is taken in parts from then on.

    8 rows x 1 batch a step   ->   2 parts of 4 rows   ->   4 parts of 2 rows
The rows of an optimizer step and its loss stay what they were, and so does the meaning of the curve: a loss
is a sum over tokens divided by the tokens of the whole step, whatever the parts. With dropout the masks are
drawn anew, as they are in any other batch size.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

log = logging.getLogger("sft_research")
SAID = (
    *("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc"),
    "could not create a primitive",  # oneDNN, where a CPU's allocation is refused
)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory was refused: by torch on a GPU or a CPU, by numpy, or by Python."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, (RuntimeError, OSError)) and any(words in text for words in SAID)
    )


def rows_in(batch: Mapping[str, Any], flat: bool) -> int:
    """Rows of a batch; of one that is flattened, the segments of its only row."""
    return len(starts(batch)) if flat else len(batch["input_ids"])


def starts(batch: Mapping[str, Any]) -> list[int]:
    """Where the segments of a flattened batch begin: their positions do so at 0."""
    found: list[int] = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
    return found


def parts(batch: Mapping[str, Any], count: int, flat: bool) -> Iterator[dict[str, Any]]:
    """The batch in `count` parts of whole rows, or of whole segments; fewer where it has fewer rows."""
    borders = [*starts(batch), batch["input_ids"].shape[1]] if flat else list(range(rows_in(batch, flat) + 1))
    cuts = borders
    if count < len(borders) - 1:
        wanted = [borders[-1] * part / count for part in range(1, count)]
        # A segment is as long as it likes, so the nearest border may be that of two cuts: then there are fewer.
        cuts = sorted({0, borders[-1], *(min(borders[1:-1], key=lambda b: abs(b - at)) for at in wanted)})
    for begin, end in pairwise(cuts):
        of_part = (slice(None), slice(begin, end)) if flat else (slice(begin, end),)
        yield {key: value[of_part] for key, value in batch.items()}


def in_smaller(rows: int, accumulation: int, most: int) -> tuple[int, int]:
    """(rows a batch, batches a step) of the same rows a step, with `most` rows a batch, or fewer where that number does
    not divide `rows`."""
    fewer = next(n for n in range(max(most, 1), 0, -1) if rows % n == 0)
    return fewer, accumulation * (rows // fewer)


class InParts:
    """A trainer's batches of the present optimizer step, and the number of parts that each is taken in."""

    def __init__(self, trainer: Any, *, halve: bool) -> None:
        self.trainer, self.halve = trainer, halve
        self.count = 1
        self.begin_step()
        trainer.parts["on_oom"] = self

    def state(self) -> dict[str, Any]:
        return {"count": self.count}

    def restore(self, state: dict[str, Any]) -> None:
        """Never fewer parts: a step that is given up goes back to counts made before memory ran out in it."""
        self.count = max(self.count, state["count"])

    def begin_step(self) -> None:
        self.batches: list[dict[str, Any]] = []
        self._logged = {name: len(values) for name, values in self.trainer._metrics["train"].items()}

    def __call__(self, step: Callable[..., Any], model: Any, batch: dict[str, Any], tokens: Any) -> Any:
        """Loss of the batch, its gradient added to the model's. `tokens`: of the optimizer step, with loss.

        Where memory runs out, the step is taken again from its first batch: its gradient was left half made.
        """
        import torch

        self.batches.append(batch)
        todo = [batch]
        while True:
            try:
                for each in todo:
                    losses = [step(model, part, tokens) for part in self._parts(each)]
                return torch.stack(losses).sum()
            except (RuntimeError, MemoryError) as error:
                self._halve(error, tokens is not None)
            # Here, and not above: the traceback held the tensors.
            model.zero_grad()
            # In TRL's averages no batch counts twice.
            for name, values in self.trainer._metrics["train"].items():
                del values[self._logged.get(name, 0) :]
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            todo = self.batches

    def _parts(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        return [batch] if self.count == 1 else list(parts(batch, self.count, self.trainer.padding_free))

    def _halve(self, error: Exception, counted: bool) -> None:
        """Raise the error again where it is another one, or nothing can be halved. `counted`: whether losses are
        divided by the tokens of the step, so that those of parts add up to that of the whole."""
        rows = max(rows_in(batch, self.trainer.padding_free) for batch in self.batches)
        if not (self.halve and counted and self.count < rows and out_of_memory(error)):
            raise error
        self.count *= 2
        args = self.trainer.args
        whole = args.per_device_train_batch_size
        log.warning(
            "Out of memory at step %d (%s). From here on a batch is taken in %d parts, with the same rows and loss a "
            "step. To begin so: training.per_device_train_batch_size=%d training.gradient_accumulation_steps=%d",
            self.trainer.state.global_step + 1,
            str(error).splitlines()[0],
            self.count,
            *in_smaller(whole, args.gradient_accumulation_steps, whole // self.count),
        )
