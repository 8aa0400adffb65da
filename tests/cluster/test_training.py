"""Real training on real clusters: whatever befalls a job, its run ends with the bits of one that nobody disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sft_research.config import compose
from tests.cluster.driver import ROOT
from tests.cluster.processes import until
from tests.cluster.ray_nodes import ENVIRONMENT, Ray
from tests.cluster.slurm import Slurm
from tests.forked import differences
from tests.runs import TINY, started

pytestmark = pytest.mark.cluster
# Steps that last without work, so that a signal falls between them and not before.
SLOW = """
import os, time, torch

class Slow(torch.optim.SGD):
    def step(self, closure=None):
        time.sleep(float(os.environ.get("SLOW_S", "0")))
        return super().step(closure)
"""
OPTION = "_target_: slow.Slow\n_partial_: true\nlr: 1e-2\nmomentum: 0.9\n"
OVERRIDES = (*TINY, "optimizer=slow", "tracking=none", "backend=transformers", "training.num_train_epochs=12")
SLURM = (
    "hydra/launcher=slurm",
    "hydra.launcher.cpus=1",
    "hydra.launcher.memory_gb=2.5",
    "hydra.launcher.grace_seconds=10",
)


@dataclass
class Trained:
    """A grid of one run of 72 steps, with a class and an option of its own, in `place`."""

    place: Path
    launcher: Sequence[str]
    environment: Mapping[str, str]

    def __post_init__(self) -> None:
        (self.place / "options" / "optimizer").mkdir(parents=True)
        (self.place / "slow.py").write_text(SLOW)
        (self.place / "options" / "optimizer" / "slow.yaml").write_text(OPTION)

    def edit(self) -> None:
        """As a person does who works on while jobs wait."""
        (self.place / "slow.py").write_text("raise RuntimeError('edited')")
        (self.place / "options" / "optimizer" / "slow.yaml").write_text(OPTION.replace("0.9", "0.5"))

    @property
    def typed(self) -> list[str]:
        return ["--config-dir", str(self.place / "options"), "-m", *OVERRIDES, *self.launcher]

    @property
    def folder(self) -> Path:
        return self.place / compose(OVERRIDES, self.place / "options").folder

    @property
    def step(self) -> int:
        """The last that is written."""
        file = self.folder / "metrics.jsonl"
        lines = file.read_text().splitlines() if file.is_file() else []
        return max((json.loads(line).get("step", 0) for line in lines), default=0)

    @property
    def earlier(self) -> int:
        """How many processes of this run there were before the last."""
        return len(json.loads((self.folder / "environment.json").read_text()).get("earlier", []))

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[str]]:
        path = os.pathsep.join([str(self.place), str(ROOT)])
        with subprocess.Popen(
            [sys.executable, "-m", "sft_research.train", *self.typed],
            cwd=self.place,
            env=os.environ | {"PYTHONPATH": path, "SLOW_S": "0.5"} | dict(self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        ) as driver:
            try:
                yield driver
            finally:
                driver.kill()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same run, by itself."""
    alone = Trained(tmp_path_factory.mktemp("undisturbed"), (), {})
    path = os.pathsep.join([str(alone.place), str(ROOT)])
    done = started([word for word in alone.typed if word != "-m"], alone.place, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    return alone.folder


@pytest.mark.faults("a time limit", "code and options edited after submission")
def test_a_run_longer_than_its_time_limit_is_requeued_and_ends_with_the_same_bits(
    slurm: Slurm, tmp_path: Path, undisturbed: Path
) -> None:
    trained = Trained(tmp_path, [*SLURM, "hydra.launcher.minutes=1"], slurm.environment)
    with trained.started() as driver:
        until(slurm.jobs, 60, "the job")
        trained.edit()
        ((job, _),) = slurm.jobs()
        _, err = driver.communicate(timeout=450)
    assert driver.returncode == 0, err
    assert int(slurm.state(job)["Restarts"]) >= 1
    assert trained.earlier >= 1
    assert "Interrupted by SIGUSR2 at step" in (trained.folder / "train.log").read_text()
    assert differences(trained.folder, undisturbed) == []


@pytest.mark.faults("preemption by USR2", "scontrol requeue")
def test_a_preempted_and_a_requeued_run_end_with_the_same_bits(
    slurm: Slurm, tmp_path: Path, undisturbed: Path
) -> None:
    trained = Trained(tmp_path, [*SLURM, "hydra.launcher.minutes=30"], slurm.environment)
    with trained.started() as driver:
        until(lambda: trained.step >= 8, 90, "step 8")
        ((job, _),) = slurm.jobs()
        slurm.ask("scancel", "--signal=USR2", job)
        until(lambda: slurm.state(job)["Restarts"] == "1", 60, "the requeue")
        until(lambda: trained.step >= 16, 90, "step 16")
        slurm.ask("scontrol", "requeue", job)
        _, err = driver.communicate(timeout=300)
    assert driver.returncode == 0, err
    assert slurm.state(job)["Restarts"] == "2"
    assert trained.earlier == 2
    assert differences(trained.folder, undisturbed) == []


def test_a_run_on_ray_ends_with_the_same_bits(ray: Ray, tmp_path: Path, undisturbed: Path) -> None:
    launcher = ["hydra/launcher=ray", f"hydra.launcher.address={ray.address}"]
    trained = Trained(tmp_path, launcher, ENVIRONMENT | {"SLOW_S": "0"})
    with trained.started() as driver:
        _, err = driver.communicate(timeout=300)
    assert driver.returncode == 0, err
    assert differences(trained.folder, undisturbed) == []
