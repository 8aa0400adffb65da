"""A batch that does not fit is halved, and the step it takes is the one it would have taken."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from sft_research.on_oom import InParts, in_smaller, out_of_memory, parts, rows_in
from tests.trainers import make

CPU_REFUSAL = (
    "[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: can't allocate memory: you tried"
)


def flat(*lengths: int) -> dict[str, torch.Tensor]:
    """One row of segments: 0 1 2 0 1 for lengths 3 and 2; its ids count through."""
    positions = torch.cat([torch.arange(length) for length in lengths])
    return {"input_ids": torch.arange(len(positions))[None], "position_ids": positions[None]}


# Parts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "count", "sizes"),
    [(8, 2, [4, 4]), (8, 8, [1] * 8), (3, 2, [1, 2]), (5, 4, [1, 1, 2, 1]), (1, 2, [1])],
)
def test_a_batch_comes_apart_between_its_rows(rows: int, count: int, sizes: list[int]) -> None:
    ids = torch.arange(rows * 2).reshape(rows, 2)
    made = list(parts({"input_ids": ids, "labels": ids + 100}, count, flat=False))
    assert [len(part["labels"]) for part in made] == sizes
    assert torch.cat([part["input_ids"] for part in made]).tolist() == ids.tolist()
    assert all((part["labels"] - part["input_ids"] == 100).all() for part in made)


@pytest.mark.parametrize(
    ("lengths", "count", "sizes"),
    [
        ((3, 3), 2, [3, 3]),
        ((2, 2, 4), 2, [4, 4]),
        ((7, 1), 2, [7, 1]),
        ((9, 1, 1), 4, [9, 1, 1]),
        ((5,), 2, [5]),
    ],
)
def test_a_flattened_batch_comes_apart_between_its_segments(
    lengths: tuple[int, ...], count: int, sizes: list[int]
) -> None:
    batch = flat(*lengths)
    assert rows_in(batch, flat=True) == len(lengths)
    made = list(parts(batch, count, flat=True))
    assert [part["input_ids"].shape for part in made] == [(1, size) for size in sizes]
    assert [int(part["position_ids"][0, 0]) for part in made] == [0] * len(sizes)
    assert torch.cat([part["input_ids"] for part in made], dim=1).tolist() == batch["input_ids"].tolist()


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError(CPU_REFUSAL), True),
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("the third drawer is stuck"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_memory_that_was_refused_is_told_from_other_errors(error: Exception, is_one: bool) -> None:
    assert out_of_memory(error) is is_one


# Steps ---------------------------------------------------------------------------------------------


def trained(
    place: Path, most: int, *overrides: str, on_backward: bool = False
) -> tuple[list[float], torch.Tensor, list[int]]:
    """(loss of each step, weights, batches or parts that each step's averages are of) of 3 steps of 2 batches of
    4 rows, where from the fourth batch on no more than `most` rows fit. `on_backward`: memory runs out when half
    of the gradient is made."""
    trainer = make(
        place,
        "training.per_device_train_batch_size=4",
        "training.gradient_accumulation_steps=2",
        "training.max_steps=3",
        "training.eval_strategy=no",
        "training.warmup_steps=0",
        "optimizer=sgd",
        "training.on_oom=halve",
        *overrides,
    )
    library = type(trainer).__mro__[1]
    whole = library.training_step
    rows = [0]

    def refuse(_: Any = None) -> None:
        if len(rows) > 4 and rows[-1] > most:
            raise RuntimeError(CPU_REFUSAL)

    def limited(self: Any, model: Any, inputs: Any, *rest: Any) -> Any:
        rows.append(rows_in(inputs, self.padding_free))
        if not on_backward:
            refuse()
        return whole(self, model, inputs, *rest)

    averaged: list[int] = []
    watch = TrainerCallback()
    watch.on_step_end = lambda *_, **__: averaged.append(  # type: ignore[method-assign]
        len(trainer._metrics["train"]["mean_token_accuracy"])
    )
    trainer.add_callback(watch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "training_step", limited)
        if on_backward:
            trained = (p for n, p in trainer.model.named_parameters() if p.requires_grad and "layers.1" in n)
            next(trained).register_hook(refuse)
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters() if p.requires_grad])
    return losses, weights, averaged


@pytest.mark.parametrize(("packing", "on_backward"), [("none", True), ("padding_free", False)])
def test_halves_take_the_step_that_the_whole_batch_takes(
    packing: str, on_backward: bool, tmp_path: Path
) -> None:
    """The second step is interrupted in its second batch, so the gradient of its first is there already."""
    losses, weights, whole = trained(tmp_path, 4, f"packing={packing}")
    halved, same, parts_ = trained(tmp_path, 2, f"packing={packing}", on_backward=on_backward)
    assert (whole, parts_) == ([2, 2, 2], [2, 4, 4])  # nothing of a step that was taken again counts twice
    assert halved == pytest.approx(losses, rel=1e-6)
    torch.testing.assert_close(same, weights, rtol=1e-5, atol=1e-7)


def test_a_half_that_does_not_fit_is_halved_and_one_row_that_does_not_fit_fails(tmp_path: Path) -> None:
    assert trained(tmp_path, 1)[2] == [2, 8, 8]
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        trained(tmp_path, 0)


@pytest.mark.parametrize(
    ("rows", "accumulation", "most", "same"),
    [
        (8, 1, 2, (2, 4)),
        (6, 2, 1, (1, 12)),
        (6, 2, 3, (3, 4)),
        (5, 1, 2, (1, 5)),
        (9, 1, 4, (3, 3)),
        (2, 3, 0, (1, 6)),
    ],
)
def test_smaller_batches_have_the_rows_of_a_step(
    rows: int, accumulation: int, most: int, same: tuple[int, int]
) -> None:
    assert in_smaller(rows, accumulation, most) == same
    assert same[0] * same[1] == rows * accumulation


def test_what_to_begin_with_has_the_rows_of_a_step(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Three rows in two parts are of one row and of two: batches of a size would be of one."""
    trained(tmp_path, 2, "training.per_device_train_batch_size=3")
    said = "training.per_device_train_batch_size=1 training.gradient_accumulation_steps=6"
    assert [message.partition("To begin so: ")[2] for message in caplog.messages if "parts" in message] == [
        said
    ]


def test_without_the_setting_the_first_refusal_fails_the_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        trained(tmp_path, 2, "training.on_oom=error")


def test_a_resumed_run_takes_its_batches_in_as_many_parts_as_before() -> None:
    """And not in fewer where a step is given up in which memory ran out."""
    trainer = SimpleNamespace(_metrics={"train": {}}, parts={})
    kept = InParts(trainer, halve=True)
    assert trainer.parts == {"on_oom": kept}
    kept.count = 4
    resumed = InParts(trainer, halve=True)
    resumed.restore(kept.state())
    assert resumed.count == 4
    resumed.restore({"count": 2})
    assert resumed.count == 4
