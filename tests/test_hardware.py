"""What this machine has, asked of the system: device files, /proc/cpuinfo, and never of torch."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sft_research import hardware

XEON = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8481C
flags\t\t: fpu sse avx512f {bf16}
processor\t: 1
model name\t: another
flags\t\t: fpu
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose /dev and /proc lie in a folder, and which nobody has asked yet."""
    for name in ("gpu", "cpu", "cpu_has_bf16"):
        monkeypatch.setattr(hardware, name, getattr(hardware, name).__wrapped__)
    monkeypatch.setattr(hardware, "Path", lambda name: tmp_path / name.lstrip("/"))
    (tmp_path / "dev").mkdir()
    (tmp_path / "proc").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("device", "present"),
    [
        ("nvidia0", True),
        ("nvidia3", True),
        ("nvidia12", True),
        ("kfd", True),
        ("dxg", True),
        ("nvidiactl", False),
    ],
)
def test_a_gpu_is_there_when_its_device_file_is(machine: Path, device: str, present: bool) -> None:
    assert hardware.gpu() is False
    (machine / "dev" / device).touch()
    assert hardware.gpu() is present


@pytest.mark.parametrize(
    ("flag", "has"), [("avx512_bf16", True), ("amx_bf16 amx_tile", True), ("bf16x", False)]
)
def test_the_processor_computes_in_bfloat16_when_its_first_core_says_so(
    machine: Path, flag: str, has: bool
) -> None:
    (machine / "proc" / "cpuinfo").write_text(XEON.format(bf16=flag))
    assert hardware.cpu_has_bf16() is has


def test_the_processors_name_is_the_first_cores(machine: Path) -> None:
    (machine / "proc" / "cpuinfo").write_text(XEON.format(bf16=""))
    assert hardware.cpu() == "Intel(R) Xeon(R) Platinum 8481C"


def test_a_machine_without_cpuinfo_has_a_name_and_no_bfloat16(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert (hardware.cpu(), hardware.cpu_has_bf16()) == ("arm64", False)


@pytest.mark.parametrize(("platform", "unit"), [("linux", 2**20), ("darwin", 2**30)])  # KiB there, bytes here
def test_peak_memory_is_in_gib_on_each_system(
    platform: str, unit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=3 * unit))
    monkeypatch.setitem(sys.modules, "torch", None)  # type: ignore[arg-type]
    assert hardware.peak_memory_gib() == 3.0


def test_peak_memory_is_the_gpus_where_torch_uses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_available=lambda: True, max_memory_allocated=lambda: 5 * 2**30)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))  # type: ignore[arg-type]
    assert hardware.peak_memory_gib() == 5.0


@pytest.mark.parametrize(
    ("lines", "files", "gib"),
    [
        ("0::/job/step\n", {"sys/fs/cgroup/job/memory.max": "134217728"}, 0.125),  # of an outer group
        ("0::/job\n", {"sys/fs/cgroup/job/memory.max": "67108864"}, 0.0625),
        ("5:memory:/job\n", {"sys/fs/cgroup/memory/job/memory.limit_in_bytes": "134217728"}, 0.125),
        ("5:cpu,cpuacct:/job\n0::/\n", {"sys/fs/cgroup/memory/job/memory.limit_in_bytes": "1"}, None),
        ("0::/job\n", {"sys/fs/cgroup/job/memory.max": "max"}, None),
        ("", {}, None),
    ],
)
def test_a_job_has_the_memory_of_its_control_group(
    lines: str, files: dict[str, str], gib: float | None, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "modules", {})  # torch would be asked for its GPU
    for name, text in {"proc/self/cgroup": lines, **files}.items():
        (machine / name).parent.mkdir(parents=True, exist_ok=True)
        (machine / name).write_text(text)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    monkeypatch.setattr(hardware.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**20}.get)
    assert hardware.memory_gib() == (gib or 4.0)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**25, resource.RLIM_INFINITY))
    assert hardware.memory_gib() == 2**25 / 2**30
