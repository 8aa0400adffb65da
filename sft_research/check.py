"""Everything that can be known to be wrong with a run before anything is loaded, in under 2 seconds.

Nothing here imports torch or transformers. A rule is a generator of messages, each the fact, the
numbers and the override that fixes it; `check` raises them all at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sft_research import hub
from sft_research.annotation import fits
from sft_research.config import ConfigError
from sft_research.contradictions import CONTRADICTIONS
from sft_research.ranges import RANGES, TRAINING_IS_SET_BY
from sft_research.signature import UnknownTarget, names, parameters

Rule = Callable[[DictConfig], Iterator[str]]


def check(cfg: DictConfig) -> None:
    """Raise ConfigError with every problem found, the cheapest rules first."""
    for rules in (STRUCTURE, VALUES, CONTRADICTIONS, (hub.local_files,), (hub.unreachable,)):
        problems = [message for rule in rules for message in rule(cfg)]
        if problems:
            raise ConfigError("\n".join(problems))


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
            module = target.rpartition(".")[0]
            yield f"{path}._target_={target}: {error}.{_near(target.rpartition('.')[2], _names(module))}"
            continue
        for key in map(str, node):
            if known is not None and not key.startswith("_") and key not in known:
                yield (
                    f"{path}.{key}: {target} has no parameter {key!r}.{_near(key, known)} "
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


STRUCTURE: tuple[Rule, ...] = (
    missing_values,
    targets_exist_and_take_their_keys,
    settings_another_group_decides,
)
VALUES: tuple[Rule, ...] = (numbers_in_range, alpha_is_a_number_or_a_policy)


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
