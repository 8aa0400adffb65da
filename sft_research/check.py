"""Everything that can be known to be wrong with a run before anything is loaded, in under 2 seconds.

Nothing here imports torch or transformers. A rule is a generator of messages, each the fact, the
numbers and the override that fixes it; `check` raises them all at once.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sft_research import hardware, hub
from sft_research.annotation import fits
from sft_research.config import ConfigError
from sft_research.ranges import RANGES, TRAINING_IS_SET_BY
from sft_research.signature import UnknownTarget, names, parameters

Rule = Callable[[DictConfig], Iterator[str]]


def check(cfg: DictConfig) -> None:
    """Raise ConfigError with every problem found, the cheapest rules first."""
    for rules in (STRUCTURE, VALUES, CONTRADICTIONS, (hub.unreachable,)):
        problems = [message for rule in rules for message in rule(cfg)]
        if problems:
            raise ConfigError("\n".join(problems))


def missing_values(cfg: DictConfig) -> Iterator[str]:
    for key in sorted(OmegaConf.missing_keys(cfg)):
        yield f"{key} has no value. Fix: {key}=..."


def targets_exist_and_take_their_keys(cfg: DictConfig) -> Iterator[str]:
    """Each `_target_` is bound to its signature, as it is written in its source."""
    for path, node in targets(cfg):
        target = node["_target_"]
        try:
            known = parameters(target)
        except UnknownTarget as error:
            module = target.rpartition(".")[0]
            yield f"{path}._target_={target}: {error}.{_near(target.rpartition('.')[2], _names(module))}"
            continue
        for key in node:
            if known is not None and not str(key).startswith("_") and key not in known:
                yield (
                    f"{path}.{key}: {target} has no parameter {key!r}.{_near(str(key), known)} "
                    f"It takes: {', '.join(sorted(known)[:40])}. Fix: ~{path}.{key}"
                )
            elif known is not None and key in known and not OmegaConf.is_missing(node, key):
                yield from _wrong_type(f"{path}.{key}", node[key], known[key].annotation)


def targets(node: Any, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """(dotted path, node) of every `_target_` in a config, however deep."""
    if not OmegaConf.is_dict(node):
        return
    if "_target_" in node:
        yield path, node
    for key in node:
        if not OmegaConf.is_missing(node, key):
            yield from targets(node[key], f"{path}.{key}".lstrip("."))


def settings_another_group_decides(cfg: DictConfig) -> Iterator[str]:
    """TRL would take one of two values and say nothing: learning rate, weight decay, packing, ..."""
    for key in cfg.training:
        if key in TRAINING_IS_SET_BY:
            fix = TRAINING_IS_SET_BY[str(key)]
            yield f"training.{key} is decided elsewhere and would be ignored here. Fix: {fix}"


def numbers_in_range(cfg: DictConfig) -> Iterator[str]:
    for key, (low, high, unit) in RANGES.items():
        value = OmegaConf.select(cfg, key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not low <= value <= high:
            yield f"{key}={value} is out of range: {unit}, from {low:g} to {high:g}."


def alpha_is_a_number_or_a_policy(cfg: DictConfig) -> Iterator[str]:
    if "alpha" in cfg.lora:
        from sft_research.lora import effective_alpha

        try:
            effective_alpha(cfg.lora.alpha, cfg.lora.r)
        except ConfigError as error:
            yield str(error)


def needs_a_package(cfg: DictConfig) -> Iterator[str]:
    """A part whose library is not installed: `backend=unsloth`, an 8-bit optimizer, a tracker."""
    asked = [
        ("unsloth", cfg.backend["_target_"].endswith(".Unsloth"), "backend=transformers", 'pip install -e ".[unsloth]"'),
        ("bitsandbytes", cfg.optimizer["_target_"].startswith("bitsandbytes."), "optimizer=adamw", "pip install bitsandbytes"),
        ("bitsandbytes", _select(cfg, "model.load_in_4bit"), "model.load_in_4bit=false", "pip install bitsandbytes"),
        ("wandb", cfg.tracking["_target_"].endswith(".Wandb"), "tracking=none", "pip install wandb"),
        ("trackio", cfg.tracking["_target_"].endswith(".Trackio"), "tracking=wandb", 'pip install -e ".[trackio]"'),
        ("tensorboard", cfg.tracking["_target_"].endswith(".TensorBoard"), "tracking=wandb", 'pip install -e ".[tensorboard]"'),
    ]  # fmt: skip
    for package, wanted, otherwise, install in asked:
        if wanted and importlib.util.find_spec(package) is None:
            yield f"{package} is not installed, and this run needs it. Fix: {install}, or {otherwise}"


def four_bit_weights_cannot_be_trained(cfg: DictConfig) -> Iterator[str]:
    if not _select(cfg, "model.load_in_4bit"):
        if str(_select(cfg, "model.name")).endswith("-bnb-4bit"):
            plain = cfg.model.name.removesuffix("-bnb-4bit").removesuffix("-unsloth")
            yield (
                f"model.load_in_4bit=false, but {cfg.model.name} holds 4-bit weights and would be loaded so. "
                f"Fix: model.name={plain}, or model.load_in_4bit=true"
            )
    elif "r" not in cfg.lora:
        yield (
            "model.load_in_4bit=true with lora=none: 4-bit weights have no gradient. "
            "Fix: lora=default, or model.load_in_4bit=false"
        )


def muon_needs_matrices(cfg: DictConfig) -> Iterator[str]:
    if cfg.optimizer["_target_"].endswith(".Muon") and "r" not in cfg.lora:
        yield (
            "optimizer=muon takes matrices alone, and lora=none trains norms and biases too. "
            "Fix: optimizer=adamw, or lora=default"
        )


def bfloat16_needs_hardware(cfg: DictConfig) -> Iterator[str]:
    dtype = _select(cfg, "model.dtype")
    if dtype == "bfloat16" and not hardware.gpu() and not hardware.cpu_has_bf16():
        yield (
            f"model.dtype=bfloat16, but this machine has no GPU and its {hardware.cpu()} does not compute in "
            "bfloat16: emulated, it is 34 times slower. Fix: model.dtype=auto (float32 here)"
        )
    if dtype == "float16" and not hardware.gpu():
        yield "model.dtype=float16 needs a GPU: a CPU run overflows in it. Fix: model.dtype=auto"


def thinking_needs_tags(cfg: DictConfig) -> Iterator[str]:
    if "think_tags" in cfg.dataset_format and cfg.dataset_format.think_tags is None:
        yield (
            f"dataset_format=thinking, but {_select(cfg, 'model.name')} has no think tags. "
            "Fix: model.think_tags=['<think>','</think>'] to train them as text, or dataset_format=instruction"
        )


def evaluation_needs_held_out_rows(cfg: DictConfig) -> Iterator[str]:
    if _select(cfg, "dataset.held_out") in (0, 0.0) and cfg.training.get("eval_strategy", "no") != "no":
        yield (
            "dataset.held_out=0 leaves nothing to evaluate on, but training.eval_strategy="
            f"{cfg.training.eval_strategy}. Fix: training.eval_strategy=no, or dataset.held_out=0.05"
        )


def warm_up_fits_in_the_run(cfg: DictConfig) -> Iterator[str]:
    steps, warmup = cfg.training.get("max_steps", -1), cfg.training.get("warmup_steps", 0)
    if steps > 0 and warmup > steps:
        yield (
            f"training.warmup_steps={warmup} is more than training.max_steps={steps}: the learning rate never "
            f"reaches optimizer.lr={_select(cfg, 'optimizer.lr')}. Fix: training.warmup_steps=0.1 (a share)"
        )


def wandb_online_needs_a_key(cfg: DictConfig) -> Iterator[str]:
    from sft_research.tracking import wandb_key_is_configured

    if _select(cfg, "tracking.mode") == "online" and not wandb_key_is_configured():
        yield "tracking.mode=online, but W&B has no key. Fix: wandb login, or tracking.mode=offline"


STRUCTURE: tuple[Rule, ...] = (
    missing_values,
    targets_exist_and_take_their_keys,
    settings_another_group_decides,
)
VALUES: tuple[Rule, ...] = (numbers_in_range, alpha_is_a_number_or_a_policy)
CONTRADICTIONS: tuple[Rule, ...] = (
    needs_a_package,
    four_bit_weights_cannot_be_trained,
    muon_needs_matrices,
    bfloat16_needs_hardware,
    thinking_needs_tags,
    evaluation_needs_held_out_rows,
    warm_up_fits_in_the_run,
    wandb_online_needs_a_key,
    hub.local_files,
)


def _select(cfg: DictConfig, key: str) -> Any:
    return OmegaConf.select(cfg, key, throw_on_missing=False)


def _near(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]}?" if near else ""


def _names(module: str) -> list[str]:
    try:
        return names(module)
    except UnknownTarget:
        return []


def _wrong_type(key: str, value: Any, annotation: str | None) -> Iterator[str]:
    plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    if annotation and not fits(plain, annotation):
        yield f"{key}={plain!r} is of the wrong type: it takes {annotation}."
