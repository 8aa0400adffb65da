"""Grids, read back: every point that a sweep.json plans, made or not, with what became of it.

What a run's folder says goes first. sweep.json says of the points that have none, and of runs that left no word,
as one that was killed; it may be older than they are, and a stranger's: a point's folder lies beside its grid's
folder or is not read, and whether a grid goes on says its lock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sft_research import lock
from sft_research.config import ConfigError
from sft_research.past_runs import DEEPEST, GRIDS, PastRun, at_step, below, is_run, read
from sft_research.untrusted import line, number, read_json

SWEEP = "sweep.json"
LARGEST = 10_000  # points of a grid that are read
NOTED = ("waiting", "running", "finished", "paused", "failed", "interrupted")


@dataclass(frozen=True)
class Planned:
    """One point of a grid as its sweep.json says. `values`: what its overrides set, as {"lora.r": 8}."""

    folder: Path  # of its run, there or not
    values: dict[str, Any]
    state: str  # one of NOTED
    cause: str
    loss: float | None
    grid: Path
    goes_on: bool  # whether a process drives the grid


def find(places: Sequence[Path]) -> list[PastRun]:
    """Every run in these folders, and every run that their grids plan; of a grid's own folder its points alone.

    Raises ConfigError where a place holds neither.
    """
    folders: dict[Path, Path] = {}
    points: dict[Path, list[Planned]] = {}
    for place in places:
        is_grid = GRIDS in (place.resolve().parent.name, place.resolve().name)
        walked = [] if is_grid else below(place)
        planned = [point for grid in _grids(place, is_grid) for point in _points(grid)]
        if not walked and not planned:
            what = f"no {SWEEP} that can be read" if is_grid else "no run"
            raise ConfigError(f"{place} holds {what}. Fix: name a run's folder, or one of runs, as runs/NAME")
        folders |= {folder.resolve(): folder for folder in walked}
        for point in planned:
            points.setdefault(point.folder.resolve(), []).append(point)
    for home, said in points.items():
        folders.setdefault(home, said[0].folder)
    return [_known(folder, points.get(home, [])) for home, folder in folders.items()]


def _grids(place: Path, is_grid: bool) -> Iterator[Path]:
    """Folders of grids: `place`, those in it, or those of the experiments at and below it."""
    if is_grid:
        deeper = "" if place.resolve().name != GRIDS else "*/"
        files = list(place.glob(f"{deeper}{SWEEP}"))
    else:
        files = [f for deep in range(DEEPEST) for f in place.glob(f"{'*/' * deep}{GRIDS}/*/{SWEEP}")]
    for file in sorted(file.absolute() for file in files):
        home = file.parent.parent.parent
        if file.resolve() == home.resolve() / GRIDS / file.parent.name / SWEEP:  # no link
            yield file.parent


def _points(grid: Path) -> Iterator[Planned]:
    goes_on = lock.is_held(lock.of(grid))
    said = read_json(grid / SWEEP).get("points")
    for point in said[:LARGEST] if isinstance(said, list) else []:
        if isinstance(point, dict) and (name := _name(point.get("folder"))):
            state = point.get("state") if point.get("state") in NOTED else "waiting"
            cause = line(point.get("cause") or "", 300)
            values, loss = _values(point.get("overrides")), number(point.get("loss"))
            yield Planned(grid.parent.parent / name, values, str(state), cause, loss, grid, goes_on)


def _name(folder: Any) -> str:
    """`../../<name>`, which `grid.py` writes, as the name; empty for anything that leads elsewhere."""
    found = re.fullmatch(r"\.\./\.\./([^/\0]{1,255})", folder) if isinstance(folder, str) else None
    return found[1] if found and found[1] not in (".", "..", GRIDS) else ""


def _values(overrides: Any) -> dict[str, Any]:
    words = [word for word in overrides if isinstance(word, str)] if isinstance(overrides, list) else []
    pairs = (re.fullmatch(r"\+{0,2}([\w./@-]{1,200})=(.{0,500})", word, re.DOTALL) for word in words[:200])
    return {pair[1]: value(pair[2]) for pair in pairs if pair}


def command_of(grid: Path) -> Any:
    """What was typed for it, as it says itself."""
    return read_json(grid / SWEEP).get("command")


def value(word: str) -> Any:
    """What a word of the command line sets: a number, or itself."""
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _known(folder: Path, said: Sequence[Planned]) -> PastRun:
    """A run by its folder, and by the grid that knows of it last."""
    if not said:
        return read(folder)
    by_age = sorted(said, key=lambda point: (point.goes_on, _changed(point.grid / SWEEP)))
    point = by_age[-1]
    grids = tuple(sorted({point.grid for point in said}))
    only_planned = PastRun(folder, "", "", point.values, {}, {}, grids, point.values, is_there=False)
    if not folder.resolve().is_relative_to(point.folder.parent.resolve()):
        out = "its folder is a link that leads out of the experiment's"
        return replace(only_planned, state="unfinished", why=out)
    if not is_run(folder):
        state, why = _without_folder(point)
        return replace(only_planned, state=state, why=why)
    run = replace(read(folder), grids=grids, planned=point.values)
    if run.state in ("finished", "running"):
        return run
    if point.goes_on and point.state in ("waiting", "running"):
        return replace(run, state=point.state, why=f"{run.state} before, {at_step(folder)}")
    if run.state == "paused" and any(one.state in ("waiting", "running") for one in said):  # it was to go on
        return replace(run, state="interrupted")
    silent = run.state == "unfinished"
    is_newer = _changed(point.grid / SWEEP) > _changed(folder / "failure.json")
    other = point.cause and not point.cause.startswith(f"{run.failure.get('error')}:")
    if point.state in ("failed", "interrupted", "paused") and (silent or (is_newer and other)):
        why = ", ".join(part for part in (point.cause, at_step(folder)) if part)
        return replace(run, state=point.state, why=why)
    return run


def _without_folder(point: Planned) -> tuple[str, str]:
    """(state, why) of a point that has left nothing."""
    if point.state == "finished":
        loss = "" if point.loss is None else f" with a loss of {point.loss:.4f}"
        return "absent", f"finished{loss}, and its folder is not here"
    if point.state in ("waiting", "running"):
        return (point.state, "") if point.goes_on else ("never started", "")
    return point.state, point.cause


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
