"""Hydra's and OmegaConf's refusals in our form: the fact, a did-you-mean, the override that fixes it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sft_research.config import CONF_DIR, ROOT, ConfigError, with_hydra, without_hydra
from sft_research.ranges import TRAINING_IS_SET_BY
from sft_research.signature import Parameter, UnknownTarget, parameters

NULL_OPTION = "Config group override must be"  # Hydra's ValueError for `packing=null`
# `model=Qwen/Qwen3-4B`: a name of the hub, or a folder, where an option is asked for.
NAMES = {"model": "model.name", "dataset": "dataset=hub dataset.path"}


def explain(error: Exception, arguments: Sequence[str]) -> str:
    """One message for a person; Hydra's own words, without its frames, where we know no better ones."""
    if isinstance(error, ConfigError):
        return str(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    text = str(error)
    if NULL_OPTION in text:
        return _no_option(arguments)
    if found := re.search(r"Ambiguous value for argument '(.+)'\n", text):
        return _several(found[1])
    if found := re.search(r"Could not (?:override|delete) (?:from config\. )?'?([\w.]+)'?", text):
        return _unknown_key(found[1], arguments)
    if found := re.search(r"Could not find '((?:hydra/)?\w+)/([^']+)'", text):
        return _unknown_option(found[1], found[2], text)
    if found := re.search(r"Cannot override '([\w/]+)'|Could not override '([\w/]+)'", text):
        return _unknown_key(found[1] or found[2], arguments)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException) and str(cause).splitlines()[0] not in lines:
        lines.append(str(cause).splitlines()[0])
    return f"The configuration cannot be composed: {' '.join(lines)}"


@contextmanager
def explained(arguments: Sequence[str]) -> Iterator[None]:
    """What Hydra and OmegaConf refuse of these arguments, as ConfigError."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, arguments)) from error
    except ValueError as error:
        if NULL_OPTION not in str(error):
            raise
        raise ConfigError(explain(error, arguments)) from error


def _several(override: str) -> str:
    """`lora.r=8,16`, which is a grid's; of a key, and not of a group, it may have been meant as a list."""
    key, _, value = override.partition("=")
    as_list = f", or as a list: {key}=[{value}]" if "." in key else ""
    return f"{override} is several values, and a run takes one. Fix: -m {override}, one run each{as_list}"


def _unreadable(override: str) -> str:
    """`model.name=~/mine`: Hydra's grammar has a meaning for many characters, and no word for what it misses."""
    key, has_value, value = override.partition("=")
    if not has_value:
        return f"{override} is no override. Fix: {key}=VALUE, such as lora.r=8"
    quoted = value.replace('"', '\\"')
    return f"{override}: Hydra cannot read this value. If it is text, Fix: {key}='\"{quoted}\"'"


def _unknown_key(key: str, arguments: Sequence[str]) -> str:
    """`lora.rank=8` where there is `lora.r`; `modle=tiny` where there is `model`."""
    parent, _, name = key.rpartition(".")
    if parent == "training" and name in TRAINING_IS_SET_BY:
        return f"{key} is decided elsewhere. Fix: {TRAINING_IS_SET_BY[name]}"
    node = _node(parent, arguments)
    if node is None:
        return _unknown_key(parent, arguments)
    if not OmegaConf.is_dict(node):
        return f"{key}: {parent} is {node!r} and has no keys. Fix: {parent}=..."
    known = [str(k) for k in node if str(k)[0] != "_"]
    near = _near(name, known, prefix=f"{parent}." if parent else "")
    if not parent:  # `lr=1e-3`
        inside = [part for part in node if OmegaConf.is_dict(node[part]) and name in node[part]]
        near = f" Did you mean {inside[0]}.{name}?" if inside else near
    group = parent.replace(".", "/")  # hydra.launcher.n is a key of an option of hydra/launcher
    elsewhere = [option for option in _options(group) if f"\n{name}:" in _file(group, option).read_text()]
    if elsewhere:
        near += f" Fix: {group}={' or '.join(elsewhere)}, where it is a key"
    elif name in (_parameters(node) or ()):
        near += f" Fix: +{key}=..."
    return f"{key}: there is no such key. {parent or 'A run'} has: {', '.join(known) or 'none'}.{near}"


def _parameters(node: Any) -> dict[str, Parameter] | None:
    try:
        return parameters(node.get("_target_", ""))
    except UnknownTarget:
        return None


def _node(parent: str, arguments: Sequence[str]) -> Any:
    """What a wrong key would be in, in the config that the group choices alone make."""
    groups = {"hydra/launcher", "hydra/sweeper", *(p.name for p in CONF_DIR.iterdir() if p.is_dir())}
    choices = [a for a in arguments if a.partition("=")[0] in groups and "," not in a]
    for attempt in (choices, []):
        try:
            cfg = with_hydra(attempt)
        except Exception:  # another argument is wrong too: the defaults say enough
            continue
        return OmegaConf.select(cfg, parent) if parent else without_hydra(cfg)
    return None


def _unknown_option(group: str, option: str, text: str) -> str:
    listed = text.partition("Available options")[2].splitlines()[1:]
    options = [line.strip() for line in listed if re.fullmatch(r"\s+[\w-]+", line)]
    options = options or _options(group)
    near = _near(option, options, prefix=f"{group}=")
    if group in NAMES and "/" in option:
        near = f" Fix: {NAMES[group]}={option}"
    return f"{group}={option}: there is no such option. {group} has: {', '.join(options)}.{near}"


def _no_option(arguments: Sequence[str]) -> str:
    """`packing=null`: Hydra's own message does not say which group."""
    empty = [group for group, _, option in (a.partition("=") for a in arguments) if option == "null"]
    group = next((group for group in empty if _options(group)), "a group")
    return f"{group}=null: a run needs an option here. Fix: {group}={' or '.join(_options(group))}"


def _options(group: str) -> list[str]:
    return sorted(file.stem for file in _file(group, "*").parent.glob("*.yaml"))


def _file(group: str, option: str) -> Path:
    return (ROOT if group == "experiments" else CONF_DIR) / (group or "-") / f"{option}.yaml"


def _near(name: str, known: Sequence[str], prefix: str) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    starts = [k for k in known if name.startswith(k) or k.startswith(name)]
    best = near or starts[:1]
    return f" Did you mean {prefix}{best[0]}?" if best else ""
