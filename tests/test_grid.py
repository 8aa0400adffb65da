"""The points of a grid are what a person would have typed, and sweep.json says what became of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sft_research import lock
from sft_research.config import ConfigError, compose
from sft_research.grid import Became, composed, grid_of, why
from sft_research.point import LOST, Ended, run_point
from tests.grids import ID, grid, writing


def config(*overrides: str, config_dir: str | None = None) -> Any:
    """The driver's config of a grid, Hydra's part included."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from sft_research.config import CONF_DIR

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return hydra_compose("train", list(overrides), return_hydra_config=True)


# Points --------------------------------------------------------------------------------------------


def test_a_point_is_the_command_a_person_would_type() -> None:
    made = grid_of([["lora.r=8", "seed=1"], ["lora.r=16", "seed=1"]], config())
    assert [p.command[1:] for p in made.points] == [
        ("-m", "sft_research.train", "lora.r=8", "seed=1", "hydra.mode=RUN"),
        ("-m", "sft_research.train", "lora.r=16", "seed=1", "hydra.mode=RUN"),
    ]
    assert [p.folder for p in made.points] == [
        Path("runs/default/lora.r=8,seed=1"),
        Path("runs/default/lora.r=16,seed=1"),
    ]


def test_a_point_is_called_by_what_tells_it_from_the_others() -> None:
    made = grid_of([["seed=1", "lora.r=8"], ["seed=1", "lora.r=16"]], config())
    assert [p.label for p in made.points] == ["lora.r=8", "lora.r=16"]


def test_an_experiment_goes_with_each_of_its_points() -> None:
    made = grid_of([["seed=1"]], config("experiments=demo"))
    assert made.points[0].command[3:] == ("experiments=demo", "seed=1", "hydra.mode=RUN")
    assert made.points[0].folder == Path("runs/demo/seed=1")


def test_a_repeated_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"two points of this grid have the same overrides"):
        grid_of([["seed=1"], ["seed=1"]], config())


def test_a_grid_has_a_folder_of_its_own_that_says_what_was_typed() -> None:
    made = grid_of([["lora.r=8"], ["lora.r=16"]], config("lora.r=16"))
    assert made.folder == Path("runs/default/grids/lora.r=16")
    assert made.command == "python -m sft_research.train -m lora.r=16"


def test_what_is_composed_at_once_is_what_is_composed_one_by_one() -> None:
    """Values that differ, an option of a group, a key that is added, a list, a value in quotes."""
    varied = [
        ["lora.r=4", "optimizer.lr=1e-3", "packing=none"],
        ["lora.r=8", "optimizer.lr=2e-3", "packing=bfd"],
        ["lora.r=8", "lora.target_modules=[q_proj,v_proj]", "+training.weight_decay=0.0"],
        ["lora=rslora", "lora.r=16", "dataset_format.system='a, b'"],
        ["lora=none", "seed=3"],
    ]
    grid_ = [["model=tiny", *overrides] for overrides in varied]
    made = composed(grid_, None)
    alone = [compose(overrides) for overrides in grid_]
    assert [run.resolved for run in made] == [run.resolved for run in alone]
    assert [(run.folder, run.overrides, run.experiment) for run in made] == [
        (run.folder, run.overrides, run.experiment) for run in alone
    ]


def test_a_wrong_point_is_named_as_hydra_does() -> None:
    with pytest.raises(Exception, match=r"lora\.rank"):
        composed([["lora.r=4"], ["lora.rank=4"]], None)


# What became of them -------------------------------------------------------------------------------


def points_in(file: Path) -> dict[str, dict[str, Any]]:
    return {point["label"]: point for point in json.loads(file.read_text())["points"]}


