"""A run is proven before its first step, refuses where a proof fails, and is the same run with or without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sft_research.check import run_settings_are_of_their_type
from sft_research.config import build, compose
from sft_research.preflight import PROOFS, Preflight
from tests.runs import TINY, Done, train
from tests.trainers import made


def test_a_run_proves_six_things_and_says_so_in_one_line(trained: Callable[..., Done]) -> None:
    run = trained("tracking=none")
    log = [
        line for line in (run.folder / "train.log").read_text().splitlines() if line.startswith("preflight")
    ]
    assert [line.split()[1] for line in log] == list(PROOFS)
    (said,) = (line for line in run.out.splitlines() if "preflight" in line)
    assert said.startswith("preflight  6 of 6 proofs hold in ")
    assert run.result["preflight"] == "passed"
    assert "Preflight was off" not in run.out + (run.folder / "README.md").read_text()


def test_a_run_without_preflight_is_the_same_run_and_says_so(
    tmp_path: Path, trained: Callable[..., Done]
) -> None:
    proven = trained("tracking=none")
    done = train([*TINY, "tracking=none", "preflight=off"], tmp_path)
    assert done.status == 0, done.err
    assert done.result["preflight"] == "off"
    assert (done.result["id"], done.folder.name) == (proven.result["id"], proven.folder.name)
    for text in (done.out, (done.folder / "README.md").read_text()):
        assert "Preflight was off: masks, packing, LoRA and optimizer are not proven." in text
    assert done.series("train/loss") == proven.series("train/loss")
    assert done.series("eval/loss") == proven.series("eval/loss")


@pytest.mark.parametrize("packing", ["none", "bfd"])
def test_losses_and_weights_are_bit_identical_with_and_without(tmp_path: Path, packing: str) -> None:
    """With dropout, which draws random numbers at every step, and rows in shuffled order."""

    def trajectory(word: str) -> tuple[list[float], dict[str, torch.Tensor], torch.Tensor]:
        run = made(
            tmp_path, "lora.dropout=0.3", f"packing={packing}", "training.max_steps=4", f"preflight={word}"
        )
        Preflight(run.run, run.data, build(run.run.cfg.lora)).before(run.trainer)
        run.trainer.train()
        losses = [entry["loss"] for entry in run.trainer.state.log_history if "loss" in entry]
        weights = {n: p.detach().clone() for n, p in run.trainer.model.named_parameters() if p.requires_grad}
        return losses, weights, torch.random.get_rng_state()

    (proven, weights, state), (plain, same_weights, same_state) = trajectory("on"), trajectory("off")
    assert len(set(proven)) == 4
    assert proven == plain
    assert all(torch.equal(weights[name], same_weights[name]) for name in weights)
    assert torch.equal(state, same_state)


# Refusals -----------------------------------------------------------------------------------------


def test_a_proof_that_fails_refuses_the_run_and_leaves_no_result(tmp_path: Path) -> None:
    done = train([*TINY, "tracking=none", "lora.init_lora_weights=false"], tmp_path, fresh=True)
    assert done.status == 2
    assert done.err.startswith("preflight, lora: LoRA does not start as the identity: the first loss is 5.5")
    assert done.err.endswith("Fix: lora.init_lora_weights=true (preflight=off goes on without proof)\n")
    assert not {"result.json", "adapter", "README.md"} & {file.name for file in done.folder.iterdir()}
    failure = json.loads((done.folder / "failure.json").read_text())
    assert (failure["status"], failure["error"]) == ("failed", "ConfigError")
    assert not [row for row in done.metrics if "train/loss" in row]  # not one step was taken


def rows_file(place: Path, count: int) -> Path:
    file = place / "rows.jsonl"
    rows = ({"instruction": f"Say {n}.", "response": str(n)} for n in range(count))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_held_out_rows_that_are_trained_on_refuse_the_run_until_they_are_dropped(tmp_path: Path) -> None:
    rows, held_out = rows_file(tmp_path, 12), tmp_path / "held_out.jsonl"
    held_out.write_text("".join(rows.read_text().splitlines(keepends=True)[3:5]))
    own = [o for o in TINY if not o.startswith("dataset.")]
    overrides = [*own, "dataset=file", "dataset_format=instruction", "tracking=none", "training.max_steps=1"]
    overrides += [f"dataset.path={rows}", f"dataset.held_out={held_out}"]
    refused = train(overrides, tmp_path)
    assert refused.status == 2
    assert "2 of 2 held-out rows are training rows too, token for token: held-out 1, 2" in refused.err
    assert "Fix: on_overlap=drop" in refused.err
    dropped = train([*overrides, "on_overlap=drop"], tmp_path)
    assert dropped.status == 0, dropped.err
    assert "2 of 12 training rows left out: they are held-out rows too" in dropped.out
    assert (dropped.result["rows"], dropped.result["held_out_rows"]) == (10, 2)


# The setting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "proven"), [("on", True), ("true", True), ("off", False), ("false", False), ("'off'", False)]
)
def test_on_and_off_are_words_and_booleans(word: str, proven: bool, tmp_path: Path) -> None:
    typed = compose([f"preflight={word}"])
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.yaml").write_text(f"# @package _global_\npreflight: {word}\n")
    written = compose(["experiments=mine"], tmp_path)
    assert (typed.preflight, written.preflight) == (proven, proven)
    assert list(run_settings_are_of_their_type(typed.cfg)) == []
    assert typed.id == compose().id
    assert typed.name == "default"


@pytest.mark.parametrize(
    ("override", "refusal"),
    [
        (
            "preflight=no",
            "preflight=no: there is no such choice. Fix: preflight=on or off",
        ),
        ("on_overlap=skip", "on_overlap=skip: there is no such choice. Fix: on_overlap=error or drop"),
    ],
)
def test_another_word_is_refused(override: str, refusal: str) -> None:
    assert list(run_settings_are_of_their_type(compose([override]).cfg)) == [refusal]


def test_leaving_rows_out_is_another_run() -> None:
    dropping: Any = compose(["on_overlap=drop"])
    assert dropping.id != compose().id
    assert dropping.name == "on_overlap=drop"
