"""Everything that can be known to be wrong is said before anything is loaded, with an override that repairs it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from sft_research import check as check_module
from sft_research.check import check, targets
from sft_research.config import ConfigError, compose
from tests.command_line import composed, fixed, python, train


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        check(composed(*overrides))
    return str(refused.value)


# What is refused, the first words of the answer, and the fix in it, as it is pasted into a shell.
REFUSED = [
    ("+lora.rank=8", "lora.rank: sft_research.lora.Lora has no parameter 'rank'.", "~lora.rank"),
    ("+modle=qwen3", "modle: no part of a run reads it. Did you mean model?", "~modle"),
    (
        "lora.target_modules=q_proj",
        "lora.target_modules='q_proj' is of the wrong type",
        "lora.target_modules=[q_proj]",
    ),
    (
        "model.revision=123",
        "model.revision=123 is of the wrong type: it takes str | None.",
        """model.revision='"123"'""",
    ),
    ("lora.alpha=nan", "lora.alpha=nan is neither a number above 0 nor a policy.", "lora.alpha=16"),
    ("lora.alpha=3x", "lora.alpha='3x' is neither a number above 0 nor a policy.", "lora.alpha=2r"),
    (
        "dataset.held_out=0",
        "dataset.held_out=0 leaves nothing to evaluate on",
        "training.eval_strategy=no evaluation.questions=0",
    ),
    ("dataset.held_out=0", "dataset.held_out=0 leaves nothing to evaluate on", "dataset.held_out=64"),
    ("model.load_in_4bit=true lora=none", "model.load_in_4bit=true with lora=none", "lora=default"),
    (
        "model.load_in_4bit=true lora=none",
        "model.load_in_4bit=true with lora=none",
        "model.load_in_4bit=false",
    ),
    ("optimizer=muon lora=none", "optimizer=muon takes matrices alone", "lora=default"),
    ("optimizer=muon lora=none", "optimizer=muon takes matrices alone", "optimizer=adamw"),
    ("model.think_tags=null", "dataset_format=thinking, but", "\"model.think_tags=['<think>','</think>']\""),
    ("model.think_tags=null", "dataset_format=thinking, but", "dataset_format=instruction"),
    (
        "training.max_steps=5 training.warmup_steps=10",
        "training.warmup_steps=10 leaves no step",
        "training.warmup_steps=0.1",
    ),
    ("tracking.mode=online", "tracking.mode=online, but W&B has no key.", "tracking.mode=offline"),
    ("dataset.level=medium", "dataset.level=medium: there is no such choice.", "dataset.level=easy"),
    (
        "training.eval_strategy=step",
        "training.eval_strategy=step: there is no such choice.",
        "training.eval_strategy=no",
    ),
]


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody is logged in anywhere on this machine."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("NETRC", raising=False)


@pytest.mark.parametrize(("typed", "fact", "fix"), REFUSED, ids=[f"{r[0]} -> {r[2]}" for r in REFUSED])
def test_a_refusal_says_what_repairs_it_and_that_does(typed: str, fact: str, fix: str) -> None:
    message = refusal(*typed.split())
    assert message.startswith(fact)
    assert fix in message.partition("Fix: ")[2]
    check(composed(*([] if fix.startswith("~") else fixed(typed.split(), *shlex.split(fix)))))


@pytest.mark.parametrize("option", ["smollm2", "tiny"])
def test_the_defaults_pass(option: str) -> None:
    check(composed(f"model={option}"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["~lora"], "A run needs lora, with a _target_. Fix: lora=OPTION (--help lists them)"),
        (["~lora._target_"], "A run needs lora, with a _target_. Fix: lora=OPTION (--help lists them)"),
        (["~evaluation"], "A run needs evaluation, with a _target_. Fix: leave out ~evaluation"),
        (["dataset=file"], "dataset.path has no value. Fix: dataset.path=..."),
        (
            ["~lora.r"],
            "lora.r has no value, and sft_research.lora.Lora needs one. Fix: +lora.r=...",
        ),
        (
            ["optimizer._target_=torch.optim.Adamw"],
            "optimizer._target_=torch.optim.Adamw: torch.optim has no 'Adamw'. "
            "Did you mean torch.optim.AdamW? Fix: optimizer._target_=PACKAGE.NAME",
        ),
        (
            ["optimizer._target_=torhc.optim.AdamW"],
            "optimizer._target_=torhc.optim.AdamW: there is no module 'torhc' on this Python's path. "
            "Fix: optimizer._target_=PACKAGE.NAME",
        ),
        (
            ["+training.seed=3"],
            "training.seed is decided elsewhere and would be ignored here. Fix: seed=...",
        ),
        (
            ["optimizer.betas=[0.9]"],
            "optimizer.betas=[0.9] is of the wrong type: it takes tuple[float | Tensor, float | Tensor]. "
            "Fix: optimizer.betas=..., as tuple[float | Tensor, float | Tensor]",
        ),
        (
            ["training.lr_scheduler_type=cosin", "lora.r=0"],
            "lora.r=0 is out of range. Fix: lora.r=..., a rank, from 1 to 4096\n"
            "training.lr_scheduler_type=cosin: there is no such choice. "
            "Did you mean training.lr_scheduler_type=cosine? Fix: training.lr_scheduler_type=linear or cosine or "
            "cosine_with_restarts or polynomial or constant or constant_with_warmup or inverse_sqrt or "
            "reduce_lr_on_plateau or cosine_with_min_lr or cosine_warmup_with_min_lr or warmup_stable_decay or greedy",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_message_is(overrides: list[str], message: str) -> None:
    assert refusal(*overrides) == message


@pytest.mark.parametrize(
    "overrides",
    [
        ["+steps=8", "training.max_steps=${steps}"],
        ["+my.steps=8", "training.max_steps=${my.steps}"],
        ["optimizer.betas=[0.9,${optimizer.weight_decay}]"],  # a list is judged by what it resolves to
        ["+optimizer.amsgrad=true"],
        ["lora.alpha=2r"],
        ["training.warmup_steps=10"],  # of whole epochs, whose steps nobody knows yet
        ["training.max_steps=10", "training.warmup_steps=9"],
        ["dataset.held_out=0", "training.eval_strategy=no", "evaluation.questions=0"],
        ["dataset_format=text", "model.think_tags=null"],
    ],
    ids=" ".join,
)
def test_what_is_right_is_not_refused(overrides: list[str]) -> None:
    check(composed(*overrides))


def test_a_key_of_nothing_in_an_experiment_is_refused(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.yaml").write_text(
        "# @package _global_\noptimiser:\n  lr: 1\nspare: 1\n"
    )
    with pytest.raises(ConfigError) as refused:
        check(compose(["experiments=mine"], tmp_path).cfg)
    assert str(refused.value).splitlines() == [
        "optimiser: no part of a run reads it. Did you mean optimizer? Fix: ~optimiser",
        "spare: no part of a run reads it. Fix: ~spare",
    ]


def test_the_cheapest_rules_speak_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value is not compared with its range, nor a hub asked, while the structure is wrong."""
    monkeypatch.setattr(check_module.hub, "unreachable", lambda cfg: pytest.fail("the hub was asked"))
    overrides = ["+lora.rank=8", "lora.r=0", "lora.dropout=x", "optimizer=muon", "model.name=./nothing"]
    assert [line.split(" ")[0] for line in refusal(*overrides).splitlines()] == [
        "lora.dropout='x'",
        "lora.rank:",
    ]