def test_sweep_json_says_of_every_point_what_became_of_it(tmp_path: Path) -> None:
    made = grid(tmp_path, {"done": "", "waits": "", "runs": "", "fails": "", "asked": "", "another": ""})
    for label, run in (("done", ID), ("another", "of another grid")):
        subprocess.run([sys.executable, "-c", writing(tmp_path / label, 0.25, run)], check=True)
    (tmp_path / "done" / "environment.json").write_text('{"host": "n1"}')
    points = {point.label: point for point in made.points}
    with made.held():
        assert [p.label for p in made.look()] == ["waits", "runs", "fails", "asked", "another"]
        made.goes_on({points["runs"]: ("n2", "12_3"), points["asked"]: ("n4", "12_5")})
        made.ended(points["fails"], Ended(7, "no such drawer\n"))
        made.ended(points["asked"], Ended(143, "Interrupted.\n"))
    found = points_in(tmp_path / "grids" / "of-a-test" / "sweep.json")
    keys = ("state", "cause", "loss", "seconds", "host", "job")
    assert {label: tuple(point[key] for key in keys) for label, point in found.items()} == {
        "done": ("finished", None, 0.25, 12.5, "n1", None),
        "waits": ("waiting", None, None, None, None, None),
        "runs": ("running", None, None, None, "n2", "12_3"),
        "fails": ("failed", "no such drawer", None, None, None, None),
        "asked": ("interrupted", None, None, None, "n4", "12_5"),
        "another": ("waiting", None, None, None, None, None),
    }
    assert {label: point["folder"] for label, point in found.items()}["done"] == "../../done"
    assert (tmp_path / "grids" / "of-a-test" / found["done"]["folder"] / "result.json").is_file()


def test_a_full_disk_is_said_once_and_sweep_json_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    made = grid(tmp_path, {"a": ""})
    with made.held():
        made.look()
        monkeypatch.setattr(os, "fsync", full)
        made.goes_on({made.points[0]: ("n1", None)})
        made.ended(made.points[0], Ended(7, ""))
        monkeypatch.undo()
        assert points_in(made.folder / "sweep.json")["a"]["state"] == "waiting"
        made.write()
    assert points_in(made.folder / "sweep.json")["a"]["state"] == "failed"
    assert caplog.messages == ["sweep.json could not be written: [Errno 28] No space left on device"]


def test_a_point_that_no_longer_goes_on_waits_again(tmp_path: Path) -> None:
    """Requeued: it runs, then waits for a node, then runs."""
    made = grid(tmp_path, {"a": ""})
    (point,) = made.points
    with made.held():
        made.look()
        made.goes_on({point: ("n1", "12_0")})
        assert made.became[point] == Became("running", host="n1", job="12_0")
        assert points_in(made.folder / "sweep.json")["a"]["state"] == "running"
        made.goes_on({})
        assert made.became[point].state == "waiting"


def test_a_point_that_has_paused_where_it_was_asked_to_has_not_failed(tmp_path: Path) -> None:
    """Nor does it run again, but one that paused elsewhere does."""
    made = grid(tmp_path, {"here": "", "elsewhere": ""}, pause_at=0.5)
    for point, at in zip(made.points, (0.5, 0.25), strict=True):
        point.folder.mkdir()
        (point.folder / "identity.json").write_text(json.dumps({"id": ID}))
        (point.folder / "pauses.json").write_text(
            json.dumps([{"at": at, "step": 3, "loss_tokens": 300, "loss": 1.5}])
        )
    with made.held():
        assert [point.label for point in made.look()] == ["elsewhere"]
    assert made.became[made.points[0]] == Became("paused", loss=1.5)


def test_a_job_that_is_lost_after_its_run_has_saved_has_failed(tmp_path: Path) -> None:
    """The run itself was interrupted and says so, but nobody goes on with it."""
    made = grid(tmp_path, {"a": ""})
    (point,) = made.points
    point.folder.mkdir()
    (point.folder / "failure.json").write_text('{"status": "interrupted", "error": "Stopped"}')
    with made.held():
        made.look()
        became = made.ended(point, Ended(LOST, "timed-out too many times"))
    assert (became.state, became.cause) == ("failed", "timed-out too many times")


