"""Which points a grid has: `hydra/sweeper=grid`. Hydra finds sweepers in this package alone."""

from __future__ import annotations

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser


class GridSweeper(BasicSweeper):
    """Every combination, in one batch.

    Hydra's own composes each of them first, 0.2 s each, and writes what was typed, secrets too, to multirun.yaml.
    """

    def __init__(self, params: dict[str, str] | None) -> None:
        super().__init__(max_batch_size=None, params=params)

    def sweep(self, arguments: list[str]) -> Any:
        assert self.hydra_context
        assert self.launcher
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        (points,) = self.split_arguments(
            parser.parse_overrides([*self._parse_config(), *arguments]), max_batch_size=None
        )
        return [self.launcher.launch(points, initial_job_idx=0)]
