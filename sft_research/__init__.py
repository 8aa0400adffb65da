"""Supervised fine-tuning research: compose a run, prove it right, compare it fairly.

>>> from sft_research import run
>>> result = run(["model=tiny", "lora.r=32"])
>>> result.after.loss
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sft_research.result import Result

__version__ = "0.1.0"
__all__ = ["run"]


def run(overrides: Sequence[str] = (), config_dir: str | None = None) -> Result:
    """Do what `python -m sft_research.train *overrides` does, and return its result.

    `config_dir` is a folder with config options of your own, as `--config-dir` takes. Raises
    `sft_research.config.ConfigError` for a configuration that cannot be run, and for a grid.
    """
    from sft_research import secrets
    from sft_research.config import compose_one
    from sft_research.explain import explained
    from sft_research.train import train

    secrets.load()
    with explained(overrides):
        return train(compose_one(overrides, config_dir))
