"""devices=N: what N devices of this machine ask of the other settings, and the one GPU of a run that has one.

Nothing here imports torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from omegaconf import DictConfig

from sft_research import gpus, hardware, ranks
from sft_research.config import ConfigError, Run

# Fields of trl.SFTConfig by which ranks would have parts of a model, or other batches, that nothing here knows of.
OTHER_WAYS = ("fsdp", "fsdp_config", "deepspeed", "accelerator_config", "parallelism_config", "ddp_backend")


def torchrun_has_started_as_many(cfg: DictConfig) -> Iterator[str]:
    """Under torchrun or accelerate launch; their variables are those of the ranks that a run starts itself."""
    started = ranks.count()
    if started == 1:
        return
    here = os.environ.get("LOCAL_WORLD_SIZE", str(started))
    if here != str(started):
        yield (
            f"WORLD_SIZE={started}, of which {here} are on this machine: a run is on one. "
            f"Fix: torchrun --standalone --nproc-per-node={here} with devices={here}"
        )
    elif started != cfg.devices:
        yield (
            f"WORLD_SIZE={started}, and devices={cfg.devices}: torchrun has started {started} processes of a run "
            f"that takes {cfg.devices}. Fix: devices={started}, or python -m sft_research.train without torchrun, "
            "which starts them itself"
        )


def devices_are_there(cfg: DictConfig) -> Iterator[str]:
    """Where there is no GPU, a device is a process on the CPU."""
    if cfg.devices > 1 and 0 < (there := len(_visible())) < cfg.devices:
        yield (
            f"devices={cfg.devices}, and there are {there} GPUs{_of_the_environment()}. Fix: devices={there}"
        )


def several_devices_step_together(cfg: DictConfig) -> Iterator[str]:
    """What one rank would do by itself while the others wait for it, or what makes ranks unequal."""
    if cfg.devices == 1:
        return
    many, training = f"with devices={cfg.devices}", cfg.training
    if training.get("on_oom", "error") == "halve":
        yield (
            f"training.on_oom=halve {many}: a rank that takes a step again leaves the others waiting. "
            "Fix: training.on_oom=error, with a smaller training.per_device_train_batch_size"
        )
    if training.get("average_tokens_across_devices", True) is False:
        yield (
            f"training.average_tokens_across_devices=false {many}: a token would count by how many its device has. "
            "Fix: training.average_tokens_across_devices=true"
        )
    for key in OTHER_WAYS:
        if training.get(key):
            yield f"training.{key} {many}: each device holds the whole model here. Fix: ~training.{key}"


RULES: tuple[Callable[[DictConfig], Iterator[str]], ...] = (
    torchrun_has_started_as_many,
    devices_are_there,
    several_devices_step_together,
)


def require_as_many(gpus_a_run: float, key: str, asked: Iterable[int]) -> None:
    """Raise ConfigError where a launcher gives a run other GPUs than the devices it `asked` for. 0 is none: then they
    are processes on a CPU. A share of a GPU is one."""
    for devices in sorted(set(asked)):
        if gpus_a_run > 0 and max(gpus_a_run, 1) != devices:
            raise ConfigError(
                f"hydra.launcher.{key}, and devices={devices}: a run would be given {gpus_a_run:g} GPUs for "
                f"{devices} processes. Fix: devices={max(round(gpus_a_run), 1)}, or "
                f"hydra.launcher.{_asking_for(devices, key)}"
            )


def in_gres(gres: str | None) -> int:
    """GPUs that Slurm's --gres asks for: in_gres("gpu:a100:4,tmpfs:1") -> 4"""
    fields = [part.partition("(")[0].split(":") for part in (gres or "").split(",")]
    return sum(int(f[-1]) if f[-1].isdigit() else 1 for f in fields if f[0] in ("gpu", "gres/gpu"))


@contextmanager
def only(count: int) -> Iterator[None]:
    """Inside, the first `count` of the GPUs are visible, where there are more: libraries spread a model over all that
    they see. What torch has seen before stays."""
    names = _visible()
    if len(names) <= count:
        yield
        return
    with ranks.environment({gpus.NAMES: ",".join(names[:count])}):
        yield


@contextmanager
def joined(run: Run) -> Iterator[None]:
    """Inside, this process is one rank of the run, and sees no GPU that is not the run's."""
    with only(run.cfg.devices), ranks.joined(run.cfg.devices):
        yield


def _asking_for(devices: int, key: str) -> str:
    """gpus=4 -> gpus=2; gres=gpu:a100 -> gres=gpu:a100:2"""
    stem = re.sub(r"(?<=[:=])[\d.]+$", "", key)
    return f"{stem}{'' if stem[-1] in ':=' else ':'}{devices}"


def _visible() -> list[str]:
    return list(gpus.visible()) if hardware.gpu() else []


def _of_the_environment() -> str:
    return f" (CUDA_VISIBLE_DEVICES={os.environ[gpus.NAMES]})" if gpus.NAMES in os.environ else ""
