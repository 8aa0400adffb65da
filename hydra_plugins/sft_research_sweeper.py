"""Which points a grid has: `hydra/sweeper=grid`, or `asha`. Hydra finds sweepers in this package alone."""

from __future__ import annotations

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from hydra_plugins.sft_research_launcher import OwnLauncher
from sft_research.asha import search_of, searched
from sft_research.budgets import Rungs
from sft_research.config import ConfigError
from sft_research.launcher import library
from sft_research.search import Knobs


class GridSweeper(BasicSweeper):
    """Every combination, in one batch.

    Hydra's own composes each of them first, 0.2 s each, and writes what was typed, secrets too, to multirun.yaml.
    """

    def __init__(self, params: dict[str, str] | None) -> None:
        super().__init__(max_batch_size=None, params=params)

    def sweep(self, arguments: list[str]) -> Any:
        assert self.launcher
        (points,) = self.split_arguments(self.parsed(arguments), max_batch_size=None)
        return [self.launcher.launch(points, initial_job_idx=0)]

    def parsed(self, arguments: list[str]) -> list[Override]:
        """Those of `params`, then those that were typed."""
        assert self.hydra_context
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return parser.parse_overrides([*self._parse_config(), *arguments])


class AshaSweeper(GridSweeper):
    """`hydra/sweeper=asha`: not every combination, but those that a search by successive halving tries."""

    def __init__(
        self,
        trials: int,
        reduction: int,
        smallest: float,
        sampler: str,
        seed: int,
        parallel: int | None,
        params: dict[str, str] | None,
    ) -> None:
        super().__init__(params)
        self.trials, self.rungs, self.sampler = trials, Rungs(smallest, reduction), sampler
        self.seed, self.parallel = seed, parallel

    def sweep(self, arguments: list[str]) -> Any:
        assert self.config
        if not isinstance(self.launcher, OwnLauncher):
            raise ConfigError("hydra/sweeper=asha needs a launcher of ours. Fix: hydra/launcher=local")
        engine = self.launcher.engine()
        parallel = self.launcher.parallel if self.parallel is None else self.parallel
        if parallel is None:
            raise ConfigError("how many runs go on at once is not known. Fix: hydra.sweeper.parallel=8")
        self.launcher.require_devices([self.config.devices])
        library("optuna", "asha", "hydra/sweeper", "grid")
        knobs = Knobs(self.trials, self.rungs, self.sampler, self.seed, parallel)
        return [searched(search_of(self.parsed(arguments), knobs, self.config), engine)]
