"""Toy models and examples, small enough to work out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch

from sft_research.tokens import IGNORED, Example


def example(prompt: Sequence[int], completion: Sequence[int], answer: str = "") -> Example:
    """A row with loss on its completion."""
    labels = [*[IGNORED] * len(prompt), *completion]
    return Example([*prompt, *completion], labels, list(prompt), answer)


class Bigram(torch.nn.Module):
    """A model whose next token depends on the last one alone, with the probabilities of a (V, V) table.

    [[1/2, 1/4, 1/4], ...] says that token 0 is followed by itself half of the time.
    """

    def __init__(self, probabilities: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor(probabilities).log())
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.widths: list[tuple[int, ...]] = []  # (B, T) of each call
        self.trained_while_called: list[tuple[bool, bool]] = []  # dropout on, gradients on

    def forward(self, input_ids: Any, attention_mask: Any, use_cache: bool) -> SimpleNamespace:
        assert use_cache is False
        self.widths.append(tuple(input_ids.shape))
        self.trained_while_called.append((self.training, torch.is_grad_enabled()))
        return SimpleNamespace(logits=self.table[input_ids])

    def get_output_embeddings(self) -> SimpleNamespace:
        return SimpleNamespace(weight=self.table)


class Speaker(torch.nn.Module):
    """A model that says what it is told to, by the last token of its prompt, and keeps what it was asked."""

    def __init__(self, says: dict[int, list[int]], pad: int) -> None:
        super().__init__()
        self.says, self.pad = says, pad
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.asked: list[tuple[list[list[int]], list[list[int]]]] = []  # (ids, mask) of each call

    def generate(self, input_ids: Any, attention_mask: Any, **settings: Any) -> Any:
        self.asked.append((input_ids.tolist(), attention_mask.tolist()))
        self.settings = settings
        said = [self.says[row[-1]] for row in input_ids.tolist()]
        width = max(map(len, said))
        new = torch.tensor([tokens + [self.pad] * (width - len(tokens)) for tokens in said])
        return torch.cat([input_ids, new], dim=1)
