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
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobStatus

import sft_research.point
from sft_research.config import ConfigError, compose
from sft_research.launcher import GridFailed, launch_local, launch_slurm, points_of
from sft_research.point import Ended, Point, run_point
from sft_research.result import Result
from sft_research.stopping import Stopped
from tests.command_line import train as guarded
from tests.runs import TINY, started


def grid_config(*overrides: str, config_dir: str | None = None) -> object:
    """The driver's config of a grid, Hydra's part included."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from sft_research.config import CONF_DIR

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return hydra_compose("train", list(overrides), return_hydra_config=True)


def point(folder: Path, code: str, *overrides: str) -> Point:
    return Point(overrides, folder, (sys.executable, "-c", code), label=" ".join(overrides))


def writing(folder: Path, loss: float) -> str:
    """A program that leaves the result of a run with this held-out loss, as train would."""
    scores = {"loss": loss, "questions": 0, "exact_match": None, "form": None}
    names = dict.fromkeys(field.name for field in fields(Result))
    text = json.dumps(names | {"before": scores, "after": scores})
    return f"import pathlib; f = pathlib.Path({str(folder)!r}); f.mkdir(); (f / 'result.json').write_text({text!r})"


def test_a_point_is_the_command_a_person_would_type() -> None:
    points = points_of([["lora.r=8", "seed=1"], ["lora.r=16", "seed=1"]], grid_config())
    assert [p.command[1:] for p in points] == [
        ("-m", "sft_research.train", "lora.r=8", "seed=1", "hydra.mode=RUN"),
        ("-m", "sft_research.train", "lora.r=16", "seed=1", "hydra.mode=RUN"),
    ]
    assert [p.folder for p in points] == [
        Path("runs/default/lora.r=8,seed=1"),
        Path("runs/default/lora.r=16,seed=1"),
    ]


def test_a_point_is_called_by_what_tells_it_from_the_others() -> None:
    points = points_of([["seed=1", "lora.r=8"], ["seed=1", "lora.r=16"]], grid_config())
    assert [p.label for p in points] == ["lora.r=8", "lora.r=16"]


def test_an_experiment_goes_with_each_of_its_points() -> None:
    (only,) = points_of([["seed=1"]], grid_config("experiments=demo"))
    assert only.command[3:] == ("experiments=demo", "seed=1", "hydra.mode=RUN")
    assert only.folder == Path("runs/demo/seed=1")


def test_a_repeated_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"two points of this grid have the same overrides"):
        points_of([["seed=1"], ["seed=1"]], grid_config())


def test_a_point_runs_where_the_grid_was_started_and_says_how_it_ended(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd(), file=sys.stderr); sys.exit('last words')"
    ended = run_point(replace(point(tmp_path, code), cwd=str(tmp_path)))
    assert ended == Ended(1, f"{tmp_path}\nlast words\n")


def test_a_finished_grid_returns_each_held_out_loss_in_the_order_of_its_points(tmp_path: Path) -> None:
    slow = "import time; time.sleep(0.5); "
    points = [
        point(tmp_path / "a", slow + writing(tmp_path / "a", 0.5), "r=8"),
        point(tmp_path / "b", writing(tmp_path / "b", 0.25), "r=16"),
    ]
    returned = launch_local(points, n=2)
    assert [job.return_value for job in returned] == [0.5, 0.25]
    assert [job.overrides for job in returned] == [("r=8",), ("r=16",)]
    assert {job.status for job in returned} == {JobStatus.COMPLETED}


def test_a_failed_run_is_named_with_its_cause_after_all_others_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = [
        point(tmp_path / "a", "import sys; sys.exit('no such drawer')", "r=8"),
        point(tmp_path / "b", writing(tmp_path / "b", 0.25), "r=16"),
        point(tmp_path / "c", "import os; os._exit(7)", "r=32"),
    ]
    with pytest.raises(GridFailed) as failed:
        launch_local(points, n=1)
    assert str(failed.value) == "2 of 3 runs failed\n  r=8: no such drawer\n  r=32: ended with status 7"
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"[1/3] r=8  failed  {tmp_path / 'a'}",
        f"[2/3] r=16  held-out loss 0.2500  {tmp_path / 'b'}",
        f"[3/3] r=32  failed  {tmp_path / 'c'}",
    ]


def test_the_cause_of_a_failed_run_is_what_it_wrote_itself(tmp_path: Path) -> None:
    failure = {"error": "RuntimeError", "message": "loss is nan at step 3"}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "failure.json").write_text(json.dumps(failure))
    broken = point(tmp_path / "a", "import sys; sys.exit(1)", "r=8")
    refused = point(tmp_path / "a", "import sys; print('r=0. Fix: r=1', file=sys.stderr); sys.exit(2)", "r=0")
    with pytest.raises(GridFailed) as failed:
        launch_local([broken, refused], n=1)
    assert str(failed.value).splitlines()[1:] == [
        f"  r=8: RuntimeError: loss is nan at step 3; {tmp_path / 'a' / 'failure.json'}",
        "  r=0: r=0. Fix: r=1",
    ]


def test_a_run_that_the_system_killed_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(GridFailed, match=r"r=8: killed by signal 9, as a system that is out of memory does"):
        launch_local([point(tmp_path / "a", "import os; os.kill(os.getpid(), 9)", "r=8")], n=1)


def test_a_run_that_ends_well_without_a_result_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(GridFailed, match=r"r=8: ended without a result"):
        launch_local([point(tmp_path / "a", "print('')", "r=8")], n=1)


def test_a_grid_really_trains_and_is_skipped_the_second_time(tmp_path: Path) -> None:
    typed = [*TINY, "tracking=none", "training.max_steps=1", "lora.r=2,4"]
    done = started(["-m", *typed], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
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
    assert "dataset_format.system=***" in (tmp_path / "runs" / "multirun.yaml").read_text()
    files = [file for file in tmp_path.rglob("*") if file.is_file() and file.name != ".env"]
    assert [file for file in files if b"swordfish" in file.read_bytes()] == []
    assert "swordfish" not in done.stdout + done.stderr


GRID = """
import sys
from pathlib import Path
from sft_research.command import ending
from sft_research.launcher import launch_local
from sft_research.point import Point

