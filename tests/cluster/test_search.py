"""A search on a real Slurm: each rung is a job, and a driver that comes back takes those that go on."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sft_research import slurm as engine
from sft_research.asha import searched
from sft_research.config import build
from sft_research.point import Ended, Point
from sft_research.typed import Typed
from tests.cluster.slurm import Slurm
from tests.cluster.test_slurm import LAUNCHER
from tests.grids import result_of
from tests.searches import config, search

pytestmark = pytest.mark.cluster
LOSSES = {"2": 3.0, "4": 1.0, "8": 2.0, "16": 4.0}  # of each lora.r, at each rung
PROGRAM = """
import sys, time
from pathlib import Path
noted, label, *files = sys.argv[1:-1]
with open(noted, "a") as file:
    file.write(label + "\\n")
time.sleep(1)
for name, text in zip(files[::2], files[1::2]):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
"""


class Programs(Typed):
    """Each point is a small program, which leaves what a run would have left."""

    def point(self, overrides: tuple[str, ...], run: Any, label: str, grid: Path, *more: str) -> Point:
        loss, pauses = LOSSES[label.partition("=")[2]], [word.partition("=")[2] for word in more]
        noted = [{"at": float(at), "step": 3, "loss_tokens": 300, "loss": loss} for at in pauses]
        left = ("pauses.json", json.dumps(noted)) if pauses else ("result.json", result_of(loss, run.id))
        files = (
            str(run.folder / "identity.json"),
            json.dumps({"id": run.id}),
            str(run.folder / left[0]),
            left[1],
        )
        made = super().point(overrides, run, label, grid, *more)
        end = "whole" if not pauses else f"pause_at={pauses[0]}"
        command = (sys.executable, "-c", PROGRAM, str(Path("began").resolve()), f"{label} {end}", *files, end)
        return replace(made, command=command)


class Dying(engine.Slurm):
    """Its driver is gone when a job has ended, and others go on."""

    def poll(self) -> Iterator[tuple[Point, Ended]]:
        for _ in super().poll():
            raise KeyboardInterrupt
        yield from ()


def test_a_search_whose_driver_is_lost_goes_on_with_its_jobs(
    slurm: Slurm, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(engine, "LOOK_S", 0.5)
    monkeypatch.chdir(place)
    made = [search("lora.r=2,4,8,16", trials=4, smallest=0.5, reduction=2, parallel=2) for _ in range(2)]
    first, second = (replace(one, typed=Programs(config("model=tiny"))) for one in made)
    parameters = config(*LAUNCHER)
    built = build(parameters.hydra.launcher)
    with pytest.raises(KeyboardInterrupt):
        searched(first, Dying(built.parameters, built.requeues))
    searched(second, built.engine())
    (file,) = place.glob("runs/default/grids/*/sweep.json")
    points = {point["label"]: point for point in json.loads(file.read_text())["points"]}
    assert {label: point["losses"][0] for label, point in points.items()} == {
        f"lora.r={r}": loss for r, loss in LOSSES.items()
    }
    assert (points["lora.r=4"]["state"], points["lora.r=4"]["loss"]) == ("finished", 1.0)
    assert (points["lora.r=16"]["state"], points["lora.r=2"]["state"]) == ("paused", "paused")
    # No rung is trained twice, and none that nobody was sent to.
    ended = [f"{label} pause_at=0.5" for label in points]
    ended += [f"{label} whole" for label, point in points.items() if point["state"] == "finished"]
    assert Counter(Path("began").read_text().splitlines()) == Counter(ended)
