"""Where a grid runs: `hydra/launcher=local`, `slurm` or `ray`. Hydra finds launchers in this package alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from sft_research.launcher import (
    launch_local,
    launch_ray,
    launch_slurm,
    points_of,
    redact_what_hydra_wrote,
)
from sft_research.point import Point


class _Launcher(Launcher):
    """What the three share: every point of the grid becomes a command of its own."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        redact_what_hydra_wrote(self.config)
        return self._launch(points_of(job_overrides, self.config))

    def _launch(self, points: list[Point]) -> list[JobReturn]:
        raise NotImplementedError


class LocalLauncher(_Launcher):
    def __init__(self, n: int) -> None:
        self.n = n

    def _launch(self, points: list[Point]) -> list[JobReturn]:
        return launch_local(points, self.n)


class SlurmLauncher(_Launcher):
    def __init__(
        self,
        folder: str,
        partition: str | None,
        gpus: int,
        cpus: int,
        memory_gb: int,
        minutes: int,
        parallel: int,
        setup: list[str],
    ) -> None:
        self.folder = Path(folder)
        self.parameters: dict[str, Any] = {
            "slurm_partition": partition,
            "slurm_cpus_per_task": cpus,
            "slurm_mem": f"{memory_gb}GB",
            "slurm_time": minutes,
            "slurm_array_parallelism": parallel,
            "slurm_setup": list(setup),
            "slurm_gpus_per_node": gpus or None,
        }

    def _launch(self, points: list[Point]) -> list[JobReturn]:
        return launch_slurm(points, self.folder, {k: v for k, v in self.parameters.items() if v is not None})


class RayLauncher(_Launcher):
    def __init__(self, address: str | None, cpus: float, gpus: float) -> None:
        self.address = address
        self.cpus = cpus
        self.gpus = gpus

    def _launch(self, points: list[Point]) -> list[JobReturn]:
        return launch_ray(points, self.address, self.cpus, self.gpus)
