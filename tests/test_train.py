"""A run from its command to its folder."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sft_research import run
from sft_research.config import ConfigError, build, compose
from sft_research.record import Folder
from tests import opt
from tests.forked import differences
from tests.runs import TINY, Done, python, started, train

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
        "identity.json",
        "environment.json",
        "state.json",
        "metrics.jsonl",
        "samples.jsonl",
        "held_out.jsonl",
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
    model, tokenizer = reloaded(tiny_folder, run.folder / "adapter")
    assert held_out(model, tokenizer, [*TINY]) == pytest.approx(run.result["after"]["loss"], rel=1e-6)


def reloaded(base: Path, adapter: Path) -> tuple[Any, Any]:
    """The base model under the adapter, and its tokenizer, by plain Transformers and PEFT."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(adapter)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if len(tokenizer) > model.config.vocab_size:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return PeftModel.from_pretrained(model, adapter), tokenizer


def held_out(model: Any, tokenizer: Any, overrides: list[str]) -> float:
    from sft_research.loss import held_out_loss
    from sft_research.tokens import encode

    cfg = compose(overrides).cfg
    rows, to_example = build(cfg.dataset).load().held_out, build(cfg.dataset_format)
    return held_out_loss(model, encode(rows, to_example, tokenizer, 512, "held-out").examples, 3)


def test_the_same_command_again_reports_and_imports_no_torch(
    trained: Callable[..., Done], tmp_path: Path
) -> None:
    run = trained("tracking=none")
    (tmp_path / "sitecustomize.py").write_text(NO_TORCH)
    cwd = run.folder.parents[2]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    again = train([*TINY, "tracking=none"], cwd, PYTHONPATH=path)
    assert again.status == 0, again.err
    assert "finished already; rerun=true" in again.out
    assert again.folder == run.folder


