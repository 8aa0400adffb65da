"""Packing may change speed; it must never change what a row is worth."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sft_research.config import ConfigError
from sft_research.packing import Packing
from tests.runs import Done

# Eight rows of 110 to 150 bytes: two rows of 512 when packed, and all of them in the first step.
EIGHT = ("dataset.rows=8", "training.max_steps=1", "training.eval_strategy=no", "tracking=none")


@pytest.mark.parametrize("backend", ["unsloth", "transformers"])
@pytest.mark.parametrize("strategy", ["bfd", "bfd_split"])
def test_packed_rows_have_the_loss_of_unpacked_rows(
    trained: Callable[..., Done], backend: str, strategy: str
) -> None:
    plain = trained(f"backend={backend}", "packing=none", *EIGHT).result
    packed = trained(f"backend={backend}", f"packing={strategy}", *EIGHT).result
    assert packed["loss_first"] == pytest.approx(plain["loss_first"], rel=1e-5)
    assert packed["tokens"] == plain["tokens"]


def test_packing_really_packs(trained: Callable[..., Done]) -> None:
    # Eight rows of 110 to 150 bytes, one row a step: eight steps, or the two that hold them all.
    one_a_step = ("dataset.rows=8", "training.per_device_train_batch_size=1", "training.num_train_epochs=1")
    run = trained("packing=bfd", "training.eval_strategy=no", "tracking=none", *one_a_step)
    assert (run.result["steps"], run.result["rows"]) == (2, 8)


def test_an_attention_that_may_mix_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"packing=bfd with flex_attention attention.*Fix: packing=none"):
        Packing("bfd").require("flex_attention")
    Packing(None).require("flex_attention")
