"""A refusal of Hydra becomes one message: the fact, what there is, and what was probably meant."""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, InterpolationKeyError

from sft_research.config import ConfigError, compose
from sft_research.explain import explain
from tests.command_line import fixed


@cache
def refusal(*arguments: str) -> str:
    """What a person reads who typed these arguments."""
    with pytest.raises((HydraException, ValueError)) as caught:
        compose(arguments)
    return explain(caught.value, arguments)


A_RUN_HAS = (
    "backend, lora, dataset_format, model, dataset, optimizer, packing, training, tracking, "
    "devices, seed, runs_dir, rerun, plan, pause_at, deterministic, preflight, on_overlap, evaluation"
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["lora.rank=8"],
            "lora.rank: there is no such key. lora has: r, alpha, dropout, target_modules, use_rslora, "
            "use_dora, init_lora_weights. Did you mean lora.r?",
        ),
        (["modle=tiny"], f"modle: there is no such key. A run has: {A_RUN_HAS}. Did you mean model?"),
        (["lorra.r=8"], f"lorra: there is no such key. A run has: {A_RUN_HAS}. Did you mean lora?"),
        (
            ["max_new_tokens=9"],
            f"max_new_tokens: there is no such key. A run has: {A_RUN_HAS}. "
            "Did you mean evaluation.max_new_tokens?",
        ),
        (["~foo"], f"foo: there is no such key. A run has: {A_RUN_HAS}."),
        (["lora.r.x=3"], "lora.r.x: lora.r is 16 and has no keys. Fix: lora.r=..."),
        (
            ["lora=none", "lora.r=8"],
            "lora.r: there is no such key. lora has: none. Fix: lora=default, where it is a key",
        ),
        (
            ["dataset.path=rows.jsonl"],
            "dataset.path: there is no such key. dataset has: rows, held_out, level, seed. "
            "Fix: dataset=file or gsm8k or hub or smoltalk, where it is a key",
        ),
        (
            ["optimizer=sgd", "optimizer.dampening=0.1"],  # torch's SGD takes it, the option does not name it
            "optimizer.dampening: there is no such key. optimizer has: lr, momentum, weight_decay. "
            "Fix: +optimizer.dampening=...",
        ),
        (
            ["model=tiny", "lora=default,rslora"],
            "lora=default,rslora is several values, and a run takes one. Fix: -m lora=default,rslora, one run each",
        ),
        (
            ["lora.r=8,16"],
            "lora.r=8,16 is several values, and a run takes one. Fix: -m lora.r=8,16, one run each, "
            "or as a list: lora.r=[8,16]",
        ),
        (["training.learning_rate=1"], "training.learning_rate is decided elsewhere. Fix: optimizer.lr=..."),
        (
            ["lora=r16"],
            "lora=r16: there is no such option. lora has: attention, default, dora, none, opt, rslora.",
        ),
        (
            ["optimizer=adam"],
            "optimizer=adam: there is no such option. optimizer has: adamw, adamw_8bit, lion, muon, "
            "paged_adamw_8bit, sgd. Did you mean optimizer=adamw?",
        ),
        (
            ["dataset=org/rows"],
            "dataset=org/rows: there is no such option. dataset has: arithmetic, file, gsm8k, hub, mixture, smoltalk. "
            "Fix: dataset=hub dataset.path=org/rows",
        ),
        (
            ["hydra/launcher=slrum"],
            "hydra/launcher=slrum: there is no such option. hydra/launcher has: basic, local, ray, slurm, slurm_gpu. "
            "Did you mean hydra/launcher=slurm?",
        ),
        (
            ["hydra.launcher.workers=4"],
            "hydra.launcher.workers: there is no such key. hydra.launcher has: n, gpus.",
        ),
        (
            ["hydra/launcher=slurm", "hydra.launcher.partitoin=long"],
            "hydra.launcher.partitoin: there is no such key. hydra.launcher has: partition, account, qos, constraint, "
            "nodelist, exclude, gpus, gres, cpus, memory_gb, minutes, grace_seconds, requeues, parallel, setup, extra. "
            "Did you mean hydra.launcher.partition?",
        ),
        (
            ["hydra/sweeper=asha", "hydra.sweeper.trails=9"],
            "hydra.sweeper.trails: there is no such key. hydra.sweeper has: trials, reduction, smallest, sampler, "
            "seed, parallel, params. Did you mean hydra.sweeper.trials?",
        ),
        (
            ["hydra.launcher.minutes=2"],
            "hydra.launcher.minutes: there is no such key. hydra.launcher has: n, gpus. "
            "Fix: hydra/launcher=slurm or slurm_gpu, where it is a key",
        ),
        (
            ["seed=1", "tracking=null"],
            "tracking=null: a run needs an option here. Fix: tracking=none or tensorboard or trackio or wandb",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_message_is(arguments: list[str], message: str) -> None:
    assert refusal(*arguments) == message


@pytest.mark.parametrize("path", ["./nothing", "/data/models/mine", "org/model-7B"])
def test_a_path_where_an_option_is_asked_for_belongs_to_the_name(path: str) -> None:
    assert refusal(f"model={path}").endswith(f" Fix: model.name={path}")
    assert compose([f"model.name={path}"]).cfg.model.name == path


def test_an_experiment_that_is_not_there_is_answered_with_those_that_are() -> None:
    message = refusal("experiments=lora_rnak")
    assert message.startswith("experiments=lora_rnak: there is no such option. experiments has: ")
    assert "demo, lora_rank" in message
    assert message.endswith(" Did you mean experiments=lora_rank?")


def test_the_keys_listed_are_those_of_the_option_that_was_chosen() -> None:
    assert " dataset has: path, name, split, " in refusal("dataset=hub", "dataset.rows_=3")


def test_the_keys_of_the_default_are_listed_for_an_option_that_is_only_the_users(tmp_path: Path) -> None:
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "mine.yaml").write_text("defaults: [default]")
    arguments = ["lora=mine", "lora.rank=8"]
    with pytest.raises(HydraException) as caught:
        compose(arguments, tmp_path)
    assert " lora has: r, alpha, " in explain(caught.value, arguments)


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (["optimizer=sgd", "optimizer.dampening=0.1"], ["+optimizer.dampening=0.1"]),
        (["lora=none", "lora.r=8"], ["lora=default"]),
        (["dataset.path=rows.jsonl"], ["dataset=file"]),
        (["dataset=org/rows"], ["dataset=hub", "dataset.path=org/rows"]),
        (["packing=null"], ["packing=bfd"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_the_fix_makes_it_compose(arguments: list[str], fix: list[str]) -> None:
    message = refusal(*arguments)
    assert f"Fix: {' '.join(fix)}".replace("=0.1", "=") in message
    compose(fixed(arguments, *fix))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lora", "lora is no override. Fix: lora=VALUE, such as lora.r=8"),
        ("lora.r=[8", "lora.r=[8: Hydra cannot read this value. If it is text, Fix: lora.r='\"[8\"'"),
        (
            "model.name=~/my models/(1)",
            "model.name=~/my models/(1): Hydra cannot read this value. "
            "If it is text, Fix: model.name='\"~/my models/(1)\"'",
        ),
    ],
)
def test_what_hydra_cannot_read_is_quoted_for_it(override: str, message: str) -> None:
    assert refusal(override) == message


def test_quoted_for_hydra_and_the_shell_a_value_is_what_was_typed() -> None:
    typed = '~/my models/(1) "a, b"'
    (pasted,) = shlex.split(refusal(f"model.name={typed}").partition("Fix: ")[2])
    assert compose([pasted]).cfg.model.name == typed


def test_our_own_refusals_pass_as_they_are() -> None:
    assert explain(ConfigError("lora.r=0. Fix: lora.r=1"), []) == "lora.r=0. Fix: lora.r=1"


def test_what_nobody_foresaw_is_one_line_in_hydras_words_with_its_cause() -> None:
    error = HydraException("first\n  second\n")
    assert explain(error, []) == "The configuration cannot be composed: first second"
    error.__cause__ = ConfigKeyError("third\nfull_key: x")
    assert explain(error, []) == "The configuration cannot be composed: first second third"


def test_an_interpolation_that_leads_nowhere_is_named() -> None:
    cfg = compose(["lora.r=${nowhere}"]).cfg
    with pytest.raises(InterpolationKeyError) as caught:
        OmegaConf.to_container(cfg, resolve=True)
    assert explain(caught.value, []) == (
        "The configuration cannot be composed: Interpolation key 'nowhere' not found "
        "full_key: lora.r object_type=dict"
    )
