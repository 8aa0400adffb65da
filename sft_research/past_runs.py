"""Run folders, read back: finished, failed, interrupted, running, paused, or left half done.

A folder may be torn by a crash or come from a stranger: what cannot be read is absent. No torch is imported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sft_research import held_out, lock
from sft_research.config import ConfigError
from sft_research.untrusted import flat, line, number, parsed, read_json, read_text, read_yaml

DEEPEST = 4  # folders below one that is named: runs/ -> experiment -> run
GRIDS = "grids"  # beside an experiment's runs, where grids keep their own files
MARKS = ("result.json", "identity.json", "config.yaml", "failure.json")  # one of them makes a folder a run's


@dataclass(frozen=True)
class PastRun:
    """One run's folder. `config` is flat: {"lora.r": 8, ...}; `result` is that of result.json, or empty."""

    folder: Path
    state: str  # finished, failed, interrupted, running, paused, unfinished; of a grid also waiting, never started
    why: str  # in one line, where it is not finished
    config: dict[str, Any]
    result: dict[str, Any]
    failure: dict[str, Any] = field(default_factory=dict)
    grids: tuple[Path, ...] = ()  # the folders of the grids that plan it
    planned: dict[str, Any] = field(default_factory=dict)  # what its overrides set there: {"lora.r": 8, ...}
    is_there: bool = True  # or only planned

    @property
    def name(self) -> str:
        return line(f"{self.folder.parent.name}/{self.folder.name}")

    @property
    def seed(self) -> Any:
        return self.config.get("seed", self.planned.get("seed"))

    @cached_property
    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics.jsonl, finite numbers alone."""
        rows = (
            {k: n for k, v in row.items() if (n := number(v)) is not None} for row in self._lines("metrics")
        )
        return [row for row in rows if row]

    @cached_property
    def held_out(self) -> dict[str, tuple[float, float]]:
        """{row: (completion tokens, nats)} of the loss that result.json says; empty where it is not of that."""
        found: dict[str, tuple[float, float]] = {}
        for row in self._lines(Path(held_out.NAME).stem):
            tokens, nll = number(row.get("tokens")), number(row.get("nll"))
            if tokens and tokens > 0 and nll is not None:
                key = str(row.get("row"))[:64]
                before = found.get(key, (0.0, 0.0))  # two equal rows are one of twice the length
                found[key] = (before[0] + tokens, before[1] + nll)
        loss, all_tokens = self.score("loss"), sum(tokens for tokens, _ in found.values())
        if loss is None or not all_tokens:
            return {}
        sums = sum(nll for _, nll in found.values()) / all_tokens
        return found if math.isclose(sums, loss, rel_tol=1e-4) else {}

    @cached_property
    def samples(self) -> list[dict[str, Any]]:
        return list(self._lines("samples"))

    @cached_property
    def environment(self) -> dict[str, Any]:
        return read_json(self.folder / "environment.json")

    def score(self, key: str, when: str = "after") -> float | None:
        """`loss`, `exact_match` or `form` of a finished run."""
        scores = self.result.get(when)
        return number(scores.get(key)) if isinstance(scores, dict) else None

    def _lines(self, stem: str) -> Iterator[dict[str, Any]]:
        for text in read_text(self.folder / f"{stem}.jsonl").splitlines():
            if isinstance(row := parsed(text), dict):
                yield row


def find(places: Sequence[Path]) -> list[PastRun]:
    """Every run in these folders and those below, each once; raises ConfigError where there is none."""
    folders: dict[Path, Path] = {}
    for place in places:
        if not (found := below(place)):
            raise ConfigError(f"{place} holds no run. Fix: name a run's folder, or one of runs, as runs/NAME")
        folders |= {folder.resolve(): folder for folder in found}
    return [read(folder) for folder in folders.values()]


def below(place: Path) -> list[Path]:
    """The folders of runs at and below `place`; raises ConfigError where that is no folder."""
    if not place.is_dir():
        fact = "is a file" if place.exists() else "is not there"
        raise ConfigError(f"{place} {fact}. Fix: python -m sft_research.compare runs/NAME, a folder of runs")
    return list(_below(place, DEEPEST))


def is_run(folder: Path) -> bool:
    return any((folder / mark).is_file() for mark in MARKS)


def read(folder: Path) -> PastRun:
    """One run's folder, whatever is left of it."""
    result, failure = read_json(folder / "result.json"), read_json(folder / "failure.json")
    config = flat(read_yaml(folder / "config.yaml"))
    if config:
        config.setdefault("devices", 1)  # of a folder that is older than the key
    if result and not config:
        return PastRun(folder, "unfinished", "config.yaml cannot be read", {}, {}, failure)
    if result:
        return PastRun(folder, "finished", "", config, result)
    if lock.is_held(lock.of(folder)):
        return PastRun(folder, "running", at_step(folder), config, {})
    if failure:
        state = "interrupted" if failure.get("status") == "interrupted" else "failed"
        return PastRun(folder, state, _cause(failure), config, {}, failure)
    if read_json(folder / "state.json").get("state") == "paused":
        return PastRun(folder, "paused", f"{at_step(folder)}{_loss_there(folder)}", config, {})
    torn = "result.json is torn" if (folder / "result.json").exists() else "ended without a result"
    return PastRun(folder, "unfinished", f"{torn}, {at_step(folder)}", config, {})


def _below(place: Path, deep: int) -> Iterator[Path]:
    if is_run(place):
        yield place
    elif deep:
        for folder in sorted(f for f in place.iterdir() if f.is_dir() and not f.name.startswith(".")):
            if folder.name != GRIDS and "~" not in folder.name:  # which marks an older folder of a run
                yield from _below(folder, deep - 1)


def at_step(folder: Path) -> str:
    """How far its metrics.jsonl got."""
    steps = [row.get("step", 0) for row in PastRun(folder, "", "", {}, {}).metrics]
    return f"at step {max(steps):.0f}" if steps else "before its first step"


def _loss_there(folder: Path) -> str:
    """That of the latest pause, in a search or by `pause_at`."""
    noted = parsed(read_text(folder / "pauses.json"))
    latest = noted[-1] if isinstance(noted, list) and noted else None
    loss = number(latest.get("loss")) if isinstance(latest, dict) else None
    return "" if loss is None else f", held-out loss {loss:.4f}"


def _cause(failure: dict[str, Any]) -> str:
    said = f"{failure.get('error')}: {failure.get('message')}"
    step = f" (step {failure['step']})" if number(failure.get("step")) and "step" not in said else ""
    return line(f"{said}{step}")
