"""Grids on a real Ray of two nodes: what ends one run leaves the others alone, and a grid goes on."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.cluster.driver import Driven, causes
from tests.cluster.processes import free_port, until
from tests.cluster.ray_nodes import ENVIRONMENT, Ray

pytestmark = pytest.mark.cluster
BRIEFLY, AT_FIRST_LONG = "time.sleep(1)", "if times == 1: wait()"
# As a run does, it ends when its lifeline does: that of a run whose worker is gone.
ON_A_LIFELINE = "from sft_research.point import stop_with_the_grid; stop_with_the_grid()\n"


def on(ray: Ray, place: Path, programs: dict[str, str], *overrides: str) -> Driven:
    address = f"hydra.launcher.address={ray.address}"
    living = {label: ON_A_LIFELINE + program for label, program in programs.items()}
    return Driven(place, living, ["hydra/launcher=ray", address, *overrides], ENVIRONMENT)


@pytest.mark.faults("a run that fails on Ray", "a Ray worker killed with kill -9")
def test_what_ends_one_run_leaves_the_others_alone(ray: Ray, place: Path) -> None:
    programs = {
        "fails": "raise SystemExit('no such drawer')",
        "worker": "if times == 1: os.kill(os.getppid(), signal.SIGKILL); wait()",
        "well": "time.sleep(4)",
    }
    driven = on(ray, place, programs)
    status, _, err = driven.run()
    assert (status, causes(err)) == (1, {"fails": "no such drawer"}), err
    assert driven.table == {"fails": "failed", "worker": "finished", "well": "finished"}
    assert driven.times == {"fails": 1, "worker": 2, "well": 1}


@pytest.mark.faults("a Ray node that dies")
def test_the_runs_of_a_dead_node_go_on_elsewhere(ray: Ray, place: Path) -> None:
    """Two of three run on the second node, which has two of the three cores."""
    driven = on(ray, place, dict.fromkeys("abc", AT_FIRST_LONG))
    with driven.started() as driver:
        until(lambda: all(driven.began.values()), 60, "all three to begin")
        ray.kill_second()
        driven.go()
        _, err = driver.communicate(timeout=120)
    ray.start_second()
    assert (driver.returncode, sorted(driven.times.values())) == (0, [1, 2, 2]), err


@pytest.mark.faults("driver of Ray killed")
def test_a_driver_that_is_killed_takes_its_runs_along_and_the_next_goes_on(ray: Ray, place: Path) -> None:
    driven = on(ray, place, {"a": AT_FIRST_LONG, "b": AT_FIRST_LONG})
    with driven.started() as driver:
        until(lambda: all(driven.began.values()), 60, "both to begin")
        driver.kill()
    until(lambda: not _alive(driven), 60, "the runs to end")
    status, _, err = driven.run()
    assert (status, driven.times) == (0, {"a": 2, "b": 2}), err


@pytest.mark.faults("Ctrl-C on the driver of Ray")
def test_ctrl_c_ends_the_runs_and_the_same_command_goes_on(ray: Ray, place: Path) -> None:
    driven = on(ray, place, {"a": AT_FIRST_LONG})
    with driven.started() as driver:
        until(lambda: driven.began["a"], 60, "it to begin")
        driver.send_signal(signal.SIGINT)
        _, err = driver.communicate(timeout=60)
    assert (driver.returncode, err) == (
        130,
        "Interrupted. Its runs save and end. The same command goes on with the grid.\n",
    )
    until(lambda: not _alive(driven), 30, "the run to end")
    assert (driven.run()[0], driven.times) == (0, {"a": 2})


@pytest.mark.faults("more than any Ray node has")
def test_what_no_node_has_is_refused(ray: Ray, place: Path) -> None:
    status, _, err = on(ray, place, {"a": BRIEFLY}, "hydra.launcher.gpus=2").run()
    assert status == 2
    assert err.startswith("no node of the Ray cluster has CPU 1, GPU 2: CPU 1, GPU 0; CPU 2, GPU 0. Fix: ")


@pytest.mark.faults("no Ray at the address")
def test_an_address_where_nothing_listens_is_refused_at_once(place: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    driven = Driven(
        place, {"a": BRIEFLY}, ["hydra/launcher=ray", f"hydra.launcher.address={address}"], ENVIRONMENT
    )
    began = time.monotonic()
    status, _, err = driven.run()
    assert (status, err.split(". Fix: ")[0]) == (
        2,
        f"hydra.launcher.address={address}: [Errno 111] Connection refused",
    )
    assert time.monotonic() - began < 60  # Ray's own answer takes many minutes


@pytest.mark.faults("a relative folder, where Ray's workers start elsewhere")
def test_a_relative_folder_is_that_of_the_driver(ray: Ray, place: Path) -> None:
    driven = on(ray, place, {"a": "Path('here').touch()"})
    assert driven.run()[0] == 0
    assert (place / "here").is_file()


def _alive(driven: Driven) -> list[int]:
    return [pid for pids in driven.began.values() for pid in pids if Path("/proc", str(pid)).is_dir()]
