"""A grid is one process a run, and names every run that failed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobStatus

from sft_research import hardware
from sft_research.config import compose
from sft_research.grid import Grid
from sft_research.launcher import GridFailed, launch
from sft_research.local import Local
from tests.command_line import train as guarded
from tests.grids import grid, writing
from tests.runs import TINY, started

ROOT = Path(__file__).parents[1]


def run_here(made: Grid, n: int = 1) -> list[Any]:
    return launch(made, Local(n, 1))


def test_a_finished_grid_returns_each_held_out_loss_in_the_order_of_its_points(tmp_path: Path) -> None:
    slow = "import time; time.sleep(0.5); "
    codes = {"r=8": slow + writing(tmp_path / "r=8", 0.5), "r=16": writing(tmp_path / "r=16", 0.25)}
    returned = run_here(grid(tmp_path, codes), n=2)
    assert [job.return_value for job in returned] == [0.5, 0.25]
    assert [job.overrides for job in returned] == [("r=8",), ("r=16",)]
    assert {job.status for job in returned} == {JobStatus.COMPLETED}


def test_a_failed_run_is_named_with_its_cause_after_all_others_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = {
        "r=8": "import sys; sys.exit('no such drawer')",
        "r=16": writing(tmp_path / "r=16", 0.25),
        "r=32": "import os; os._exit(7)",
    }
    with pytest.raises(GridFailed) as failed:
        run_here(grid(tmp_path, codes))
    assert str(failed.value) == "2 of 3 runs failed\n  r=8: no such drawer\n  r=32: ended with status 7"
    assert capsys.readouterr().out.splitlines() == [
        f"[1/3] r=8  failed: no such drawer  {tmp_path / 'r=8'}",
        f"[2/3] r=16  held-out loss 0.2500  {tmp_path / 'r=16'}",
        f"[3/3] r=32  failed: ended with status 7  {tmp_path / 'r=32'}",
        f"{tmp_path}/grids/of-a-test/sweep.json",
    ]


def test_what_is_finished_is_not_run_again_and_a_larger_grid_runs_what_is_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = {"a": writing(tmp_path / "a", 0.5) + "; open(f / 'ran', 'x')"}  # a second time it fails
    run_here(grid(tmp_path, once))
    run_here(grid(tmp_path, once))
    returned = run_here(grid(tmp_path, once | {"b": writing(tmp_path / "b", 0.25)}))
    assert [job.return_value for job in returned] == [0.5, 0.25]
    assert [line for line in capsys.readouterr().out.splitlines() if "grids" not in line] == [
        f"[1/1] a  held-out loss 0.5000  {tmp_path / 'a'}",
        "1 of 1 runs are finished already.",
        "1 of 2 runs are finished already.",
        f"[2/2] b  held-out loss 0.2500  {tmp_path / 'b'}",
    ]


def test_a_run_that_goes_on_elsewhere_is_waited_for_and_its_result_taken(tmp_path: Path) -> None:
    """As of a grid that was killed a moment ago: its runs are still saving."""
    made = grid(tmp_path, {"a": "raise SystemExit(0 if __import__('pathlib').Path('SEEN').exists() else 1)"})
    code = (
        "import sys, time; from pathlib import Path; from sft_research import lock\n"
        "with lock.held(lock.of(Path('a')), Path('a')):\n"
        "    print('held', flush=True); time.sleep(1); " + writing(tmp_path / "a", 0.5)
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        assert [job.return_value for job in run_here(made)] == [0.5]


# A format that notes which module its process was started with.
SPY = """
import sys
from sft_research.dataset_format import Thinking

class Spy(Thinking):
    pass

with open("started_with", "a") as file:
    print(sys.modules["__main__"].__spec__.name, file=file)
"""
ON_A_CPU = sys.platform == "linux" and not hardware.gpu()


def test_a_grid_really_trains_and_is_skipped_the_second_time(tmp_path: Path) -> None:
    (tmp_path / "spy.py").write_text(SPY)
    typed = [*TINY, "tracking=none", "dataset_format._target_=spy.Spy", "training.max_steps=1", "lora.r=2,4"]
    done = started(["-m", *typed], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    module = "sft_research.warm_parent" if ON_A_CPU else "sft_research.train"
    assert (tmp_path / "started_with").read_text().split() == [module, module]
    folders = [tmp_path / compose([*typed[:-1], f"lora.r={r}"]).folder for r in (2, 4)]
    ids = [json.loads((folder / "result.json").read_text())["trainable_parameters"] for folder in folders]
    assert ids == [2 * 2 * 1024, 2 * 4 * 1024]  # two layers, r * (n + m) summed over seven modules
    began = [(folder / "result.json").stat().st_mtime_ns for folder in folders]
    again = guarded(["-m", *typed], tmp_path)
    assert again.returncode == 0, again.stderr
    assert [(folder / "result.json").stat().st_mtime_ns for folder in folders] == began


def test_a_key_that_was_typed_is_in_no_file_of_a_grid_and_not_on_the_screen(tmp_path: Path) -> None:
    """Known from `.env` alone: the grid and its runs must agree on the folder's name all the same."""
    (tmp_path / ".env").write_text("MY_TOKEN=swordfish\n")
    typed = ["training.max_steps=1", "tracking=none", "dataset_format.system=swordfish", "seed=1"]
    done = started(["-m", *TINY, *typed], tmp_path)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("runs/default/grids/*/sweep.json")
    assert "dataset_format.system=***" in json.loads(file.read_text())["points"][0]["overrides"]
    files = [file for file in tmp_path.rglob("*") if file.is_file() and file.name != ".env"]
    assert [file for file in files if b"swordfish" in file.read_bytes()] == []
    assert "swordfish" not in done.stdout + done.stderr


