"""Runs on this machine: as many at a time as asked for, each with threads and GPUs of its own."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sft_research import gpus, local, lock
from sft_research.config import ConfigError
from sft_research.launcher import launch
from sft_research.local import Local
from sft_research.point import Point
from tests.grids import grid, writing


@pytest.mark.parametrize("n", [0, -1, 1.5, "two"])
def test_a_grid_that_would_start_no_run_is_refused(n: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        Local(n, 1)
    assert str(refused.value) == f"hydra.launcher.n={n} starts no run. Fix: hydra.launcher.n=1, or null"


@pytest.mark.parametrize(
    ("n", "gpus_a_run", "devices", "cores", "places"),
    [
        (None, 1, "0,1,2,3", 64, 4),
        (None, 2, "0,1,2", 64, 1),
        (3, 1, "0,1", 64, 3),  # two run, and the third waits for a GPU
        (None, 0, "0,1", 64, 32),
        (None, 1, "", 8, 4),
        (None, 1, "", 1, 1),
        (5, 1, "", 2, 5),
    ],
)
def test_how_many_run_at_once(
    n: int | None, gpus_a_run: int, devices: str, cores: int, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert Local(n, gpus_a_run).n == places


def test_more_gpus_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(ConfigError) as refused:
        Local(None, 3)
    assert str(refused.value) == "hydra.launcher.gpus=3, and this machine has 2. Fix: hydra.launcher.gpus=1"


# Says for how long it had which GPUs and threads.
SAYING = """
import json, os, pathlib, sys, time
began = time.monotonic()
time.sleep(0.6)
folder = pathlib.Path(sys.argv[2], sys.argv[1])
folder.mkdir()
has = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}
(folder / "said").write_text(json.dumps([began, time.monotonic(), has]))
"""


def test_two_runs_never_have_one_gpu_or_more_threads_than_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5f")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    codes = {name: SAYING + writing(tmp_path / name, 1.0) for name in "abcde"}
    launch(grid(tmp_path, codes, str(tmp_path)), Local(3, 1))  # there is work for three, and GPUs for two
    said = {name: json.loads((tmp_path / name / "said").read_text()) for name in codes}
    assert {has["CUDA_VISIBLE_DEVICES"] for _, _, has in said.values()} == {"3", "GPU-5f"}
    assert {has["OMP_NUM_THREADS"] for _, _, has in said.values()} == {"2"}  # 8 cores for 3
    for begin, end, has in said.values():
        together = [o for b, e, o in said.values() if o is not has and b < end and begin < e]
        assert has["CUDA_VISIBLE_DEVICES"] not in [o["CUDA_VISIBLE_DEVICES"] for o in together]


def test_of_hundreds_that_wait_each_is_asked_seldom_whether_it_goes_on_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()
    monkeypatch.setattr(
        Point, "held", property(lambda point: asked.update([point.label]) or point.label == "1")
    )
    monkeypatch.setattr(local, "Process", lambda *_: SimpleNamespace(ended=lambda: None))
    monkeypatch.setattr(local, "LOOK_S", 60.0)
    labels = [str(number) for number in range(200)]
    made = grid(tmp_path, dict.fromkeys(labels, ""))
    engine = Local(2, 0)
    engine.start(made, made.points)
    for _ in range(10):
        list(engine.poll())
        running = engine.running()
    assert {point.label: host for point, (host, _) in running.items()} == {
        "0": lock.host(), "1": "elsewhere", "2": lock.host()
    }  # fmt: skip
    # Those that are to start, and then all that wait.
    assert asked == Counter(labels) + Counter(["1"])


TWO = {"0": "GPU-5f3e", "1": "GPU-71ac"}  # a name and its device


def test_a_gpu_is_a_runs_own_for_as_long_as_it_or_its_grid_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "gettempdir", lambda: str(tmp_path))
    taken = gpus.take(TWO, 2)
    assert taken
    assert taken.environment == {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert gpus.take(TWO, 1) is None
    for file in taken.files:
        os.set_inheritable(file, True)
    heir = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", "import time; time.sleep(60)"])
    taken.give_back()
    assert gpus.take(TWO, 1) is None  # the run lives, and its grid does not
    os.kill(heir, 9)
    os.waitpid(heir, 0)
    again = gpus.take(TWO, 2)
    assert again
    again.give_back()


def test_a_gpus_lock_is_every_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where fs.protected_regular is set, the kernel refuses O_CREAT on what another user has in /tmp."""
    monkeypatch.setattr(gpus, "gettempdir", lambda: str(tmp_path))
    before = os.umask(0o077)
    first = gpus.take({"0": "GPU-5f3e"}, 1)
    os.umask(before)
    assert first
    first.give_back()
    (file,) = tmp_path.iterdir()
    assert oct(file.stat().st_mode & 0o777) == "0o644"
    opened = os.open

    def protected(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT and Path(path).exists():
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", protected)
    second = gpus.take({"0": "GPU-5f3e"}, 1)
    assert second
    second.give_back()


def test_too_few_free_gpus_are_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "gettempdir", lambda: str(tmp_path))
    first = gpus.take({"0": "GPU-5f3e"}, 1)
    assert first
    assert gpus.take(TWO, 2) is None
    rest = gpus.take(TWO, 1)
    assert rest
    assert rest.names == ("1",)
    first.give_back()
    rest.give_back()


def test_the_driver_lists_what_the_environment_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(tmp_path, monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus.visible() == {"0": "GPU-5f3e", "1": "GPU-71ac"}


def driver(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of two GPUs, the second of which is in parts."""
    said = (
        "GPU 0: H100 (UUID: GPU-5f3e)\nGPU 1: H100 (UUID: GPU-71ac)\n  MIG 1g.10gb  Device  0: (UUID: MIG-c0)"
    )
    smi = folder / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho '{said}'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.mark.parametrize(
    ("names", "devices"),
    [
        ("1", {"1": "GPU-71ac"}),
        ("1, GPU-5f3e", {"1": "GPU-71ac", "GPU-5f3e": "GPU-5f3e"}),
        ("GPU-7", {"GPU-7": "GPU-71ac"}),  # CUDA takes the beginning of one too
        ("GPU-", {"GPU-": "GPU-"}),  # that of two
        ("MIG-c0,9", {"MIG-c0": "MIG-c0", "9": "9"}),
        ("-1", {}),
        ("", {}),
    ],
)
def test_a_gpu_is_one_device_under_each_of_its_names(
    names: str, devices: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(tmp_path, monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
    assert gpus.visible() == devices


def test_a_device_is_not_given_twice_under_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "gettempdir", lambda: str(tmp_path))
    driver(tmp_path, monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    first = gpus.take(gpus.visible(), 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-71ac")
    assert first
    assert gpus.take(gpus.visible(), 1) is None
    first.give_back()


def test_without_a_driver_a_gpu_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert gpus.visible() == {"0": "0", "1": "1"}
