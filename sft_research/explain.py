"""Hydra's and OmegaConf's refusals in our form: the fact, a did-you-mean, the override that fixes it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sft_research.config import CONF_DIR, ROOT, ConfigError, compose
from sft_research.ranges import TRAINING_IS_SET_BY


def explain(error: Exception, arguments: Sequence[str]) -> str:
    """One message for a person; Hydra's own words, without its frames, where we know no better ones."""
    if isinstance(error, ConfigError):
        return str(error)
    text = str(error)
    if found := re.search(r"Could not (?:override|delete) (?:from config\. )?'?([\w.]+)'?", text):
        return _unknown_key(found[1], arguments)
    if found := re.search(r"Could not find '(?:[\w/]*?)([\w]+(?:/[\w]+)*)/([^'/]+)'", text):
        return _unknown_option(found[1], found[2], text)
    if found := re.search(r"Cannot override '([\w/]+)'|Could not override '([\w/]+)'", text):
        return _unknown_key(found[1] or found[2], arguments)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException) and str(cause).splitlines()[0] not in lines:
        lines.append(str(cause).splitlines()[0])
    return f"The configuration cannot be composed: {' '.join(lines)}"


def _unknown_key(key: str, arguments: Sequence[str]) -> str:
    """`lora.rank=8` where there is `lora.r`; `modle=tiny` where there is `model`."""
    parent, _, name = key.rpartition(".")
    if parent == "training" and name in TRAINING_IS_SET_BY:
        return f"{key} is decided elsewhere. Fix: {TRAINING_IS_SET_BY[name]}"
    known = [str(k) for k in _siblings(parent, arguments) if str(k)[0] != "_"]
    where = f"{parent} has" if parent else "a run has"
    near = _near(name, known, prefix=f"{parent}." if parent else "")
    listed = ", ".join(known) or "no keys"
    return f"{key}: there is no such key.{near} {where}: {listed}. To add it all the same: +{key}=..."


def _siblings(parent: str, arguments: Sequence[str]) -> list[Any]:
    """The keys beside a wrong one, in the config that the group choices alone make."""
    groups = {p.name for p in CONF_DIR.iterdir() if p.is_dir()}
    choices = [a for a in arguments if a.partition("=")[0] in groups and "," not in a]
    for attempt in (choices, []):
        try:
            cfg = compose(attempt).cfg
        except Exception:  # another argument is wrong too: the defaults say enough
            continue
        node = OmegaConf.select(cfg, parent) if parent else cfg
        return list(node) if OmegaConf.is_dict(node) else []
    return []


def _unknown_option(group: str, option: str, text: str) -> str:
    listed = text.partition("Available options")[2].splitlines()[1:]
    options = [line.strip() for line in listed if re.fullmatch(r"\s+[\w-]+", line)]
    if group == "experiments":
        options = options or sorted(p.stem for p in Path(ROOT, "experiments").glob("*.yaml"))
    near = _near(option, options, prefix=f"{group}=")
    return f"{group}={option}: there is no such option.{near} {group} has: {', '.join(options)}."


def _near(name: str, known: Sequence[str], prefix: str) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    starts = [k for k in known if name.startswith(k) or k.startswith(name)]
    best = near or starts[:1]
    return f" Did you mean {prefix}{best[0]}?" if best else ""