GRID = """
import sys
from pathlib import Path
from sft_research.command import ending
from sft_research.launcher import launch
from sft_research.local import Local
from tests.grids import grid

with ending():
    launch(grid(Path("grid").resolve(), dict.fromkeys("abcd", RUN)), Local(2, 1))
"""
# Notes each signal in the file of its name, and ends at the second; on a lifeline, as a run is.
RUN = """
import signal, sys
from sft_research.point import stop_with_the_grid

def heard(number, frame):
    with open(sys.argv[1], "a") as file:
        file.write(signal.Signals(number).name + "\\n")
    print("heard", file=sys.stderr, flush=True)  # to nobody, where the grid is gone
    with open(sys.argv[1], "a+") as file:
        file.seek(0)
        if len(file.readlines()) == 2:
            sys.exit(3)

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, heard)
signal.alarm(60)  # a test that fails leaves nobody behind
stop_with_the_grid()
open(sys.argv[1], "w").close()
while True:
    signal.pause()
"""


@contextmanager
def grid_of_four(cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Four runs, two at a time, both of which go on."""
    code = f"RUN = {RUN!r}\n{GRID}"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as grid:
        try:
            until(lambda: {"a", "b"} <= {file.name for file in cwd.iterdir()})
            yield grid
        finally:
            grid.kill()


def until(condition: Callable[[], bool], seconds: int = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def heard(cwd: Path, *signals: str) -> None:
    """Wait until both runs have noted these signals, and no other."""
    until(lambda: all((cwd / name).read_text().split() == list(signals) for name in "ab"))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_to_the_grid_alone_reaches_its_runs_and_starts_no_other(name: str, tmp_path: Path) -> None:
    with grid_of_four(tmp_path) as grid:
        grid.send_signal(signal.Signals[name])
        heard(tmp_path, name)
        grid.send_signal(signal.Signals[name])
        _, said = grid.communicate(timeout=20)
    assert (grid.returncode, said) == (
        128 + signal.Signals[name],
        "Interrupted. The same command goes on with the grid.\n",
    )
    heard(tmp_path, name, name)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b", "grid"]


def test_a_terminals_ctrl_c_reaches_each_run_once(tmp_path: Path) -> None:
    """Twice would be a second Ctrl-C, at which a run leaves without saving."""
    with grid_of_four(tmp_path) as grid:
        assert len({os.getsid(pid) for pid in running(tmp_path)}) == 3
        os.killpg(grid.pid, signal.SIGINT)  # what a terminal sends: to all that it has in the foreground
        heard(tmp_path, "SIGINT")
        grid.send_signal(signal.SIGTERM)
        assert grid.wait(20) == 128 + signal.SIGINT
    heard(tmp_path, "SIGINT", "SIGTERM")


def test_the_runs_of_a_grid_that_is_killed_are_asked_to_stop(tmp_path: Path) -> None:
    with grid_of_four(tmp_path) as grid:
        grid.kill()
        grid.wait()
        heard(tmp_path, "SIGTERM")
        for pid in running(tmp_path):
            os.kill(pid, signal.SIGTERM)
    heard(tmp_path, "SIGTERM", "SIGTERM")  # it lived on after the first, though nobody reads what it says


def running(cwd: Path) -> list[int]:
    """The processes whose working folder this is."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if link.readlink() == cwd:
                found.append(int(link.parent.name))
    return found


@pytest.mark.long
def test_real_runs_of_a_killed_grid_save_and_the_grid_goes_on(tmp_path: Path) -> None:
    typed = [*TINY, "tracking=none", "backend=transformers", "training.num_train_epochs=40"]
    folders = [tmp_path / compose([*typed, f"seed={seed}"]).folder for seed in (1, 2)]
    arguments = ["-m", *typed, "seed=1,2", "hydra.launcher.n=2"]
    command = [sys.executable, "-m", "sft_research.train", *arguments]
    files = [folder / "metrics.jsonl" for folder in folders]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as grid:
        until(lambda: all(file.exists() and "train/loss" in file.read_text() for file in files), 300)
        pids = [json.loads((folder / "state.json").read_text())["process"] for folder in folders]
        if ON_A_CPU:  # they are forked, and the parent goes as well
            assert all(b"warm_parent" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids)
        grid.kill()
    until(lambda: not running(tmp_path), 60)
    done = started(arguments, tmp_path)
    assert done.returncode == 0, done.stderr
    for folder in folders:
        assert "Interrupted by SIGTERM at step" in (folder / "train.log").read_text()
    assert not [place for place in folders[0].parent.iterdir() if "~" in place.name]


@pytest.mark.parametrize("launcher", ["slurm", "ray"])
def test_a_launcher_without_its_library_says_what_to_install(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden: Sequence[str] = {"slurm": ["submitit"], "ray": ["ray"]}[launcher]
    for name in hidden:
        (tmp_path / f"{name}.py").write_text("raise ImportError('hidden by a test')\n")
    done = guarded(["-m", "model=tiny", f"hydra/launcher={launcher}", "seed=1,2"], tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        f"hydra/launcher={launcher} needs {hidden[0]}. "
        f'Fix: pip install -e ".[{launcher}]", or hydra/launcher=local\n',
    )
