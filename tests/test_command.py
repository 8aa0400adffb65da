"""`python -m sft_research.train` answers at once: help, a config, or one message that says what to type instead."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf.errors import ConfigKeyError

from sft_research.command import _flags_first, ending
from sft_research.config import ConfigError
from tests.command_line import python, train

# What a person types, the fact in the answer, and what to type instead.
REFUSALS = [
    ("lora.rank=8", "lora.rank: there is no such key", "Did you mean lora.r?"),
    ("lora=rslor", "lora=rslor: there is no such option", "Did you mean lora=rslora?"),
    (
        "packing=null",
        "packing=null: a run needs an option",
        "Fix: packing=bfd or bfd_split or grouped or none or padding_free or wrapped",
    ),
    ("lora.r=eight", "lora.r='eight' is of the wrong type: it takes int", "Fix: lora.r=..., as int"),
    ("lora.alpha=3x", "lora.alpha='3x' is neither a number above 0 nor a policy", "lora.alpha=2r (twice it)"),
    (
        "model.load_in_4bit=true lora=none",
        "4-bit weights have no gradient",
        "Fix: lora=default, or model.load_in_4bit=false",
    ),
    (
        "model=opt_350m dataset_format=thinking",
        "facebook/opt-350m has no think tags",
        "Fix: \"model.think_tags=['<think>','</think>']\" to train them as text, or dataset_format=instruction",
    ),
    ("training.learning_rate=1e-3", "training.learning_rate is decided elsewhere", "Fix: optimizer.lr=..."),
    ("+training.weight_decay=0.1", "would be ignored here", "Fix: optimizer.weight_decay=..."),
    (
        "training.max_steps=5 training.warmup_steps=10",
        "training.warmup_steps=10 leaves no step of training.max_steps=5",
        "Fix: training.warmup_steps=0.1 (a share)",
    ),
    (
        "dataset=file dataset.path=no.jsonl",
        "dataset.path=no.jsonl: there is no such file",
        "Fix: dataset.path=PATH",
    ),
    ("model.name=./nothing", "model.name=./nothing: there is no such folder", "Fix: model.name=FOLDER"),
    ("model=smollm2_135m", "is not in the local cache and HF_HUB_OFFLINE is set", "Fix: model.name=FOLDER"),
]


@pytest.mark.parametrize(("typed", "fact", "fix"), REFUSALS, ids=[refusal[0] for refusal in REFUSALS])
def test_a_wrong_config_is_refused_in_one_line_without_importing_torch(
    typed: str, fact: str, fix: str, tmp_path: Path
) -> None:
    done = train(shlex.split(typed), tmp_path, HF_HOME=str(tmp_path))
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert fact in done.stderr
    assert fix in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [".guard"]  # no folder, no Hydra litter


def test_all_that_is_out_of_range_is_said_at_once(tmp_path: Path) -> None:
    out_of_range = {
        "lora.r=0": "Fix: lora.r=..., a rank, from 1 to 4096",
        "lora.dropout=1": "Fix: lora.dropout=..., a probability, from 0 to 0.99",
        "optimizer.lr=100": "Fix: optimizer.lr=..., a learning rate, from 1e-12 to 10",
        "model.max_length=4": "Fix: model.max_length=..., tokens, from 8 to 10000000",
        "training.per_device_train_batch_size=0": "Fix: training.per_device_train_batch_size=..., rows a device, "
        "from 1 to 65536",
        "seed=-5": "Fix: seed=..., a seed, from 0 to 4294967295",
    }
    done = train([*out_of_range, "lora.alpha=-1"], tmp_path)
    assert done.returncode == 2
    *ranges, alpha = done.stderr.splitlines()
    assert ranges == [f"{typed} is out of range. {fix}" for typed, fix in out_of_range.items()]
    assert alpha.startswith("lora.alpha=-1 is neither a number above 0 nor a policy. Fix: lora.alpha=16, ")


def test_help_lists_every_group_with_its_options_and_imports_no_torch(tmp_path: Path) -> None:
    done = train(["--help"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for line in (
        "python -m sft_research.train -m lora.r=8,16,32",
        "packing: bfd, bfd_split, grouped, none, padding_free, wrapped",
        "experiments: demo, lora_rank, lora_rank_alpha_lr\nhydra/launcher: local, ray, slurm, slurm_gpu\n"
        "hydra/sweeper: asha, grid\n",
    ):
        assert line in done.stdout


def test_the_config_is_shown_and_nothing_runs(tmp_path: Path) -> None:
    done = train(["--cfg", "job", "model=tiny", "lora.r=5"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "  name: random:llama\n" in done.stdout
    assert "  r: 5\n" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [".guard"]


def test_a_reader_that_closes_the_pipe_early_is_no_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sft_research.train", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (0, "")


def test_flags_may_stand_between_overrides(tmp_path: Path) -> None:
    done = train(["model=tiny", "-m", "seed=1,1"], tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "two points of this grid have the same overrides. Fix: leave out the repeated value\n",
    )


def test_the_guard_refuses_torch_but_lets_its_source_be_found(tmp_path: Path) -> None:
    found = python(["-c", "import importlib.util as u; print(u.find_spec('torch').origin)"], tmp_path)
    assert found.stdout.endswith("torch/__init__.py\n")
    swallowing = "try:\n    import torch.optim\nexcept Exception:\n    pass"
    assert python(["-c", swallowing], tmp_path).stderr.endswith("Imported: torch\n")


# In this process -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("", ""),
        ("-m lora.r=8,16 model=tiny", "-m lora.r=8,16 model=tiny"),
        ("model=tiny -m lora.r=8,16", "-m model=tiny lora.r=8,16"),
        ("lora=mine --config-dir my=options seed=1 -m", "--config-dir my=options -m lora=mine seed=1"),
        ("model=tiny --config-dir=options", "--config-dir=options model=tiny"),
        ("seed=1 -cd options --cfg job ~lora.x", "-cd options --cfg job seed=1 ~lora.x"),
        ("lora.alpha=-1 -c job", "-c job lora.alpha=-1"),
    ],
)
def test_flags_come_first_with_their_values(typed: str, given: str) -> None:
    assert _flags_first(typed.split()) == given.split()


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ConfigError("r=0. Fix: r=1"), 2, "r=0. Fix: r=1\n"),
        (ConfigCompositionException("odd"), 2, "The configuration cannot be composed: odd\n"),
        (ConfigKeyError("odd"), 2, "The configuration cannot be composed: odd\n"),
        (KeyboardInterrupt(), 130, "Interrupted. The same command starts the run again.\n"),
        (RuntimeError("boom"), 1, "RuntimeError: boom\n"),
    ],
)
def test_each_end_has_its_status_and_message(
    error: BaseException, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, ending():
        raise error
    assert ended.value.code == status
    assert capsys.readouterr() == ("", message)


def test_a_task_without_a_log_writes_its_traceback_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, ending(show_traceback=True):
        raise RuntimeError("boom")
    assert ended.value.code == 1
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["RuntimeError: boom", "Traceback (most recent call last):"]
    assert '    raise RuntimeError("boom")' in said


def test_a_message_holds_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_thisIsASecret")
    with pytest.raises(SystemExit), ending():
        raise RuntimeError("401 for https://user:hf_thisIsASecret@hub")
    assert "RuntimeError: 401 for https://user:***@hub\n" in capsys.readouterr().err
