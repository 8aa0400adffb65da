"""What this machine has, asked without importing torch: a wrong config is refused before that."""

from __future__ import annotations

import os
import platform
import resource
import sys
from functools import cache
from pathlib import Path

BF16_FLAGS = {"amx_bf16", "avx512_bf16"}  # x86 units that multiply bfloat16; without them it is emulated


@cache
def gpu() -> bool:
    """Whether an NVIDIA or AMD accelerator is present, as its driver's device file says."""
    # In a container the one GPU that is lent may be nvidia3.
    return any(any(Path("/dev").glob(name)) for name in ("nvidia[0-9]*", "kfd", "dxg"))


def cores() -> int:
    """Of the processor, as many as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def cpu() -> str:
    """The processor's name."""
    for line in _cpuinfo():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def cpu_has_bf16() -> bool:
    """Whether the processor computes in bfloat16; where it does not, bf16 training is 34 times slower."""
    flags = next((line.partition(":")[2].split() for line in _cpuinfo() if line.startswith("flags")), [])
    return bool(BF16_FLAGS & set(flags))


def peak_memory_gib() -> float:
    """Largest memory of this process so far: on the GPU where torch uses one, else resident memory."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def memory_now_gib() -> float:
    """Resident memory of this process; its largest so far where the system does not say."""
    file = Path("/proc/self/statm")
    if not file.exists():
        return peak_memory_gib()
    return int(file.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**30


def memory_gib() -> float:
    """What this process may have: the GPU's memory where torch uses one, else the machine's, or less where a
    control group (a container, a Slurm job) or `ulimit -v` says so."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory / 2**30
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_limits_of_groups()]
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    return min(limits + ([allowed] if allowed != resource.RLIM_INFINITY else [])) / 2**30


def _limits_of_groups() -> list[int]:
    """Bytes, of the control groups that this process is in, the outer ones too."""
    own = Path("/proc/self/cgroup")
    lines = own.read_text().splitlines() if own.exists() else []
    found = []
    for number, controllers, path in (line.split(":", 2) for line in lines):
        if number != "0" and "memory" not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup") if number == "0" else Path("/sys/fs/cgroup/memory")
        inner = root / path.lstrip("/")
        for place in (inner, *inner.parents):
            if not place.is_relative_to(root):
                break
            for name in ("memory.max", "memory.limit_in_bytes"):
                text = (place / name).read_text().strip() if (place / name).is_file() else "max"
                found += [int(text)] if text.isdigit() else []
    return found


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []
