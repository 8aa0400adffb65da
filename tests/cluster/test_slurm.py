"""Grids on a real Slurm, and what befalls them there: one lost job never costs the others, and a grid goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.cluster.driver import Driven, causes
from tests.cluster.processes import until
from tests.cluster.slurm import Slurm

pytestmark = pytest.mark.cluster
LAUNCHER = (
    "hydra/launcher=slurm",
    "hydra.launcher.cpus=1",
    "hydra.launcher.memory_gb=0.2",
    "hydra.launcher.minutes=5",
    "hydra.launcher.grace_seconds=10",
)
BRIEFLY, LONG = "time.sleep(1)", "time.sleep(60)"
AT_FIRST_LONG = f"if times == 1: {LONG}"


def on(slurm: Slurm, place: Path, programs: dict[str, str], *overrides: str) -> Driven:
    return Driven(place, programs, [*LAUNCHER, *overrides], slurm.environment)


def job_of(slurm: Slurm, driven: Driven, label: str) -> str:
    """The id of the job of a point, which has begun."""
    until(lambda: driven.began[label], 60, f"{label} to begin")
    place = list(driven.programs).index(label)
    return next(job for job, _ in slurm.jobs() if (job.partition("_")[2] or "0") == str(place))


@pytest.mark.faults(
    "a run that fails", "a run killed with kill -9", "a job killed with kill -9", "a job out of memory",
    "a grid larger than MaxArraySize",
)  # fmt: skip
def test_lost_jobs_are_named_with_their_causes_and_cost_no_other(slurm: Slurm, place: Path) -> None:
    programs = {
        "fails": "raise SystemExit('no such drawer')",
        "killed": "os.kill(os.getpid(), signal.SIGKILL)",
        "lost": f"os.kill(os.getppid(), signal.SIGKILL); {LONG}",
        "hungry": f"held = b'x' * 1_500_000_000; {LONG}",
        "well": BRIEFLY,
        "also-well": BRIEFLY,
    }
    driven = on(slurm, place, programs)
    status, _, err = driven.run()
    assert (status, err.splitlines()[0]) == (1, "4 of 6 runs failed")
    assert driven.table == dict.fromkeys(("fails", "killed", "lost", "hungry"), "failed") | dict.fromkeys(
        ("well", "also-well"), "finished"
    )
    found = causes(err)
    assert found["fails"] == "no such drawer"
    assert found["killed"].startswith("killed by signal 9, as a system that is out of memory does")
    assert "was lost: FAILED, exit code" in found["lost"]
    assert "exceeded" in found["hungry"]
    assert "Fix: hydra.launcher.memory_gb=" in found["hungry"]
    assert driven.times == dict.fromkeys(programs, 1)
    assert sorted(file.name for file in (place / "grids" / "of-a-test" / "slurm").glob("?.json")) == [
        "1.json",
        "2.json",
    ]  # of 4 and of 2, since MaxArraySize is 4


@pytest.mark.faults("a grid of one point")
def test_a_grid_of_one_point_is_an_ordinary_job(slurm: Slurm, place: Path) -> None:
    driven = on(slurm, place, {"a": BRIEFLY})
    status, out, err = driven.run()
    assert (status, driven.times) == (0, {"a": 1}), err
    assert out.splitlines()[0] == "[1/1] a  held-out loss 0.2500  a"


# The driver ----------------------------------------------------------------------------------------

SBATCH = '#!/bin/sh\n{before}\n{sbatch} "$@"\n{after}\n'
KILL = "kill -9 $PPID"


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("before", marks=pytest.mark.faults("driver killed before sbatch")),
        pytest.param("after", marks=pytest.mark.faults("driver killed before sbatch has returned")),
    ],
)
def test_a_driver_killed_while_it_submits_loses_and_repeats_nothing(
    moment: str, slurm: Slurm, place: Path
) -> None:
    """After: the jobs are in Slurm, and what they are to do is not where they look for it."""
    folder = place / "bin"
    folder.mkdir()
    real = next(p for d in slurm.environment["PATH"].split(os.pathsep) if (p := Path(d, "sbatch")).is_file())
    killing = (
        {"before": f"{KILL}; exit 1", "after": ""} if moment == "before" else {"before": "", "after": KILL}
    )
    (folder / "sbatch").write_text(SBATCH.format(sbatch=real, **killing))
    (folder / "sbatch").chmod(0o755)
    driven = on(slurm, place, {"a": BRIEFLY, "b": BRIEFLY})
    first, _, _ = driven.run(PATH=f"{folder}{os.pathsep}{slurm.environment['PATH']}")
    assert (first, len(slurm.jobs())) == (-9, {"before": 0, "after": 2}[moment])
    status, _, err = driven.run()
    assert (status, driven.times) == (0, {"a": 1, "b": 1}), err
    assert driven.table == {"a": "finished", "b": "finished"}
    until(lambda: not slurm.jobs(), 30, "the orphans to end")


@pytest.mark.faults("driver killed while jobs run and wait", "driver killed after all jobs have ended")
def test_a_driver_that_is_killed_finds_its_jobs_and_what_they_came_to(slurm: Slurm, place: Path) -> None:
    driven = on(slurm, place, {"a": "wait()", "b": "wait()", "c": BRIEFLY}, "hydra.launcher.parallel=2")
    with driven.started() as driver:
        until(lambda: driven.began["a"] and driven.began["b"], 60, "two to begin")
        driver.kill()
    with driven.started() as driver:
        assert driver.stdout
        assert driver.stdout.readline() == "3 jobs of this grid are in Slurm already.\n"
        driver.kill()
    driven.go()
    until(lambda: not slurm.jobs(), 60, "the jobs to end")
    status, out, err = driven.run()
    assert (status, driven.times) == (0, {"a": 1, "b": 1, "c": 1}), err
    assert out.splitlines()[0] == "3 of 3 runs are finished already."


@pytest.mark.faults("Ctrl-C on the driver")
def test_ctrl_c_leaves_the_jobs_to_slurm_and_says_how_to_end_them(slurm: Slurm, place: Path) -> None:
    driven = on(slurm, place, {"a": "wait()", "b": "wait()"})
    with driven.started() as driver:
        job = job_of(slurm, driven, "a").partition("_")[0]
        driver.send_signal(signal.SIGINT)
        _, err = driver.communicate(timeout=30)
    assert (driver.returncode, err) == (
        130,
        f"Interrupted. 2 jobs go on in Slurm; scancel {job} ends them. The same command goes on with the grid.\n",
    )
    driven.go()
    status, _, err = driven.run()
    assert (status, driven.times) == (0, {"a": 1, "b": 1}), err


# The cluster ---------------------------------------------------------------------------------------


@pytest.mark.faults("scancel of a job that runs", "scancel of a job that waits")
def test_jobs_that_a_person_cancels_are_not_started_again(slurm: Slurm, place: Path) -> None:
    programs = {"runs": LONG, "waits": BRIEFLY, "well": BRIEFLY}
    driven = on(slurm, place, programs, "hydra.launcher.parallel=1")
    with driven.started() as driver:
        job = job_of(slurm, driven, "runs").partition("_")[0]
        slurm.ask("scancel", f"{job}_1")
        slurm.ask("scancel", f"{job}_0")
        _, err = driver.communicate(timeout=90)
    assert (driver.returncode, driven.times) == (1, {"runs": 1, "waits": 0, "well": 1}), err
    assert causes(err)["waits"].startswith(
        f"job {job}_1 did not begin, and Slurm does not know it any more, as one that was cancelled; "
    )
    assert driven.table["well"] == "finished"


@pytest.mark.faults("a node that dies")
def test_the_jobs_of_a_dead_node_begin_again_when_it_is_back(slurm: Slurm, place: Path) -> None:
    driven = on(slurm, place, {"a": AT_FIRST_LONG, "b": BRIEFLY})
    with driven.started() as driver:
        job = job_of(slurm, driven, "a")
        until(lambda: len(slurm.jobs()) == 1, 60, "the other to end")
        slurm.kill_node()
        until(lambda: slurm.node().startswith("down"), 90, "Slurm to see it")
        slurm.start_node()
        _, err = driver.communicate(timeout=90)
    assert (driver.returncode, driven.times) == (0, {"a": 2, "b": 1}), err
    assert slurm.state(job)["Restarts"] == "1"


@pytest.mark.faults("slurmctld down for a while")
def test_a_controller_that_is_down_for_a_while_is_waited_for(slurm: Slurm, place: Path) -> None:
    driven = on(slurm, place, {"a": "wait()"})
    with driven.started() as driver:
        job_of(slurm, driven, "a")
        slurm.stop_controller()
        driven.go()
        with pytest.raises(AssertionError, match="8 s"):
            until(lambda: driver.poll() is not None, 8)  # it has asked, and waits
        slurm.start_controller()
        _, err = driver.communicate(timeout=90)
    assert (driver.returncode, driven.times) == (0, {"a": 1}), err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        pytest.param(
            "hydra.launcher.partition=gpus",
            "invalid partition specified: gpus",
            marks=pytest.mark.faults("a partition that is not there"),
        ),
        pytest.param(
            "hydra.launcher.memory_gb=900",
            "Memory specification can not be satisfied",
            marks=pytest.mark.faults("more memory than a node has"),
        ),
    ],
)
def test_what_sbatch_refuses_is_said_and_no_state_is_lost(
    override: str, said: str, slurm: Slurm, place: Path
) -> None:
    status, _, err = on(slurm, place, {"a": BRIEFLY, "b": BRIEFLY}, override).run()
    assert status == 2
    assert err.startswith("Slurm refuses the jobs: sbatch: error: ")
    assert said in err
    assert "Traceback" not in err
    driven = on(slurm, place, {"a": BRIEFLY, "b": BRIEFLY})
    assert (driven.run()[0], driven.times) == (0, {"a": 1, "b": 1})


@pytest.mark.faults("slurmctld down at the start")
def test_a_cluster_that_cannot_be_asked_is_said_at_once(slurm: Slurm, place: Path) -> None:
    driven = on(slurm, place, {"a": BRIEFLY})
    (place / "slurm.conf").write_text(
        Path(slurm.environment["SLURM_CONF"]).read_text().replace("SlurmctldPort=", "SlurmctldPort=1 #")
        + "MessageTimeout=2\n"
    )
    status, _, err = driven.run(SLURM_CONF=str(place / "slurm.conf"))
    assert status == 2
    assert err.startswith("squeue failed: ")
    assert driven.run()[0] == 0


@pytest.mark.faults("a lost job that Slurm has forgotten, with slurmdbd")
def test_what_slurm_has_forgotten_its_database_knows(slurm_with_database: Slurm, place: Path) -> None:
    lost = f"os.kill(os.getppid(), signal.SIGKILL); {LONG}"
    driven = on(slurm_with_database, place, {"lost": lost, "well": BRIEFLY})
    with driven.started() as driver:
        until(lambda: driven.began["lost"], 60, "it to begin")
        until(lambda: not slurm_with_database.jobs(), 60, "the jobs to end")
        os.kill(driver.pid, signal.SIGSTOP)  # as long as Slurm remembers, and more
        until(lambda: "Invalid job id" in _shown(slurm_with_database), 90, "Slurm to forget")
        os.kill(driver.pid, signal.SIGCONT)
        _, err = driver.communicate(timeout=60)
    assert driver.returncode == 1
    assert causes(err)["lost"].startswith("job 1_0 was lost: FAILED, exit code ")
    assert driven.table == {"lost": "failed", "well": "finished"}


def _shown(slurm: Slurm) -> str:
    try:
        return slurm.ask("scontrol", "show", "job", "1_0")
    except AssertionError as error:
        return str(error)
