"""A grid on Slurm, with programs in the place of Slurm's own; on a real one: tests/cluster."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sft_research import lock, slurm
from sft_research.grid import Grid
from sft_research.point import LOST, Ended
from sft_research.slurm import Slurm
from tests.fake_slurm import fake
from tests.grids import grid, writing

CONFIG = "MaxArraySize = 3\n"


def started(
    made: Grid, queue: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, requeues: int = 20
) -> tuple[Slurm, Path]:
    """An engine that has begun, on a cluster where `sbatch` gives each job the id 40; and the calls it made."""
    says: dict[str, str | int] = {
        "squeue": queue, "scontrol": CONFIG, "sbatch": "Submitted batch job 40\n", "srun": "", "scancel": "",
        "sacct": 1,
    }  # fmt: skip
    calls = fake(monkeypatch, tmp_path / "bin", says)
    monkeypatch.setattr(slurm, "LOOK_S", 0.0)
    engine = Slurm({"time": 60, "mem": "1024MB", "cpus_per_task": 1}, requeues)
    made.folder.mkdir(parents=True, exist_ok=True)
    engine.start(made, made.points)
    return engine, calls


def test_what_another_grids_job_writes_is_waited_for_and_not_submitted_a_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two such points one is finished there, and one is stopped: that one is submitted here."""
    made = grid(tmp_path, dict.fromkeys("abc", ""))
    with ExitStack() as others:
        for label in "bc":
            others.enter_context(lock.held(tmp_path / f".{label}.lock", tmp_path / label))
        engine, _ = started(made, "", monkeypatch, tmp_path)
        assert json.loads((made.folder / "slurm" / "1.json").read_text())["points"] == ["a"]
        name = name_of(made)
        fake(monkeypatch, tmp_path / "bin", {"squeue": f"40_0|{name}|RUNNING|n1|None\n"})
        assert list(engine.poll()) == []
        assert {p.label: where for p, where in engine.running().items()} == {
            "a": ("n1", "40_0"), "b": ("elsewhere", None), "c": ("elsewhere", None)
        }  # fmt: skip
    subprocess.run([sys.executable, "-c", writing(tmp_path / "b", 0.25)], check=True)
    assert [(point.label, end.status) for point, end in engine.poll()] == [("b", 0)]
    assert json.loads((made.folder / "slurm" / "2.json").read_text())["points"] == ["c"]
    assert not engine.idle


def name_of(made: Grid) -> str:
    """The jobs' name, as the file that was submitted says."""
    file = max((made.folder / "slurm").glob("*/*_submission.sh"), key=lambda f: f.stat().st_mtime)
    (line,) = [line for line in file.read_text().splitlines() if "--job-name" in line]
    return line.partition("=")[2]


def test_a_grid_is_submitted_in_arrays_that_the_cluster_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = grid(tmp_path, dict.fromkeys("abcd", ""))
    _, calls = started(made, "", monkeypatch, tmp_path)
    assert sum(line.startswith("sbatch ") for line in calls.read_text().splitlines()) == 2
    batches = [json.loads((made.folder / "slurm" / f"{n}.json").read_text())["points"] for n in (1, 2)]
    assert batches == [["a", "b", "c"], ["d"]]


def test_a_driver_that_comes_back_takes_its_jobs_and_cancels_what_its_death_left_half_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = grid(tmp_path, dict.fromkeys("abc", ""))
    started(made, "", monkeypatch, tmp_path)
    name = name_of(made)
    (made.folder / "slurm" / "40_1" / "40_1_submitted.pkl").unlink()
    queue = f"40_0|{name}|RUNNING|n1|None\n40_1|{name}|PENDING||Resources\n"
    engine, calls = started(made, queue, monkeypatch, tmp_path)
    lines = calls.read_text().splitlines()
    assert lines.count("scancel 40_1") == 1
    assert "scancel 40_0" not in lines
    again = json.loads((made.folder / "slurm" / "2.json").read_text())["points"]
    assert again == ["b", "c"]  # c had ended without a result
    list(engine.poll())
    assert engine.running() == {made.points[0]: ("n1", "40_0")}


