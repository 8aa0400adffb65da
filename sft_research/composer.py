"""Composes the runs of a grid: Hydra reads all its files for each run, and here they are read once."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import replace

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from sft_research.config import Run, compose


class Composer:
    """0.2 s for the first run, and for each that differs from it in more than values."""

    def __init__(self, config_dir: str | None) -> None:
        self._config_dir = config_dir
        self._first: Run | None = None
        self._bases: dict[tuple[str, ...], Run] = {}

    def __call__(self, overrides: Sequence[str], varied: Collection[str]) -> Run:
        """As `compose` makes it; `varied`: those of the overrides in which runs differ."""
        if self._first is None:
            self._first = self._bases[tuple(overrides)] = compose(overrides, self._config_dir)
        first = self._first
        values = [o for o in overrides if o in varied and _is_value(o, first.cfg)]
        read = tuple(o for o in overrides if o not in values)
        try:
            base = self._bases[read] = self._bases.get(read) or compose(read, self._config_dir)
            return replace(base, cfg=with_values(base.cfg, values), overrides=tuple(overrides))
        except Exception:  # whatever it is, Hydra says it better
            return compose(overrides, self._config_dir)


def _is_value(override: str, cfg: DictConfig) -> bool:
    """`lora.r=8`, and neither `lora=rslora` nor `+lora.x=1`"""
    key = override.partition("=")[0]
    return OmegaConf.select(cfg, key) is not None and not OmegaConf.is_dict(OmegaConf.select(cfg, key))


def with_values(cfg: DictConfig, values: Sequence[str]) -> DictConfig:
    """A copy with these values, set as Hydra sets them."""
    changed = copy.deepcopy(cfg)
    for override in OverridesParser.create().parse_overrides(list(values)):
        OmegaConf.update(changed, override.key_or_group, override.value(), merge=True)
    return changed
