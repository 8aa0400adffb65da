"""Everything that can be known to be wrong with a run before anything is loaded, in under 2 seconds.

Nothing here imports torch or transformers. A rule is a generator of messages, each the fact, the
numbers and the override that fixes it; `check` raises them all at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sft_research import devices, hub
from sft_research.annotation import choices, fits
from sft_research.config import ConfigError
from sft_research.contradictions import CONTRADICTIONS
from sft_research.ranges import ALSO, CHOICES, RANGES, SETTINGS, TRAINING_IS_SET_BY, TRAINING_OWN
from sft_research.signature import Parameter, UnknownTarget, names, parameters

Rule = Callable[[DictConfig], Iterator[str]]
GROUPS = (
    "backend",
    "lora",
    "dataset_format",
    "model",
    "dataset",
    "optimizer",
    "packing",
    "training",
    "tracking",
)
PARTS = (*GROUPS, "evaluation")


def check(cfg: DictConfig) -> None:
    """Raise ConfigError with every problem found, the cheapest rules first."""
    across = (*CONTRADICTIONS, *devices.RULES)
    for rules in ((every_part,), STRUCTURE, VALUES, across, (hub.local_files,), (hub.unreachable,)):
        problems = [message for rule in rules for message in rule(cfg)]
        if problems:
            raise ConfigError("\n".join(problems))


def every_part(cfg: DictConfig) -> Iterator[str]:
    for part in PARTS:
        if not OmegaConf.is_dict(cfg.get(part)) or "_target_" not in cfg[part]:
            fix = f"{part}=OPTION (--help lists them)" if part in GROUPS else f"leave out ~{part}"
            yield f"A run needs {part}, with a _target_. Fix: {fix}"


def keys_that_nothing_reads(cfg: DictConfig) -> Iterator[str]:
    """`optimiser.lr` in an experiment would be a key of nothing, and the run would go on without it."""
    known, written = (*PARTS, *SETTINGS), OmegaConf.to_yaml(cfg)
    for key in map(str, cfg):
        if key not in known and not re.search(rf"\$\{{\.*{re.escape(key)}\b", written):
            yield f"{key}: no part of a run reads it.{_near(key, known)} Fix: ~{key}"


def missing_values(cfg: DictConfig) -> Iterator[str]:
    for key in sorted(OmegaConf.missing_keys(cfg)):
        yield f"{key} has no value. Fix: {key}=..."


def targets_exist_and_take_their_keys(cfg: DictConfig) -> Iterator[str]:
    """Each `_target_` is bound to its signature, as it is written in its source."""
    for path, node in targets(cfg):
        target: str = node._target_
        try:
            known = parameters(target)
        except UnknownTarget as error:
            module, _, name = target.rpartition(".")
            near = _near(name, _names(module), prefix=f"{module}.")
            yield f"{path}._target_={target}: {error}.{near} Fix: {path}._target_=PACKAGE.NAME"
            continue
        if path == "training":
            known = known and known | {k: Parameter(kind, required=False) for k, kind in TRAINING_OWN.items()}
        if known is not None:
            yield from _bind(path, node, known)


def _bind(path: str, node: DictConfig, known: dict[str, Parameter]) -> Iterator[str]:
    target = node._target_
    for key in map(str, node):
        if not key.startswith("_") and key not in known:
            yield (
                f"{path}.{key}: {target} has no parameter {key!r}.{_near(key, known)} "
                f"It takes: {', '.join(sorted(known)[:40]) or 'none'}. Fix: ~{path}.{key}"
            )
        elif key in known and not OmegaConf.is_missing(node, key):
            yield from _wrong_type(f"{path}.{key}", node[key], known[key].annotation)
    if not node.get("_partial_") and "_args_" not in node:
        for key, parameter in known.items():
            if parameter.required and key not in set(node):  # `in node` is False for ???, said already
                yield f"{path}.{key} has no value, and {target} needs one. Fix: +{path}.{key}=..."


def targets(node: Any, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """(dotted path, node) of every `_target_` in a config, however deep."""
    if OmegaConf.is_dict(node):
        if "_target_" in node:
            yield path, node
        inside = [(f"{path}.{key}".lstrip("."), key) for key in node]
    elif OmegaConf.is_list(node):
        inside = [(f"{path}.{index}", index) for index in range(len(node))]
    else:
        return
    for where, key in inside:
        if not OmegaConf.is_missing(node, key):
            yield from targets(node[key], where)


def settings_another_group_decides(cfg: DictConfig) -> Iterator[str]:
    """TRL would take one of two values and say nothing: learning rate, weight decay, packing, ..."""
    for key in cfg.training:
        if key in TRAINING_IS_SET_BY:
            fix = TRAINING_IS_SET_BY[str(key)]
            yield f"training.{key} is decided elsewhere and would be ignored here. Fix: {fix}"


def run_settings_are_of_their_type(cfg: DictConfig) -> Iterator[str]:
    for key, annotation in SETTINGS.items():
        yield from _wrong_type(key, cfg.get(key), annotation)


def numbers_in_range(cfg: DictConfig) -> Iterator[str]:
    for key, (low, high, unit) in RANGES.items():
        value = OmegaConf.select(cfg, key)
        if isinstance(value, (str, bool)) and key != "dataset.held_out":  # a split or a file there
            yield from _wrong_type(key, value, "float")
        elif isinstance(value, (int, float)) and not low <= value <= high and value != ALSO.get(key):
            span = f"{low} or more" if high == inf else f"from {low} to {high}"
            yield f"{key}={value} is out of range. Fix: {key}=..., {unit}, {span}"


def words_are_known(cfg: DictConfig) -> Iterator[str]:
    for key, options in CHOICES.items():
        value = OmegaConf.select(cfg, key)
        if value is not None and value not in options:
            yield _not_one_of(key, value, options)


def alpha_is_a_number_or_a_policy(cfg: DictConfig) -> Iterator[str]:
    if "alpha" in cfg.lora and "r" in cfg.lora:
        from sft_research.lora import effective_alpha

        try:
            effective_alpha(cfg.lora.alpha, cfg.lora.r)
        except ConfigError as error:
            yield str(error)


STRUCTURE: tuple[Rule, ...] = (
    missing_values,
    targets_exist_and_take_their_keys,
    settings_another_group_decides,
    run_settings_are_of_their_type,
    keys_that_nothing_reads,
)
VALUES: tuple[Rule, ...] = (numbers_in_range, words_are_known, alpha_is_a_number_or_a_policy)


def _near(name: str, known: Iterable[Any], prefix: str = "") -> str:
    lower = {str(k).lower(): str(k) for k in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    return f" Did you mean {prefix}{lower[near[0]]}?" if near else ""


def _names(module: str) -> list[str]:
    try:
        return names(module)
    except UnknownTarget:
        return []


def _wrong_type(key: str, value: Any, annotation: str | None) -> Iterator[str]:
    plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    made_by_a_target = isinstance(plain, dict) and "_target_" in plain
    if annotation is None or made_by_a_target or fits(plain, annotation):
        return
    if options := choices(annotation):
        yield _not_one_of(key, plain, options)
        return
    fix = f"{key}=..., as {annotation}"
    if fits([plain], annotation):
        fix = f"{key}=[{plain}]"
    elif isinstance(plain, (int, float)) and not isinstance(plain, bool) and fits("", annotation):
        fix = f"{key}='\"{plain}\"'"
    yield f"{key}={plain!r} is of the wrong type: it takes {annotation}. Fix: {fix}"


def _not_one_of(key: str, value: Any, options: Sequence[Any]) -> str:
    near = _near(str(value), options, prefix=f"{key}=")
    return f"{key}={value}: there is no such choice.{near} Fix: {key}={' or '.join(map(str, options))}"
