"""Do packed rows read each other? Asked of the loaded model, before its first step.

A list of names would be out of date with the next model: some attend through the position ids that
restart (Llama, Qwen), some do not look at them (OPT), some carry a state along the row (Mamba).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sft_research.config import ConfigError
from sft_research.loss import evaluating

LENGTH = 8  # tokens of a row in the question
LEAK = 0.01  # of the change that reading each other makes
APART = 0.5  # the same, for what rounding and wrong positions may do


def require_isolation(model: Any, collate: Callable[[Sequence[Any]], dict[str, Any]], packing: str) -> None:
    """Raise ConfigError where a row of `collate`'s flattened batch is not what it is by itself.

    The row b is asked for behind a, behind c, and alone. How much one row changes the next where it may
    be read is measured too, on rows that are one: so the answer needs no tolerance of its own.
    """
    import torch

    step = model.get_output_embeddings().weight.shape[0] // (3 * LENGTH + 1)
    a, b, c = ([1 + step * (n + i * LENGTH) for n in range(LENGTH)] for i in range(3))

    def last(*rows: list[int]) -> Any:
        """Logits of the last row's tokens."""
        batch = collate([{"input_ids": row, "labels": row} for row in rows])
        inputs = {
            key: part.to(model.device) if torch.is_tensor(part) else part for key, part in batch.items()
        }
        inputs.pop("labels")
        return model(**inputs, use_cache=False).logits[0, -LENGTH:].float()

    with evaluating(model):
        packed = last(a, b)
        leak = float((packed - last(c, b)).abs().max())
        moved = float((packed - last(b)).abs().max())
        reading = float((last(a + b) - last(c + b)).abs().max())
    if leak > LEAK * reading or moved > APART * reading:
        raise ConfigError(
            f"packing={packing}: on {model.config.model_type} with {model.config._attn_implementation} attention "
            f"a row changes the logits of the next by {leak:.2g} and packing them moves them by {moved:.2g}; rows "
            f"that may read each other do by {reading:.2g}. Fix: packing=none, or packing=grouped"
        )
