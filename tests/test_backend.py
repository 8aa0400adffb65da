"""Unsloth first, Transformers alone, and the same numbers from both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runs import TINY, Done, python

ORDER = """
import sys
order = []

def watch(event, args):
    if event == "import" and args[0] in ("unsloth", "trl", "transformers", "peft") and args[0] not in order:
        order.append(args[0])

sys.addaudithook(watch)
from sft_research import run
run({overrides!r})
print(*order)
"""


@pytest.mark.parametrize("part", ["lora=default", "lora=none"])
def test_unsloth_is_imported_before_what_it_patches(part: str, tmp_path: Path) -> None:
    overrides = [
        *TINY,
        "backend=unsloth",
        "tracking=none",
        part,
        "training.max_steps=1",
        "training.eval_strategy=no",
    ]
    printed = python(ORDER.format(overrides=overrides), tmp_path)
    assert printed.splitlines()[-1].split()[0] == "unsloth"


def test_the_transformers_backend_never_imports_unsloth(tmp_path: Path) -> None:
    overrides = [
        *TINY,
        "backend=transformers",
        "tracking=none",
        "training.max_steps=1",
        "training.eval_strategy=no",
    ]
    printed = python(ORDER.format(overrides=overrides), tmp_path)
    assert "unsloth" not in printed.splitlines()[-1].split()


@pytest.mark.parametrize("bits", ["false", "true"])
def test_both_backends_train_the_same_curve(trained: Callable[..., Done], bits: str) -> None:
    losses = [
        trained(f"backend={backend}", f"model.load_in_4bit={bits}", "tracking=none").series("train/loss")
        for backend in ("unsloth", "transformers")
    ]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-6)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("backend", ["unsloth", "transformers"])
def test_qlora_learns_on_a_cpu_after_an_evaluation(trained: Callable[..., Done], backend: str) -> None:
    run = trained(f"backend={backend}", "model.load_in_4bit=true", "tracking=none")
    held_out = run.series("eval/loss")
    assert run.metrics[0]["step"] == 0
    # 5.5 is ln(259): what a model that knows nothing pays for a byte.
    assert held_out[0] == pytest.approx(5.54, abs=0.05)
    assert held_out[-1] < held_out[0] - 0.2
