"""Grids of programs that stand for runs: quick, and ended as a test wants it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sft_research.grid import Grid
from sft_research.point import Point
from sft_research.result import Result

ID = "0123456789ab"


@dataclass(frozen=True)
class Fake:
    """What a grid asks of a run."""

    folder: Path
    cfg: DictConfig
    id: str = ID
    config_dir: None = None
    resolved: tuple[()] = ()


def grid(
    place: Path, codes: Mapping[str, str], *arguments: str, rerun: bool = False, pause_at: float | None = None
) -> Grid:
    """A point for each label, `python -c CODE LABEL`, with a folder of this name in `place`."""
    points, runs = [], []
    for label, code in codes.items():
        command = (sys.executable, "-c", code, label, *arguments)
        points.append(Point((label,), place / label, command, label))
        runs.append(Fake(place / label, OmegaConf.create({"rerun": rerun, "pause_at": pause_at})))
    made: Any = runs
    return Grid(points, made, place / "grids" / "of-a-test", "python -m sft_research.train -m ...")


def writing(folder: Path, loss: float, run: str = ID) -> str:
    """A program that leaves the result of a run with this held-out loss, as train would."""
    text = result_of(loss, run)
    return (
        f"import pathlib; f = pathlib.Path({str(folder)!r}); f.mkdir(parents=True, exist_ok=True); "
        f"(f / 'result.json').write_text({text!r})"
    )


def result_of(loss: float, run: str = ID, **more: Any) -> str:
    """The result.json of a run with this held-out loss."""
    scores = {"loss": loss, "questions": 0, "exact_match": None, "form": None}
    names = dict.fromkeys(field.name for field in fields(Result))
    return json.dumps(names | {"id": run, "seconds": 12.5, "before": scores, "after": scores} | more)
