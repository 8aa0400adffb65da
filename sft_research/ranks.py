"""The processes of one run, a device each, and what they tell each other. A run of one device is rank 0 of 1.

Who is who stands in the environment, as torchrun sets it. What they say goes through sockets on the CPU (gloo), in a
group of their own: it waits for no GPU, and no time limit of a GPU's collectives is on it. Every rank must come to
each of these calls, and to as many of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

from sft_research import stopping
from sft_research.config import ConfigError

T = TypeVar("T")
MEET = "SFT_RANKS_MEET"  # the file through which the ranks of a run that started them itself find each other
THREADS = "OMP_NUM_THREADS"
DEVICE = "ACCELERATE_TORCH_DEVICE"
# One rank may prepare data or answer questions for long; one that dies is noticed.
PATIENCE = timedelta(days=7)

_group: Any = None  # of all ranks, on the CPU


def rank() -> int:
    """The number of this process among those of its run."""
    return int(os.environ.get("RANK") or 0) if count() > 1 else 0


def count() -> int:
    """How many there are, by the environment; 1 where it says nothing."""
    said = os.environ.get("WORLD_SIZE", "")
    return int(said) if said.isdigit() and int(said) > 1 else 1


def first() -> bool:
    """Whether this is rank 0, which alone writes and speaks."""
    return rank() == 0


@contextmanager
def joined(devices: int) -> Iterator[None]:
    """Inside, the ranks of the run can talk, and stop together; they leave together, unless one fails.

    Raises ConfigError where there are GPUs, and fewer than `devices`.
    """
    global _group
    if devices == 1:
        yield
        return
    import torch
    import torch.distributed as dist

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if 0 < gpus < devices:
        raise ConfigError(f"devices={devices}, and torch sees {gpus} of them here. Fix: devices={gpus}")
    if gpus:
        torch.cuda.set_device(rank())
    else:
        os.environ[DEVICE] = "cpu"  # accelerate would say cpu:1, from which torch loads no optimizer's state
    threads, where = torch.get_num_threads(), "env://"
    if MEET in os.environ:
        where = f"file://{os.environ[MEET]}"
        torch.set_num_threads(int(os.environ[THREADS]))
    dist.init_process_group(
        "nccl" if gpus else "gloo", init_method=where, rank=rank(), world_size=devices, timeout=PATIENCE
    )
    _group = dist.new_group(backend="gloo", timeout=PATIENCE)
    whole = False
    try:
        with stopping.agreeing(_largest):
            yield
        wait()
        whole = True
    finally:
        _group = None
        torch.set_num_threads(threads)
        os.environ.pop(DEVICE, None)
        if whole or not gpus:  # NCCL would wait for a rank that has failed; the process ends anyway
            dist.destroy_process_group()
            _forget()


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Inside, these variables are set; after, all are as before."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def gather(value: T) -> list[T]:
    """What each rank has here, in their order."""
    if _group is None:
        return [value]
    import torch.distributed as dist

    found: list[Any] = [None] * dist.get_world_size(_group)
    dist.all_gather_object(found, value, group=_group)
    return found


def wait() -> None:
    """Until all ranks are here."""
    gather(None)


def by_first(make: Callable[[], T]) -> T:
    """What rank 0 makes, given to all; where it is stopped meanwhile, all are."""
    if _group is None:
        return make()
    made, value = False, None
    if first():
        try:
            with stopping.agreeing(int):  # the others are not asked: they wait
                made, value = True, make()
        except stopping.Stopped:
            pass  # raised below, in every rank
    made, value = gather((made, value))[0]
    if not made:
        stopping.poll()
    assert made
    return value  # type: ignore[return-value]


def in_turns(items: Iterable[T]) -> Iterator[T]:
    """The items of each rank, until no rank has any: all may be stopped between two of them, and are so together."""
    rest = iter(items)
    while True:
        item = list(islice(rest, 1))
        if not any(gather(bool(item))):
            return
        stopping.poll()
        yield from item


def added(values: Sequence[Any], device: Any) -> list[Any]:
    """Each summed over the ranks, on the device: nobody waits for a number. All of one kind, tensors or not."""
    if _group is None:
        return list(values)
    import torch
    import torch.distributed as dist

    summed = torch.stack([torch.as_tensor(value, device=device) for value in values])
    dist.all_reduce(summed)
    return list(summed)


def mean(loss: Any) -> Any:
    """Of the ranks' shares of a loss, that of all: transformers multiplies a share by the number of ranks, since
    it averages their gradients."""
    return loss if _group is None else added([loss], loss.device)[0] / count()


def total(number: int) -> int:
    """Summed over the ranks, where no device is asked."""
    return _reduced(number, "SUM") if _group is not None else number


def draw_apart(seed: int) -> None:
    """Let this rank's GPU drop out other values than the others do; a CPU drops out the same."""
    import torch

    torch.cuda.manual_seed_all(seed + rank())  # nothing where there is none


def _largest(number: int) -> int:
    return _reduced(number, "MAX")


def _reduced(number: int, how: str) -> int:
    import torch
    import torch.distributed as dist

    said = torch.tensor([number])
    dist.all_reduce(said, op=getattr(dist.ReduceOp, how), group=_group)
    return int(said)


def _forget() -> None:
    """accelerate keeps who is who for the process: the next run of this one may be of one device."""
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)
        state.GradientState._reset_state()