def test_one_process_drives_a_grid(tmp_path: Path) -> None:
    made = grid(tmp_path, {"a": ""})
    code = "import sys; from tests.grids import *; import pathlib\nwith grid(pathlib.Path('.'), {'a': ''}).held(): pass"
    with made.held():
        assert lock.is_held(lock.of(made.folder))
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(Path(__file__).parents[1])},
        )
    assert "grids/of-a-test is being written by another process" in done.stderr
    assert not lock.is_held(lock.of(made.folder))


@pytest.mark.parametrize(
    ("end", "failure", "cause"),
    [
        (
            Ended(1, "RuntimeError: loss is nan"),
            {"error": "RuntimeError", "message": "loss is nan"},
            "RuntimeError: loss is nan; ",
        ),
        (
            Ended(2, "lora.r=0 is out of range. Fix: lora.r=1\n"),
            None,
            "lora.r=0 is out of range. Fix: lora.r=1",
        ),
        (
            Ended(-9, ""),
            None,
            "killed by signal 9, as a system that is out of memory does; plan=true says what it",
        ),
        (Ended(LOST, "job 12_0 was lost: NODE_FAIL"), {"error": "Stopped"}, "job 12_0 was lost: NODE_FAIL"),
        (Ended(0, ""), None, "ended without a result"),
        (Ended(7, ""), None, "ended with status 7"),
    ],
)
def test_a_failure_has_its_cause_in_one_line(
    end: Ended, failure: dict[str, str] | None, cause: str, tmp_path: Path
) -> None:
    (point,) = grid(tmp_path, {"a": ""}).points
    point.folder.mkdir()
    if failure:
        (point.folder / "failure.json").write_text(json.dumps(failure))
    assert why(point, end).startswith(cause)
    assert "\n" not in why(point, end)


def test_a_rerun_that_ended_well_is_finished_and_one_that_was_refused_is_not(tmp_path: Path) -> None:
    """Its older result lies there still."""
    subprocess.run([sys.executable, "-c", writing(tmp_path / "a", 0.25)], check=True)
    made = grid(tmp_path, {"a": ""}, rerun=True)
    (point,) = made.points
    with made.held():
        assert made.look() == [point]
        assert made.ended(point, Ended(2, "lora.r=0 is out of range\n")).state == "failed"
        assert made.ended(point, Ended(0, "")).state == "finished"


@pytest.mark.parametrize("status", [143, 140, -15, -2, -12])
def test_a_run_that_a_signal_ended_was_interrupted_whether_or_not_it_could_save(
    status: int, tmp_path: Path
) -> None:
    made = grid(tmp_path, {"a": ""})
    with made.held():
        made.look()
        assert made.ended(made.points[0], Ended(status, "")) == Became("interrupted")


def test_what_an_older_process_left_is_not_the_cause(tmp_path: Path) -> None:
    made = grid(tmp_path, {"a": ""})
    (point,) = made.points
    point.folder.mkdir()
    old = {"status": "interrupted", "error": "Stopped", "message": "Interrupted by SIGINT"}
    (point.folder / "failure.json").write_text(json.dumps(old))
    with made.held():
        made.look()
        refused = made.ended(point, Ended(2, "rows.jsonl is not there. Fix: dataset.path=PATH\n"))
        assert (refused.state, refused.cause) == ("failed", "rows.jsonl is not there. Fix: dataset.path=PATH")
        failed = made.ended(point, Ended(1, "ImportError: no module named torch\n"))
        assert failed.cause == "ImportError: no module named torch"


def test_a_run_is_told_of_which_grid_it_is(tmp_path: Path) -> None:
    made = grid_of([["lora.r=8"], ["lora.r=16"]], config())
    assert {point.grid for point in made.points} == {"default/default"}
    code = "import os, sys; sys.exit(os.environ['SFT_GRID'])"
    point = replace(made.points[0], command=(sys.executable, "-c", code), cwd=str(tmp_path))
    assert run_point(point) == Ended(1, "default/default\n")
