"""Overrides that are said to save memory do, and those that are said to make a run fit do that."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from sft_research.config import compose
from sft_research.memory import Batch, estimate
from sft_research.savings import batch_of, candidates, fitting

OWN = ["model=tiny", "model.dtype=float32", "backend=transformers", "dataset.held_out=0"]
ONE_ROW, CHECKPOINTED = "training.per_device_train_batch_size=1", "backend.gradient_checkpointing=true"


@pytest.mark.parametrize(
    ("overrides", "rows", "expected"),
    [
        (
            ["training.per_device_train_batch_size=6", "training.gradient_accumulation_steps=3"],
            6,
            "training.per_device_train_batch_size=3 training.gradient_accumulation_steps=6",
        ),
        (
            ["training.per_device_train_batch_size=1", "backend.gradient_checkpointing=true"],
            1,
            "model.load_in_4bit=true",
        ),
        (
            ["lora=none", "backend.gradient_checkpointing=true", "training.per_device_train_batch_size=1"],
            1,
            "lora=default",
        ),
    ],
)
def test_the_effective_batch_stays_and_what_is_set_already_is_not_said(
    overrides: list[str], rows: int, expected: str
) -> None:
    found = [" ".join(each) for each in candidates(compose([*OWN, *overrides]).cfg, Batch(rows, 64))]
    assert found[0] == expected


@pytest.mark.parametrize(
    ("shape", "batch"),
    [(None, Batch(2, 512, 4)), ((2, 99), Batch(2, 99, 4)), ((1, 199), Batch(2, 100, 4))],  # a flattened one
)
def test_the_batch_is_the_one_that_failed(shape: tuple[int, int] | None, batch: Batch) -> None:
    assert batch_of(compose(OWN).cfg, shape) == batch


def test_a_run_that_is_said_to_fit_does_with_the_overrides_as_they_are_said() -> None:
    batch, own = Batch(64, 512), [*OWN, "training.per_device_train_batch_size=64"]
    cfg = compose(own).cfg
    before = estimate(cfg, batch)
    room = before.process + (before.total - before.process) / 3
    said = fitting(cfg, batch, room / 0.9)
    found = re.fullmatch(r"(.*) \(about ([\d.]+) GiB\)", said)
    assert found
    words = found[1].split(" ")
    after = estimate(compose([*own, *words]).cfg, _batch(words))
    assert after.total == pytest.approx(float(found[2]), abs=0.08)
    assert after.total < before.total


def _batch(words: list[str]) -> Batch:
    said = dict(word.split("=") for word in words)
    rows = int(said["training.per_device_train_batch_size"])
    length = int(said.get("model.max_length", 512))
    return Batch(rows, length, int(said["training.gradient_accumulation_steps"]))


def test_where_nothing_makes_it_fit_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sft_research.savings.estimate", lambda cfg, batch: SimpleNamespace(total=9.0))
    cfg = compose(OWN).cfg
    assert fitting(cfg, Batch(2, 64), 9.0) == ""
    assert fitting(cfg, Batch(2, 64), 10.1) == (
        "training.per_device_train_batch_size=1 training.gradient_accumulation_steps=8 (about 9.0 GiB)"
    )
