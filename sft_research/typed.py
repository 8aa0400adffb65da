"""The command line of a grid, and the commands of its points that follow from it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from sft_research import secrets
from sft_research.config import MAIN, ConfigError, Run, config_dir_of
from sft_research.point import Point


class Typed:
    """The command line of a grid; raises ConfigError for one that makes no runs."""

    def __init__(self, config: DictConfig) -> None:
        if config.plan:
            raise ConfigError("plan=true is of one run, and this is a grid. Fix: plan=false, or leave out -m")
        if config.hydra.job.config_name != MAIN:
            raise ConfigError("the config of a run's folder makes one run. Fix: leave out -m")
        self.config_dir = config_dir_of(config.hydra)
        choice = config.hydra.runtime.choices.get("experiments")
        self._experiment = [f"experiments={choice}"] if choice else []
        self._flags = ["--config-dir", self.config_dir] if self.config_dir else []
        self._overrides = [*config.hydra.overrides.hydra, *config.hydra.overrides.task]

    def whole(self, overrides: Sequence[str]) -> list[str]:
        """The overrides of a point with its experiment's."""
        return list(dict.fromkeys([*self._experiment, *overrides]))

    def point(self, overrides: tuple[str, ...], run: Run, label: str, grid: Path, *more: str) -> Point:
        """`grid`: where the grid keeps its own files; `more`: overrides that no other process of the run may have."""
        made = (
            sys.executable,
            "-m",
            "sft_research.train",
            *self._flags,
            *run.overrides,
            *more,
            "hydra.mode=RUN",
        )
        return Point(overrides, run.folder, made, secrets.redact(label), f"{run.experiment}/{grid.name}")

    @property
    def command(self) -> str:
        typed = [o for o in self._overrides if o != "hydra.mode=MULTIRUN"]
        words = ["python", "-m", "sft_research.train", "-m", *self._flags, *typed]
        return secrets.redact(shlex.join(words))
