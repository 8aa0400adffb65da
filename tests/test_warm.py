"""A forked run is what a new process would have been, and belongs to its grid as one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from sft_research import hardware, warm
from sft_research.point import Begin, Ended, Point, Process, begun
from sft_research.warm import BACKENDS, OF_A_RUN, Forked, Parent, Warm, backend_of
from tests.forked import differences
from tests.runs import TINY

RUN = (*TINY, "backend=transformers", "tracking=none", "hydra.mode=RUN")
# A class of one's own, which notes in what process it is imported.
SPY = """
import json, os, signal, sys, threading, logging, gc
import torch
from sft_research.dataset_format import Thinking

class Spy(Thinking):
    pass

signals = {name: str(signal.getsignal(getattr(signal, name))) for name in ("SIGPIPE", "SIGCHLD", "SIGHUP")}
with open("spied.json", "w") as file:
    json.dump({
        "environment": dict(os.environ), "argv": sys.argv, "orig_argv": sys.orig_argv[1:], "path": sys.path,
        "folder": os.getcwd(), "is_a_session": os.getsid(0) == os.getpid(), "parent": os.getppid(),
        "input": os.readlink("/proc/self/fd/0").split(":")[0], "output": os.readlink("/proc/self/fd/1"),
        "files": sorted(os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in (0, 1)), "signals": signals,
        "streams": [type(stream).__name__ for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "cores": sorted(os.sched_getaffinity(0)), "collects": gc.isenabled(), "umask": os.umask(0o22),
        "threads": sorted(thread.name for thread in threading.enumerate()), "computing": torch.get_num_threads(),
        "torch_seed": torch.initial_seed(), "dtype": str(torch.get_default_dtype()),
    }, file)
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder of a grid, with a class of one's own and its option."""
    place = tmp_path_factory.mktemp("own")
    (place / "dataset_format").mkdir()
    (place / "dataset_format" / "spy.yaml").write_text("defaults: [thinking]\n_target_: own_spy.Spy\n")
    (place / "own_spy.py").write_text(SPY)
    return place


def environment() -> dict[str, str]:
    """That of a grid: pytest changes one variable with each test."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def started(cwd: Path, backend: str = BACKENDS[0]) -> Parent:
    with chdir(cwd):
        made = Parent(backend, environment())
    until(made.ready)
    return made


@pytest.fixture(scope="module")
def parent(own: Path) -> Iterator[Parent]:
    """A warm parent for all tests of this file."""
    made = started(own)
    assert not made.gone
    yield made
    made._end()


def until(condition: Callable[[], Any], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def process(cwd: Path, *overrides: str, begin: Begin = begun, **more: str) -> Any:
    point = Point(overrides, Path("runs"), (*OF_A_RUN, *overrides), "of a test", cwd=str(cwd))
    return Process(point, environment() | more, begin=begin)


def ended(run: Process) -> Ended:
    found = run.ended(wait=True)
    assert found
    return found


def test_a_forked_run_is_what_a_new_process_would_have_been(
    parent: Parent, own: Path, tmp_path: Path
) -> None:
    arguments = ["--config-dir", str(own), *RUN, "dataset_format=spy", "deterministic=true"]
    spied, folders = [], []
    for name, begin, child in (("forked", parent.fork, Forked), ("new", begun, subprocess.Popen)):
        place = f"runs_dir={tmp_path / name}"
        run = process(own, *arguments, place, begin=begin, CUDA_VISIBLE_DEVICES="")
        assert isinstance(run._process, child)
        assert ended(run) == Ended(0, "")
        found = json.loads((own / "spied.json").read_text())
        assert (found["is_a_session"], found["parent"]) == (True, os.getpid())
        assert (found["input"], found["output"]) == ("pipe", "/dev/null")
        for words in (found["argv"], found["orig_argv"]):
            words.remove(place)
        spied.append(found)
        folders += [file.parent for file in tmp_path.glob(f"{name}/default/*/result.json")]
    assert spied[0] == spied[1]
    assert differences(*folders) == []
    logs = [(folder / "train.log").read_text() for folder in folders]
    assert ["deterministic=true: on a CPU" in log for log in logs] == [True, True]


def test_a_refused_run_says_so_with_its_status(parent: Parent, own: Path) -> None:
    run = process(own, *RUN, "lora.r=0", begin=parent.fork)
    assert isinstance(run._process, Forked)
    forked = ended(run)
    assert forked == ended(process(own, *RUN, "lora.r=0"))
    assert forked.status == 2
    assert "lora.r=0" in forked.tail


def test_a_run_that_may_import_something_else_is_not_forked(
    parent: Parent, own: Path, tmp_path: Path
) -> None:
    """In another folder, or with an environment that Python or an import may have read."""
    others = [
        process(tmp_path, *RUN, "lora.r=0", begin=parent.fork),
        process(own, *RUN, "lora.r=0", begin=parent.fork, OMP_NUM_THREADS="7"),
    ]
    assert [type(run._process) for run in others] == [subprocess.Popen] * 2
    assert [ended(run).status for run in others] == [2, 2]
    assert not parent.gone


def long_run(own: Path, runs: Path, parent: Parent) -> Any:
    """One that has taken a step, of 240."""
    run = process(own, *RUN, "training.num_train_epochs=40", f"runs_dir={runs}", begin=parent.fork)
    until(lambda: any("train/loss" in file.read_text() for file in runs.glob("default/*/metrics.jsonl")))
    return run


def test_the_death_of_a_forked_run_is_known(parent: Parent, own: Path, tmp_path: Path) -> None:
    run = long_run(own, tmp_path, parent)
    assert run.ended() is None
    run.signal(signal.SIGKILL)
    assert ended(run).status == -9


def test_a_forked_run_outlives_its_parent_and_saves_when_it_is_told_to_or_its_grid_is_gone(
    own: Path, tmp_path: Path
) -> None:
    parent = started(own)
    told, left = (long_run(own, tmp_path / name, parent) for name in ("told", "left"))
    os.kill(parent.pid, signal.SIGKILL)
    until(lambda: Path(f"/proc/{parent.pid}/stat").read_text().split()[2] == "Z")
    after = process(own, *RUN, "lora.r=0", begin=parent.fork)
    assert (parent.gone, type(after._process)) == (True, subprocess.Popen)
    assert ended(after).status == 2
    told.signal(signal.SIGTERM)
    assert ended(told).status == 143
    os.close(left._process._lifeline)  # as the kernel does when the grid dies
    left._process._lifeline = os.dup(0)
    assert ended(left).status == 143
    for name in ("told", "left"):
        (log,) = tmp_path.glob(f"{name}/default/*/train.log")
        assert "Interrupted by SIGTERM at step" in log.read_text()


# Which runs, and when ----------------------------------------------------------------------------------


def point_of(
    backend: str, command: tuple[str, ...] = OF_A_RUN, n: int = 0, devices: int = 1
) -> tuple[Point, Any]:
    cfg = OmegaConf.create({"backend": {"_target_": backend}, "devices": devices})
    run: Any = type("Fake", (), {"cfg": cfg})()
    return Point((str(n),), Path("runs") / str(n), (*command, "seed=1"), backend), run


@pytest.fixture
def cpu_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpu", lambda: False)
    monkeypatch.setattr(sys, "platform", "linux")


def test_runs_that_may_be_forked(cpu_on_linux: None, monkeypatch: pytest.MonkeyPatch) -> None:
    unsloth = "sft_research.backend.Unsloth"
    assert backend_of(*point_of(unsloth)) == unsloth
    assert backend_of(*point_of("my_package.Backend")) is None
    assert backend_of(*point_of(unsloth, devices=2)) is None
    assert backend_of(*point_of(unsloth, (sys.executable, "-c", "code"))) is None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert backend_of(*point_of(unsloth)) is None
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(hardware, "gpu", lambda: True)
    assert backend_of(*point_of(unsloth)) is None


class Made:
    """A parent that is ready, or gone, when a test says so."""

    all: list[Any]

    def __init__(self, backend: str, environment: dict[str, str]) -> None:
        self.backend, self.environment, self.gone, self.is_ready = backend, environment, False, False
        self.all.append(self)

    def ready(self) -> bool:
        return self.is_ready

    def fork(self, *_: Any) -> Any: ...


def test_a_parent_for_each_backend_of_two_points(cpu_on_linux: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Made, "all", [], raising=False)
    monkeypatch.setattr(warm, "Parent", Made)
    transformers, unsloth = BACKENDS
    made = [
        point_of(backend, n=n) for n, backend in enumerate([unsloth, transformers, unsloth, "own.Backend"])
    ]
    points, runs = [list(part) for part in zip(*made, strict=True)]
    grid: Any = type("Fake", (), {"points": points, "runs": runs})()
    engine = Warm({"OMP_NUM_THREADS": "3"})
    engine.expect(grid, points[:2])
    assert [engine.begin(point) for point in points[:2]] == [begun, begun]  # one of each: new processes
    engine.expect(grid, points[2:])
    (parent,) = Made.all
    assert (parent.backend, parent.environment) == (unsloth, {"OMP_NUM_THREADS": "3"})
    assert [engine.begin(point) for point in points] == [None, begun, None, begun]
    parent.is_ready = True
    assert [engine.begin(point) for point in points] == [parent.fork, begun, parent.fork, begun]
    parent.gone = True
    assert [engine.begin(point) for point in points] == [begun] * 4


def test_a_parent_that_cannot_import_is_gone(tmp_path: Path) -> None:
    assert started(tmp_path, "sft_research.backend.Nothing").gone


# The parent's own part ---------------------------------------------------------------------------------


def said(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)


def test_a_process_with_a_thread_is_not_forked() -> None:
    started = "import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
    alone = "from sft_research.warm_parent import require_alone; require_alone(); print('alone')"
    assert said(started + alone).stderr == "2 threads are alive after the imports\n"
    # OpenBLAS has threads from its import on, and none over a fork.
    assert said(f"import numpy; {alone}", OPENBLAS_NUM_THREADS="2").stdout == "alone\n"


SERVE = """
import socket, sys
sys.path.insert(0, sys.argv[2])
import edited
from sft_research.warm_parent import serve
with socket.socket(fileno=int(sys.argv[1])) as asks:
    serve(asks)
"""


def test_a_parent_whose_code_has_been_edited_forks_no_run(tmp_path: Path) -> None:
    (tmp_path / "edited.py").write_text("A = 1\n")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-c", SERVE, str(theirs.fileno()), str(tmp_path)]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as serving, ours:
        theirs.close()
        assert ours.recv(64) == b"ready"
        (tmp_path / "edited.py").write_text("A = 1000\n")
        ours.send(b"{}")
        assert ours.recv(64) == b""
        assert serving.wait(20) == 0


def test_what_a_library_logs_goes_to_the_runs_own_log() -> None:
    code = (
        "import contextlib, io, logging, sys\n"
        "from sft_research.warm_parent import Present\n"
        "sys.stderr = Present('stderr')\n"
        "sys.stderr.write = sys.stderr.write\n"  # as W&B does when it is imported
        "logging.basicConfig(format='%(message)s')\n"
        "logging.warning('imported')\n"
        "sys.stderr, Present.followed = sys.__stderr__, True\n"
        "with contextlib.redirect_stderr(io.StringIO()) as log:\n"
        "    logging.warning('in the run')\n"
        "print(log.getvalue())"
    )
    done = said(code)
    assert (done.stdout, done.stderr) == ("in the run\n\n", "imported\n")