def test_every_target_is_found_however_deep() -> None:
    cfg = OmegaConf.create(
        {
            "_target_": "a",
            "part": {"_target_": "b", "list": [{"x": {"_target_": "c"}}, 1, "???"], "missing": "???"},
            "none": None,
        }
    )
    assert [(path, node._target_) for path, node in targets(cfg)] == [
        ("", "a"),
        ("part", "b"),
        ("part.list.0.x", "c"),
    ]


# Targets of one's own ------------------------------------------------------------------------------

MY_PACKAGE = """
from dataclasses import dataclass

raise RuntimeError("a check imports nothing")

@dataclass
class MyFormat:
    instruction: str
    thinking: str = "why"
    response: str = "response"
    think_tags: list[str] | None = None
    system: str | None = None
    shout: bool = False
    tokenizer: object = None

def my_sgd(params, lr: float, weight_decay: float = 0.0): ...
"""
MY_OPTIONS = {
    "dataset_format/mine.yaml": "_target_: my_pkg.MyFormat\ninstruction: question\nshout: true\n",
    "optimizer/mine.yaml": "_target_: my_pkg.my_sgd\n_partial_: true\nlr: 0.1\n",
}
CHECK = """
import sys
from sft_research.check import check
from sft_research.config import compose
check(compose(sys.argv[1:], "options").cfg)
print("passed")
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder of somebody who only installed this package: their module, and their options."""
    (tmp_path / "my_pkg.py").write_text(MY_PACKAGE)
    for name, text in MY_OPTIONS.items():
        file = tmp_path / "options" / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "overrides",
    [
        ["dataset_format._target_=my_pkg.MyFormat", "+dataset_format.shout=true"],
        ["dataset_format=mine", "optimizer=mine", "optimizer.lr=0.5", "+optimizer.weight_decay=0.1"],
    ],
    ids=" ".join,
)
def test_a_target_of_ones_own_is_composed_and_checked(overrides: list[str], elsewhere: Path) -> None:
    checked = python(["-c", CHECK, *overrides], elsewhere)
    assert (checked.stdout, checked.stderr) == ("passed\n", "")