def test_a_run_that_another_process_finishes_meanwhile_is_only_reported(
    trained: Callable[..., Done], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not there at the first look, and there once the lock is held."""
    done = trained("tracking=none")
    look, looks = Folder.finished, count()
    monkeypatch.chdir(done.folder.parents[2])
    monkeypatch.setattr(Folder, "finished", lambda folder: look(folder) if next(looks) else None)
    monkeypatch.setattr("sft_research.train.fine_tune", lambda *_: pytest.fail("it was made again"))
    assert run([*TINY, "tracking=none"]).id == done.result["id"]
    assert "finished already" in capsys.readouterr().out


def test_rerun_keeps_the_old_folder_aside(trained: Callable[..., Done], tmp_path: Path) -> None:
    old = trained("tracking=none").folder
    copied = tmp_path / old.relative_to(old.parents[2])
    shutil.copytree(old, copied)
    (copied / "metrics.jsonl").write_text("mine\n")
    again = train([*TINY, "tracking=none", "rerun=true"], tmp_path)
    assert again.status == 0, again.err
    assert (copied.with_name(f"{copied.name}~1") / "metrics.jsonl").read_text() == "mine\n"
    assert again.result["id"] == json.loads((old / "result.json").read_text())["id"]


def test_a_run_is_repeated_from_its_folder_to_the_same_bits(
    trained: Callable[..., Done], tmp_path: Path
) -> None:
    whole = trained("tracking=none").folder
    repeat = ["--config-dir", str(whole), "--config-name", "config"]
    done = started(repeat, tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("runs/repeats/*/")
    assert folder.name.startswith("default-")
    assert differences(whole, folder) == []
    assert [file.name for file in tmp_path.iterdir()] == ["runs"]  # and nothing of Hydra's
    again = shlex.split((folder / "README.md").read_text().splitlines()[-1])
    assert again[3:] == repeat
    assert "finished already" in started(again[3:], tmp_path).stdout


def test_a_command_that_is_told_to_end_goes_on_when_it_is_given_again(
    trained: Callable[..., Done], tmp_path: Path
) -> None:
    whole = trained("tracking=none").folder
    folder = tmp_path / whole.relative_to(whole.parents[2])
    command = [sys.executable, "-m", "sft_research.train", *TINY, "tracking=none"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        while not (folder / "checkpoints" / "before").is_dir():
            assert run.poll() is None
            time.sleep(0.02)
        run.terminate()
        _, said = run.communicate(timeout=60)
    assert run.returncode == 143
    step = json.loads((folder / "failure.json").read_text())["step"]
    assert said.decode().splitlines()[-1] == (
        f"Interrupted by SIGTERM at step {step}. The same command goes on from there."
    )
    assert 1 <= step <= 6
    done = train([*TINY, "tracking=none"], tmp_path)
    assert f"Goes on from step {step}." in done.out
    assert differences(whole, folder) == []


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
    assert done.err.endswith(f"\nThe traceback is in {done.folder.relative_to(tmp_path)}/train.log\n")
    assert "Traceback" not in done.err + done.out
    assert not (done.folder / "result.json").exists()
    failure = json.loads((done.folder / "failure.json").read_text())
    assert (failure["status"], failure["error"]) == ("failed", "RuntimeError")
    assert "Traceback" in (done.folder / "train.log").read_text()


@pytest.mark.parametrize("wanted", ["evaluation.questions=3", "training.eval_strategy=steps"])
def test_a_share_that_holds_no_row_out_is_refused_where_one_is_asked_for(wanted: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "response": "c"}\n')
    rows = ["dataset=file", "dataset.path=rows.jsonl", "dataset_format=instruction", "model=tiny"]
    nothing = ["training.eval_strategy=no", "evaluation.questions=0", "tracking=none"]
    key = wanted.partition("=")[0]
    done = train([*rows, *(o for o in nothing if not o.startswith(key)), wanted], tmp_path)
    assert (done.status, done.err.partition(":")[0]) == (
        2,
        "the dataset gives 1 training and 0 held-out rows",
    )


def test_run_from_python_returns_the_result_as_an_object(tmp_path: Path) -> None:
    overrides = [*TINY, "tracking=none", "backend=transformers", "lora.r=4", "training.max_steps=2"]
    code = f"from sft_research import run\nr = run({overrides!r})\nprint(r.steps, r.lora_scale, r.folder)"
    steps, scale, folder = python(code, tmp_path).splitlines()[-1].split(" ", 2)
    assert (steps, scale) == ("2", "4.0")  # alpha 16 over r 4
    assert json.loads((tmp_path / folder / "result.json").read_text())["steps"] == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["lora.rank=8"], "lora.rank: there is no such key. lora has: r, alpha, "),
        (["packing=null"], "packing=null: a run needs an option here. Fix: packing=bfd or "),
        (["lora.r=0"], "lora.r=0 is out of range. Fix: lora.r=..., a rank, from 1 to 4096"),
        (
            ["experiments=lora_rank", "model=tiny"],
            "experiments=lora_rank model=tiny is a grid of lora.r=4,16,64 seed=0,1, and this makes one run. "
            "Fix: python -m sft_research.train -m experiments=lora_rank model=tiny, "
            "or hydra.mode=RUN lora.r=... seed=...",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_run_from_python_refuses_with_one_kind_of_error(
    overrides: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as refused:
        run(overrides)
    assert str(refused.value).startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_the_command_of_a_run_with_options_of_ones_own_composes_it_again(tmp_path: Path) -> None:
    (tmp_path / "my options" / "lora").mkdir(parents=True)
    (tmp_path / "my options" / "lora" / "mine.yaml").write_text("defaults: [default]\nr: 3\n")
    typed = ["--config-dir", "my options", *TINY, "lora=mine", "training.max_steps=1", "tracking=none"]
    done = started(typed, tmp_path)
    assert done.returncode == 0, done.stderr
    (card,) = tmp_path.rglob("runs/default/*/README.md")
    again = shlex.split(card.read_text().splitlines()[-1])
    assert again[:3] == ["python", "-m", "sft_research.train"]
    reported = started(again[3:], tmp_path)
    assert "This run is finished already" in reported.stdout
    assert f"  next      {shlex.join(again)} lora.r=32\n" in reported.stdout


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


@pytest.mark.parametrize(
    ("tied", "backend"), [(True, "unsloth"), (False, "unsloth"), (False, "transformers")]
)
def test_a_base_model_without_a_template_gets_chatml_and_its_tokens_are_trained(
    tied: bool, backend: str, tmp_path: Path
) -> None:
    base, own = tmp_path / "opt", [o for o in TINY if o != "model=tiny"]
    opt.make(base, tied)
    overrides = ["model=opt_350m", f"model.name={base}", "dataset_format=instruction", "tracking=none", *own]
    done = train([*overrides, f"backend={backend}"], tmp_path)
    assert done.status == 0, done.out + done.err
    from safetensors.torch import load_file

    saved = load_file(done.folder / "adapter" / "adapter_model.safetensors")
    trained = [weights.shape for name, weights in saved.items() if "trainable_tokens_delta" in name]
    assert trained == [(2, 64), (2, 64)]  # embeddings and head
    model, tokenizer = reloaded(base, done.folder / "adapter")
    assert tokenizer.eos_token == "<|im_end|>"
    assert held_out(model, tokenizer, overrides) == pytest.approx(done.result["after"]["loss"], rel=1e-5)
