"""A run from its command to its folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runs import TINY, Done, python, train

NO_TORCH = """
import sys

def refuse(event, args):
    if event == "import" and args[0] in ("torch", "transformers"):
        raise AssertionError(f"{args[0]} was imported")

sys.addaudithook(refuse)
"""


def test_a_run_leaves_what_the_readme_lists(trained: Callable[..., Done]) -> None:
    folder = trained("tracking=none").folder
    assert {file.name for file in folder.iterdir()} == {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "samples.jsonl",
        "train.log",
        "curves.png",
        "adapter",
        "checkpoints",
        "README.md",
        "result.json",
    }


def test_the_result_says_what_the_metrics_say(trained: Callable[..., Done]) -> None:
    run = trained("tracking=none")
    losses, held_out = run.series("train/loss"), run.series("eval/loss")
    result = run.result
    assert (result["loss_first"], result["loss_last"], result["steps"]) == (losses[0], losses[-1], 6)
    assert (result["before"]["loss"], result["after"]["loss"]) == (held_out[0], held_out[-1])
    assert result["loss_tokens"] == run.metrics[-1]["loss_tokens"]
    assert [row["step"] for row in run.metrics if "train/loss" in row] == [1, 2, 3, 4, 5, 6]
    assert held_out[-1] < held_out[0] - 0.2


def test_the_adapter_loads_with_plain_peft_and_gives_the_same_loss(
    trained: Callable[..., Done], tiny_folder: Path, tmp_path: Path
) -> None:
    run = trained("tracking=none")
    code = f"""
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from sft_research.arithmetic import Arithmetic
from sft_research.dataset_format import Thinking
from sft_research.loss import held_out_loss
from sft_research.tokens import encode
adapter = {str(run.folder / "adapter")!r}
model = AutoModelForCausalLM.from_pretrained({str(tiny_folder)!r}, dtype=torch.float32)
model = PeftModel.from_pretrained(model, adapter)
tokenizer = AutoTokenizer.from_pretrained(adapter)
rows = Arithmetic(48, 8, "easy", 0).load().held_out
thinking = Thinking(["<think>", "</think>"])
print(held_out_loss(model, encode(rows, thinking, tokenizer, 512, "held-out").examples, 3))
"""
    assert float(python(code, tmp_path)) == pytest.approx(run.result["after"]["loss"], rel=1e-6)


def test_the_same_command_again_reports_and_imports_no_torch(
    trained: Callable[..., Done], tmp_path: Path
) -> None:
    run = trained("tracking=none")
    (tmp_path / "sitecustomize.py").write_text(NO_TORCH)
    cwd = run.folder.parents[2]
    again = train([*TINY, "tracking=none"], cwd, PYTHONPATH=str(tmp_path))
    assert again.status == 0, again.err
    assert "finished already; rerun=true" in again.out
    assert again.folder == run.folder


def test_rerun_keeps_the_old_folder_aside(trained: Callable[..., Done], tmp_path: Path) -> None:
    old = trained("tracking=none").folder
    copied = tmp_path / old.relative_to(old.parents[2])
    shutil.copytree(old, copied)
    (copied / "metrics.jsonl").write_text("mine\n")
    again = train([*TINY, "tracking=none", "rerun=true"], tmp_path)
    assert again.status == 0, again.err
    assert (copied.with_name(f"{copied.name}.1") / "metrics.jsonl").read_text() == "mine\n"
    assert again.result["id"] == json.loads((old / "result.json").read_text())["id"]


def test_a_failed_run_says_so_and_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "import torch\n\n"
        "class Broken(torch.optim.SGD):\n"
        "    def step(self, closure=None):\n"
        "        raise RuntimeError('the third drawer is stuck')\n"
    )
    done = train([*TINY, "tracking=none", "optimizer=sgd", "optimizer._target_=broken.Broken"], tmp_path)
    assert done.status == 1
    assert "the third drawer is stuck" in done.err
    assert "Traceback" not in done.err + done.out
    assert not (done.folder / "result.json").exists()
    failure = json.loads((done.folder / "failure.json").read_text())
    assert (failure["status"], failure["error"]) == ("failed", "RuntimeError")
    assert "Traceback" in (done.folder / "train.log").read_text()


def test_run_from_python_returns_the_result_as_an_object(tmp_path: Path) -> None:
    overrides = [*TINY, "tracking=none", "backend=transformers", "lora.r=4", "training.max_steps=2"]
    code = f"from sft_research import run\nr = run({overrides!r})\nprint(r.steps, r.lora_scale, r.folder)"
    steps, scale, folder = python(code, tmp_path).splitlines()[-1].split(" ", 2)
    assert (steps, scale) == ("2", "4.0")  # alpha 16 over r 4
    assert json.loads((tmp_path / folder / "result.json").read_text())["steps"] == 2


def test_qwen3_thinking_trains_from_a_local_folder(qwen3_folder: Path, tmp_path: Path) -> None:
    own = [o for o in TINY if o != "model=tiny"]
    done = train(
        [
            "model=qwen3_thinking",
            "lora.r=32",
            f"model.name={qwen3_folder}",
            "model.load_in_4bit=false",
            "tracking=none",
            *own,
        ],
        tmp_path,
    )
    assert done.status == 0, done.out + done.err
    assert done.result["lora_scale"] == 0.5  # alpha 16 over r 32
    losses = done.series("train/loss")
    assert losses[0] == pytest.approx(11.93, abs=0.1)  # ln(151936): a random model over Qwen3's vocabulary
    assert losses[-1] < losses[0] - 0.2


def test_a_base_model_without_a_template_gets_chatml_and_its_tokens_are_trained(tmp_path: Path) -> None:
    python(f"from tests.opt import make; make({str(tmp_path / 'opt')!r})", Path(__file__).parents[1])
    own = [o for o in TINY if o != "model=tiny"]
    done = train(
        [
            "model=opt_350m",
            f"model.name={tmp_path / 'opt'}",
            "dataset_format=instruction",
            "tracking=none",
            *own,
        ],
        tmp_path,
    )
    assert done.status == 0, done.out + done.err
    code = f"""
from safetensors.torch import load_file
from transformers import AutoTokenizer
adapter = {str(done.folder / "adapter")!r}
tokenizer = AutoTokenizer.from_pretrained(adapter)
trained = [v for k, v in load_file(adapter + "/adapter_model.safetensors").items() if "trainable_tokens_delta" in k]
print(tokenizer.eos_token, [tuple(v.shape) for v in trained])
"""
    assert python(code, tmp_path).strip() == "<|im_end|> [(2, 64), (2, 64)]"  # embeddings and head