def test_what_a_search_adds_is_submitted_beside_what_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The jobs are of the code as it was when the first were submitted, and those that go on stay."""
    made = grid(tmp_path, dict.fromkeys("ab", ""))
    engine, calls = started(made, "", monkeypatch, tmp_path)
    (code,) = (made.folder / "code").iterdir()
    monkeypatch.setattr(slurm, "freeze", None)
    first = made.points[0]
    onward = replace(first, command=(*first.command, "pause_at=0.5"))
    list(engine.poll())
    engine.start(made, [onward])
    asked = [line.split()[0] for line in calls.read_text().splitlines()]
    assert (asked.count("sbatch"), asked.count("scancel")) == (2, 0)
    submitted = [json.loads((made.folder / "slurm" / f"{n}.json").read_text())["points"] for n in (1, 2)]
    assert submitted == [["a", "b"], ["a pause_at=0.5"]]
    script = max((made.folder / "slurm").glob("*/*_submission.sh"), key=lambda f: f.stat().st_mtime_ns)
    assert str(code.resolve()) in script.read_text()
    assert engine.left.startswith("3 jobs go on in Slurm")


def test_a_job_of_the_rung_below_is_not_taken_for_that_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may still be ending when a driver comes back that has read its loss, and sends its run on."""
    made = grid(tmp_path, {"a": ""}, "pause_at=0.25")
    started(made, "", monkeypatch, tmp_path)
    name = name_of(made)
    onward = grid(tmp_path, {"a": ""}, "pause_at=0.5")
    _, calls = started(onward, f"40|{name}|COMPLETING|n1|None\n", monkeypatch, tmp_path)
    assert sum(line.startswith("sbatch ") for line in calls.read_text().splitlines()) == 2
    assert "scancel" not in calls.read_text()


def ends(engine: Slurm, looks: int) -> dict[str, Ended]:
    return {point.label: end for _ in range(looks) for point, end in engine.poll()}


def test_a_job_that_left_the_queue_ended_as_its_note_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first look where it ran to its end; a stopped one may be on its way into the queue again."""
    made = grid(tmp_path, dict.fromkeys("abc", ""))
    engine, _ = started(made, "", monkeypatch, tmp_path)
    notes: dict[str, dict[str, Any]] = {
        "1.0": {"status": 1, "tail": "no such drawer"}, "1.1": {"status": 143, "tail": ""}, "1.2": {"job": "42"},
    }  # fmt: skip
    for place, note in notes.items():
        (made.folder / "slurm" / f"{place}.json").write_text(json.dumps(note))
    assert ends(engine, 1) == {"a": Ended(1, "no such drawer")}
    logs = made.folder / "slurm" / "40_2"
    assert ends(engine, 1) == {
        "b": Ended(143, ""),
        "c": Ended(LOST, f"job 40_2 was lost: ?, exit code ?, on ?; its logs: {logs}"),
    }
    assert engine.idle


def test_a_job_that_took_too_much_memory_is_said_with_what_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = grid(tmp_path, {"a": ""})
    engine, _ = started(made, "", monkeypatch, tmp_path)
    logs = made.folder / "slurm" / "40"
    (logs / "40_0_log.err").write_text(
        "slurmstepd-n1: error: Exceeded job memory limit\n"
        "slurmstepd-n1: error: StepId=40.0 exceeded memory limit (852 > 214), being killed\nsrun: error: n1: Killed\n"
    )
    (end,) = ends(engine, 2).values()
    assert end.tail.partition("; ")[2] == (
        "StepId=40.0 exceeded memory limit (852 > 214), being killed. "
        f"Fix: hydra.launcher.memory_gb=...; its logs: {logs}"
    )


def test_a_controller_that_is_down_ends_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = grid(tmp_path, {"a": ""})
    engine, _ = started(made, "", monkeypatch, tmp_path)
    fake(monkeypatch, tmp_path / "bin", {"squeue": 1})
    assert ends(engine, 5) == {}
    assert not engine.idle


def test_why_a_job_waits_is_said_once_where_a_person_can_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = grid(tmp_path, dict.fromkeys("abc", ""))
    engine, _ = started(made, "", monkeypatch, tmp_path)
    name = name_of(made)
    reasons = ("Priority", "PartitionTimeLimit", "PartitionTimeLimit")
    queue = "".join(f"40_{place}|{name}|PENDING||{why}\n" for place, why in enumerate(reasons))
    fake(monkeypatch, tmp_path / "bin", {"squeue": queue})
    with caplog.at_level(logging.WARNING, "sft_research"):
        ends(engine, 3)
    assert [record.getMessage() for record in caplog.records] == [
        "Job 40_1 waits: PartitionTimeLimit (scontrol show job 40_1)"
    ]
