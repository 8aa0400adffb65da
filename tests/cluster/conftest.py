"""What `make test-cluster` runs: on a Slurm and a Ray that it brings up, and without which it does not begin."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cluster import slurm as slurms
from tests.cluster.processes import until
from tests.cluster.ray_nodes import Ray
from tests.cluster.slurm import Slurm

NOT_THERE = 77  # the exit status that says so


def pytest_configure(config: pytest.Config) -> None:
    if config.option.markexpr != "cluster":
        return
    packages = slurms.missing(database=True)
    if packages:
        pytest.exit(
            f"Slurm is not here, so nothing was tested. Fix: apt-get install --no-install-recommends "
            f"{' '.join(packages)}",
            NOT_THERE,
        )
    modules = [name for name in ("submitit", "ray") if find_spec(name) is None]
    if modules:
        pytest.exit(
            f"{' and '.join(modules)} are not here, so nothing was tested. Fix: pip install -e '.[slurm,ray]'",
            NOT_THERE,
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Whatever becomes of a test, its report names the faults that it injects."""
    for mark in item.iter_markers("faults"):
        item.user_properties += [("fault", fault) for fault in mark.args]


@pytest.fixture(scope="session")
def slurm_without_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with Slurm(tmp_path_factory.mktemp("slurm")) as made:
        yield made


@pytest.fixture
def slurm(slurm_without_database: Slurm) -> Iterator[Slurm]:
    """Without a job, and as many clusters are: without a database."""
    yield slurm_without_database
    for job, _ in slurm_without_database.jobs():
        slurm_without_database.ask("scancel", job)
    until(lambda: not slurm_without_database.jobs(), 30, "the jobs to end")


@pytest.fixture(scope="session")
def slurm_with_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with Slurm(tmp_path_factory.mktemp("slurm") / "of-2-seconds", database=True, remembers=2) as made:
        yield made


@pytest.fixture(scope="session")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ray]:
    with Ray(tmp_path_factory.mktemp("ray")) as made:
        yield made


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a grid of small programs keeps its folders."""
    (tmp_path / "grid").mkdir()
    return tmp_path / "grid"
