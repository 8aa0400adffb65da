"""Searches whose runs are a formula, and an engine that works them out in the order in which they are started."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from sft_research.asha import search_of
from sft_research.budgets import Rungs
from sft_research.grid import Grid
from sft_research.point import Ended, Point
from sft_research.search import Knobs, Search
from tests.grids import result_of
from tests.test_grid import config as composed

STEPS, TOKENS = 9, 900  # of a whole run
config = cache(composed)  # read alone
Loss = Callable[[dict[str, str], int], float]


def search(*overrides: str, trials: int = 9, smallest: float = 1 / 9, **knobs: Any) -> Search:
    """In the working folder, with rungs of 100, 300 and 900 loss tokens, one run at a time."""
    of = {"sampler": "random", "seed": 0, "parallel": 1} | knobs
    parsed = OverridesParser.create().parse_overrides(["model=tiny", *overrides])
    return search_of(parsed, Knobs(trials, Rungs(smallest, 3), **of), config("model=tiny"))


class Formula:
    """An Engine: `loss(values, loss tokens)` is what a run has come to; a negative one fails. `jobs`: what was run."""

    left = ""

    def __init__(self, loss: Loss) -> None:
        self._loss, self._waiting = loss, deque[Point]()
        self.jobs: list[tuple[str, int]] = []

    def start(self, grid: Grid, points: Sequence[Point]) -> None:
        self._grid = grid
        self._waiting.extend(points)

    def poll(self) -> Iterator[tuple[Point, Ended]]:
        if self._waiting:
            point = self._waiting.popleft()
            yield point, self._trained(point)

    def running(self) -> dict[Point, tuple[str, str | None]]:
        return {}

    def stop(self, number: int) -> None:
        self._waiting.clear()

    @property
    def idle(self) -> bool:
        return not self._waiting

    def _trained(self, point: Point) -> Ended:
        run = self._grid.runs[self._grid.points.index(point)]
        words = dict(word.split("=", 1) for word in point.command if "=" in word)
        at = float(words.get("pause_at", 1.0))
        steps = min(round(at * STEPS if at <= 1 else -(-at // 100)), STEPS)
        tokens = steps * 100
        self.jobs.append((point.label, tokens))
        loss = self._loss(words, tokens)
        if loss < 0:
            return Ended(1, "it cannot be\n")
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / "identity.json").write_text(json.dumps({"id": run.id}))
        row = {"step": steps, "loss_tokens": tokens, "train/loss": loss}
        (run.folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        if steps == STEPS:
            text = result_of(loss, run.id, loss_tokens=tokens, steps=steps)
            (run.folder / "result.json").write_text(text)
        else:
            file = run.folder / "pauses.json"
            before = json.loads(file.read_text()) if file.exists() else []
            noted = {"at": at, "step": steps, "loss_tokens": tokens, "loss": loss}
            file.write_text(json.dumps([*before, noted]))
        return Ended(0, "")