def test_an_option_of_ones_own_is_shown_like_any_other(elsewhere: Path) -> None:
    shown = train(
        ["--config-dir", "options", "dataset_format=mine", "optimizer=mine", "--cfg", "job"], elsewhere
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "  _target_: my_pkg.MyFormat\n  instruction: question\n  shout: true\n" in shown.stdout
    assert "  _target_: my_pkg.my_sgd\n  _partial_: true\n  lr: 0.1\n" in shown.stdout


def test_a_wrong_key_for_ones_own_class_is_refused_with_its_parameters(elsewhere: Path) -> None:
    overrides = ["dataset_format=mine", "+dataset_format.shuot=true"]
    refused = train(["--config-dir", "options", *overrides], elsewhere)
    assert (refused.returncode, refused.stderr) == (
        2,
        "dataset_format.shuot: my_pkg.MyFormat has no parameter 'shuot'. Did you mean shout? It takes: "
        "instruction, response, shout, system, think_tags, thinking, tokenizer. Fix: ~dataset_format.shuot\n",
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset_format.shout=loud", "dataset_format.shout='loud' is of the wrong type: it takes bool."),
        ("~dataset_format.instruction", "dataset_format.instruction has no value, and my_pkg.MyFormat needs one."),
        ("dataset_format._target_=my_pkg.MyFromat", "dataset_format._target_=my_pkg.MyFromat: my_pkg has no "
         "'MyFromat'. Did you mean my_pkg.MyFormat?"),
        ("+dataset_format.tokenizer={_target_:my_pkg.my_sgd,lr:x}", "dataset_format.tokenizer.lr='x' is of the wrong"),
    ],
)  # fmt: skip
def test_ones_own_class_is_checked_like_ours(
    override: str, message: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(elsewhere)
    with pytest.raises(ConfigError) as refused:
        check(compose(["dataset_format=mine", override], elsewhere / "options").cfg)
    assert str(refused.value).startswith(message)


def test_a_nested_target_may_stand_for_any_type(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(elsewhere)
    nested: Any = "dataset_format.instruction={_target_:builtins.str}"
    check(compose(["dataset_format=mine", nested], elsewhere / "options").cfg)
