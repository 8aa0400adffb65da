"""A grid of small programs that stand for runs, driven by an engine in a process of its own.

python -m tests.cluster.driver grid.json, with {"codes": {label: program}, "launcher": [override, ...]}
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.processes import end_all
from tests.grids import grid, writing

ROOT = Path(__file__).parents[2]
# Notes that it began, which it does once where nothing goes wrong.
BEGINS = """
import os, signal, sys, time
from pathlib import Path
noted = Path({place!r}, sys.argv[1] + ".began")
with noted.open("a") as file:
    file.write(str(os.getpid()) + "\\n")
times = len(noted.read_text().split())

def wait():
    # Until the test says go.
    deadline = time.monotonic() + 90
    while not noted.with_name("go").exists() and time.monotonic() < deadline:
        time.sleep(0.1)

"""


@dataclass
class Driven:
    """`programs`: what each point does before its result is there; a SystemExit leaves it without one.

    The folders of its points are relative, as those of runs are. `wait()` in a program lasts until `go()` here.
    """

    place: Path
    programs: Mapping[str, str]
    launcher: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        codes = {
            label: f"{BEGINS.format(place=str(self.place))}\n{program}\n{writing(self.place / label, 0.25)}"
            for label, program in self.programs.items()
        }
        asked = {"codes": codes, "launcher": [*self.launcher]}
        (self.place / "grid.json").write_text(json.dumps(asked))

    def run(self, **environment: str) -> tuple[int, str, str]:
        """(status, standard output, standard error) of a driver that ends by itself."""
        with self.started(**environment) as driver:
            out, err = driver.communicate(timeout=150)
        return driver.returncode, out, err

    @contextmanager
    def started(self, **environment: str) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.driver", "grid.json"],
            cwd=self.place,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(self.environment) | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as driver:
            try:
                yield driver
            finally:
                if driver.poll() is None:
                    end_all(driver.pid)

    def go(self) -> None:
        (self.place / "go").touch()

    @property
    def began(self) -> dict[str, list[int]]:
        """The processes in which each point has begun."""
        return {label: self._pids(label) for label in self.programs}

    @property
    def times(self) -> dict[str, int]:
        return {label: len(pids) for label, pids in self.began.items()}

    @property
    def table(self) -> dict[str, str]:
        """The state of each point, as sweep.json says."""
        file = self.place / "grids" / "of-a-test" / "sweep.json"
        return {point["label"]: point["state"] for point in json.loads(file.read_text())["points"]}

    def _pids(self, label: str) -> list[int]:
        file = self.place / f"{label}.began"
        return [int(line) for line in file.read_text().split()] if file.is_file() else []


def causes(err: str) -> dict[str, str]:
    """What the last screen says of each point that failed."""
    lines = (line.strip().partition(": ") for line in err.splitlines() if line.startswith("  "))
    return {label: cause for label, _, cause in lines}


def _main(asked: Mapping[str, Any]) -> None:
    from sft_research.command import ending
    from sft_research.config import build, with_hydra
    from sft_research.launcher import launch

    with ending():
        launcher = build(with_hydra(asked["launcher"]).hydra.launcher)
        launch(grid(Path(), asked["codes"]), launcher.engine())


if __name__ == "__main__":
    _main(json.loads(Path(sys.argv[1]).read_text()))
