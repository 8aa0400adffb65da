"""Where a grid runs: `hydra/launcher=local`, `slurm` or `ray`. Hydra finds launchers in this package alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from sft_research import ranks
from sft_research.config import ConfigError
from sft_research.devices import in_gres, require_as_many
from sft_research.gpus import visible
from sft_research.grid import grid_of
from sft_research.launcher import Engine, launch, redact_what_hydra_wrote
from sft_research.local import Local
from sft_research.ray import Ray
from sft_research.slurm import Slurm


class OwnLauncher(Launcher):
    """What the three share: every point of the grid becomes a command of its own."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        redact_what_hydra_wrote(self.config)
        grid = grid_of(job_overrides, self.config)
        self.require_devices(run.cfg.devices for run in grid.runs)
        return launch(grid, self.engine())

    def require_devices(self, devices: Iterable[int]) -> None:
        """Raise ConfigError where runs of so many devices would be given other GPUs, or torchrun has started this."""
        if (started := ranks.count()) > 1:
            raise ConfigError(
                f"WORLD_SIZE={started}: each of these processes would drive the grid. "
                "Fix: python -m sft_research.train -m devices=N ... without torchrun; a run starts its ranks itself"
            )
        require_as_many(*self._gpus(), devices)

    def engine(self) -> Engine:
        raise NotImplementedError

    @property
    def parallel(self) -> int | None:
        """How many runs go on at once, where it is known before they do."""
        return None

    def _gpus(self) -> tuple[float, str]:
        """How many a run is given, 0 where none are asked for, and the words that say so."""
        raise NotImplementedError


class LocalLauncher(OwnLauncher):
    def __init__(self, n: int | None, gpus: int) -> None:
        self.n, self.gpus = n, gpus

    @cached_property
    def _local(self) -> Local:
        """Once: to see what GPUs there are takes a process."""
        return Local(self.n, self.gpus)

    def engine(self) -> Engine:
        return self._local

    @property
    def parallel(self) -> int:
        return self._local.n

    def _gpus(self) -> tuple[float, str]:
        return self.gpus if visible() else 0, f"gpus={self.gpus}"


class SlurmLauncher(OwnLauncher):
    """Every knob is one of sbatch; `extra` holds those that are not named here."""

    def __init__(
        self,
        partition: str | None,
        account: str | None,
        qos: str | None,
        constraint: str | None,
        nodelist: str | None,
        exclude: str | None,
        gpus: int,
        gres: str | None,
        cpus: int,
        memory_gb: float,
        minutes: int,
        grace_seconds: int,
        requeues: int,
        parallel: int,
        setup: list[str],
        extra: dict[str, str],
    ) -> None:
        self.requeues, self._parallel = requeues, parallel
        self.gpus, self.gres = gpus, gres
        named = {
            "partition": partition,
            "account": account,
            "qos": qos,
            "constraint": constraint,
            "nodelist": nodelist,
            "exclude": exclude,
            "gpus_per_node": gpus or None,
            "gres": gres,
            "cpus_per_task": cpus,
            "mem": f"{round(memory_gb * 1024)}MB",
            "time": minutes,
            "signal_delay_s": grace_seconds,
            "array_parallelism": parallel,
            "setup": list(setup),
            "srun_args": [f"--cpus-per-task={cpus}"],  # which srun does not take over from sbatch
            "additional_parameters": {"requeue": True, **extra},
        }
        self.parameters = {key: value for key, value in named.items() if value is not None}

    def engine(self) -> Engine:
        return Slurm(self.parameters, self.requeues)

    @property
    def parallel(self) -> int:
        return self._parallel

    def _gpus(self) -> tuple[float, str]:
        return (self.gpus, f"gpus={self.gpus}") if self.gpus else (in_gres(self.gres), f"gres={self.gres}")


class RayLauncher(OwnLauncher):
    def __init__(
        self,
        address: str | None,
        cpus: float,
        gpus: float,
        memory_gb: float | None,
        resources: dict[str, float],
    ) -> None:
        self.address, self.gpus = address, gpus
        self.resources: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "resources": dict(resources)}
        if memory_gb:
            self.resources["memory"] = round(memory_gb * 2**30)

    def engine(self) -> Engine:
        return Ray(self.address, self.resources)

    def _gpus(self) -> tuple[float, str]:
        return self.gpus, f"gpus={self.gpus:g}"
