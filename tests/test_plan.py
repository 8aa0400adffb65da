"""plan=true prints what a run takes and loads no weights; a run that cannot fit is refused before it does."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from sft_research import hardware, run
from sft_research.config import ConfigError, compose
from sft_research.memory import Batch, Memory
from sft_research.plan import Plan, _gib, _largest_batch, screen
from sft_research.tokens import Data, Encoded
from tests.runs import TINY, started
from tests.toys import example


def without_weights(tiny_folder: Path, place: Path, **changes: int) -> list[str]:
    """A model's folder with a config and a tokenizer, and nothing that could be loaded."""
    shutil.copytree(tiny_folder, place / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((place / "model" / "config.json").read_text())
    (place / "model" / "config.json").write_text(json.dumps(config | changes))
    return [*TINY, f"model.name={place / 'model'}", "backend=transformers", "tracking=none"]


def test_the_steps_tokens_and_parts_are_printed_and_nothing_is_written(
    tiny_folder: Path, tmp_path: Path
) -> None:
    done = started(
        [*without_weights(tiny_folder, tmp_path), "plan=true", "training.num_train_epochs=2"], tmp_path
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    steps = next(line for line in said if " steps, " in line)
    assert steps.startswith("  12 steps, ")  # 48 rows, 8 a step, twice
    assert next(line for line in said if "largest batch" in line).startswith("  largest batch 8 x ")
    sizes = re.findall(r"^  (\w+) +([\d.]+) (GiB|MiB)", done.stdout, re.MULTILINE)
    parts = {name: float(size) / (1024 if unit == "MiB" else 1) for name, size, unit in sizes}
    assert list(parts) == [
        "process", "weights", "adapters", "gradients", "optimizer",
        "holes", "activations", "logits", "evaluation", "peak",
    ]  # fmt: skip
    assert 0 < parts["adapters"] < parts["weights"] < 0.01  # of the tiny model: some MiB
    assert not (tmp_path / "runs").exists()


def test_devices_have_a_batch_each_and_share_a_cpus_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "memory_gib", lambda: 24.0)
    one, three = compose(), compose(["devices=3"])
    assert (_gib(one.cfg), _gib(three.cfg)) == (24.0, 8.0)  # no GPU here
    made = Plan(6, 100, 50, Batch(4, 32, 1), Memory(*[0.0] * 9), 8.0)
    assert "largest batch 4 x 32 tokens, 1 batch a step\n" in screen(one, made)
    assert "largest batch 4 x 32 tokens, 1 batch a step on each of 3 devices\n" in screen(three, made)


def test_a_run_that_cannot_fit_is_refused_before_weights_are_loaded(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """A million layers of 7 million weights: 26 TiB, an eighth of which no machine of tests has."""
    huge = without_weights(
        tiny_folder, tmp_path, num_hidden_layers=1_000_000, hidden_size=512, intermediate_size=4096
    )
    done = started(huge, tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("The run needs about ")
    assert " tokens, and there are " in done.stderr
    assert done.stderr.endswith(" GiB. Fix: another model, or another machine\n")


@pytest.mark.parametrize(
    ("packing", "batch"),
    [
        ("none", Batch(3, 100, 4)),  # three rows padded to the longest
        ("padding_free", Batch(3, 40, 4)),  # 100 + 11 + 9 in one row
        ("bfd", Batch(2, 128, 4)),  # 135 tokens fill two rows, where a batch may have three
    ],
)
def test_the_largest_batch_is_the_one_that_the_packing_makes(packing: str, batch: Batch) -> None:
    cfg = compose(
        [f"packing={packing}", "model.max_length=128", "training.per_device_train_batch_size=3"]
    ).cfg
    rows = [example([1] * (length - 2), [2, 3]) for length in (9, 100, 7, 11, 8)]
    assert _largest_batch(cfg, Data(None, Encoded(rows), Encoded([]), [], True)) == batch


def test_a_plan_is_no_run_from_python_and_no_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"plan=true prints and trains nothing.* Fix: plan=false"):
        run([*TINY, "plan=true"])
    done = started(["-m", *TINY, "seed=1,2", "plan=true"], tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "plan=true is of one run, and this is a grid. Fix: plan=false, or leave out -m\n",
    )
