"""The first batch is the one that is trained on first, and looking at it leaves no trace."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback, set_seed

from sft_research import first_batch
from sft_research.first_batch import Piece, collated, few, losses, losses_alone, pieces, unchanged
from tests.toys import Bigram
from tests.trainers import make

X = -100
PACKED: dict[str, list[int]] = {
    "input_ids": [1, 2, 3, 4, 5, 6],
    "labels": [X, 2, X, 4, 5, X],
    "seq_lengths": [2, 3, 1],
}


def test_a_packed_row_holds_as_many_examples_as_its_lengths_say() -> None:
    assert pieces([{"input_ids": [7, 8], "labels": [X, 8]}, PACKED]) == [
        Piece(0, [7, 8], [X, 8]),
        Piece(1, [1, 2], [X, 2]),
        Piece(1, [3, 4, 5], [X, 4, 5]),
        Piece(1, [6], [X]),
    ]


def test_the_shortest_examples_with_loss_are_looked_at_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [Piece(i, [1] * n, [X] + [1] * (n - 1)) for i, n in enumerate([9, 3, 5, 1, 4, 8, 7])]
    assert [len(p.input_ids) for p in few(rows, vocabulary=10)] == [3, 5, 4, 7]  # the one of 1 has no loss
    monkeypatch.setattr(first_batch, "LOGIT_BYTES", 4 * 10 * 12)  # 12 tokens of 10 logits
    assert [len(p.input_ids) for p in few(rows, vocabulary=10)] == [3, 5, 4]
    monkeypatch.setattr(first_batch, "LOGIT_BYTES", 1)
    assert [len(p.input_ids) for p in few(rows, vocabulary=10)] == [3, 4]  # a proof needs two


def test_examples_of_a_packed_row_go_to_the_collator_as_one_row() -> None:
    given: list[Any] = []
    loader = SimpleNamespace(collate_fn=lambda rows: given.append(rows) or {})
    chosen = [Piece(1, [1, 2], [X, 2]), Piece(1, [3, 4, 5], [X, 4, 5]), Piece(2, [6, 7], [X, 7])]
    collated(chosen, loader, packed=True)
    collated(chosen[:2], loader, packed=False)
    row = {"input_ids": [1, 2, 3, 4, 5], "labels": [X, 2, X, 4, 5], "seq_lengths": [2, 3]}
    assert given[0] == [row, {"input_ids": [6, 7], "labels": [X, 7], "seq_lengths": [2]}]
    assert given[1] == [
        {"input_ids": [1, 2], "labels": [X, 2]},
        {"input_ids": [3, 4, 5], "labels": [X, 4, 5]},
    ]


def test_losses_are_those_of_the_table() -> None:
    model = Bigram([[1 / 2, 1 / 4, 1 / 4], [1 / 8, 3 / 4, 1 / 8], [1 / 4, 1 / 4, 1 / 2]])
    model.requires_grad_(False)
    alone = losses_alone(model, Piece(0, [0, 1, 1, 2], [X, 1, X, 2]))
    np.testing.assert_allclose(alone, np.log([4, 8]), rtol=1e-6)
    ids, labels = torch.tensor([[0, 0], [1, 0]]), torch.tensor([[0, 0], [1, 0]])
    batch = {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)}
    np.testing.assert_allclose(losses(model, batch), np.log([2, 8]), rtol=1e-6)


@pytest.mark.parametrize("packing", ["none", "bfd"])
def test_the_rows_are_those_of_the_first_step(tmp_path: Path, packing: str) -> None:
    trainer = make(tmp_path, f"packing={packing}", "training.max_steps=1", "training.eval_strategy=no")
    seen: dict[str, Any] = {}

    class Begin(TrainerCallback):
        def on_train_begin(self, *_: Any, train_dataloader: Any, **__: Any) -> None:
            with unchanged(trainer.model):
                rows = first_batch.features(train_dataloader)
                seen["looked at"] = train_dataloader.collate_fn(rows)["input_ids"].tolist()

    step = trainer.training_step

    def training_step(model: Any, inputs: Any, *rest: Any) -> Any:
        seen["trained on"] = inputs["input_ids"].tolist()
        return step(model, inputs, *rest)

    trainer.training_step = training_step  # type: ignore[method-assign]
    trainer.add_callback(Begin())
    trainer.train()
    assert seen["looked at"] == seen["trained on"]


def draws() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_random_states_modes_and_gradients_are_as_before() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.5))
    model.train()
    model[0].eval()
    model[0].bias.requires_grad_(False)
    set_seed(0)
    expected = draws()
    set_seed(0)
    with unchanged(model):
        draws()
        assert (model.training, model[1].training, torch.is_grad_enabled()) == (False, False, False)
        model[0].bias.requires_grad_(True)
    assert draws() == expected
    assert [m.training for m in model.modules()] == [True, False, True]
    assert [p.requires_grad for p in model.parameters()] == [True, False]
    assert torch.is_grad_enabled() is True