with ending():
    launch_local([Point((name,), Path(name), (sys.executable, "-c", RUN, name), name) for name in "abcd"], n=2)
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
        [sys.executable, "-c", code], cwd=cwd, stderr=subprocess.PIPE, text=True, start_new_session=True
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
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]


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
def test_a_real_run_of_a_killed_grid_saves_and_the_grid_goes_on(tmp_path: Path) -> None:
    typed = [*TINY, "tracking=none", "backend=transformers", "training.num_train_epochs=40", "seed=1"]
    folder = tmp_path / compose(typed).folder
    command = [sys.executable, "-m", "sft_research.train", "-m", *typed]
    file = folder / "metrics.jsonl"
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as grid:
        until(lambda: file.exists() and "train/loss" in file.read_text(), 120)
        grid.kill()
    until(lambda: not running(tmp_path), 60)
    done = started(["-m", *typed], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Interrupted by SIGTERM at step" in (folder / "train.log").read_text()
    assert not [place for place in folder.parent.iterdir() if "~" in place.name]


def test_a_signal_that_comes_while_a_run_is_started_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = sft_research.point._start

    def signalled(*rest: Any, **more: Any) -> subprocess.Popen:
        process = begin(*rest, **more)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)  # time in which the signal could pass the run by
        return process

    monkeypatch.setattr(sft_research.point, "_start", signalled)
    code = f"import pathlib, time; time.sleep(8); pathlib.Path({str(tmp_path / 'overslept')!r}).touch()"
    with pytest.raises(Stopped) as stopped:
        launch_local([point(tmp_path / "a", code, "r=8"), point(tmp_path / "b", code, "r=16")], n=1)
    assert stopped.value.status == 143
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n", [0, -1])
def test_a_grid_that_would_start_no_run_is_refused(n: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        launch_local([point(tmp_path / "a", "", "r=8")], n)
    assert str(refused.value) == f"hydra.launcher.n={n} starts no run. Fix: hydra.launcher.n=1"


def test_slurm_is_refused_where_it_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"Could not detect \"srun\".* Fix: hydra/launcher=local, or run "):
        launch_slurm([point(tmp_path / "a", "", "r=8")], tmp_path, {})


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
