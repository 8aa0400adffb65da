"""Searches whose runs are a formula, and an engine that works them out in the order in which they are started."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from math import ceil, inf
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from sft_research.asha import search_of
from sft_research.budgets import Rungs
from sft_research.grid import Grid
from sft_research.point import Ended, Point
from sft_research.search import Knobs, Search
from tests.grids import result_of
from tests.test_grid import config as composed

config = cache(composed)  # read alone
Loss = Callable[[dict[str, str], int], float]


def search(
    *overrides: str, trials: int = 9, smallest: float = 1 / 9, reduction: int = 3, **knobs: Any
) -> Search:
    """In the working folder, with rungs of a ninth, a third and a whole run, one run at a time."""
    of = {"sampler": "random", "seed": 0, "parallel": 1} | knobs
    parsed = OverridesParser.create().parse_overrides(["model=tiny", *overrides])
    return search_of(parsed, Knobs(trials, Rungs(smallest, reduction), **of), config("model=tiny"))


class OneByOne:
    """An Engine whose points are `trained` in turn, each within the poll that gives its end."""

    left = ""

    def __init__(self) -> None:
        self._waiting = deque[Point]()

    def start(self, grid: Grid, points: Sequence[Point]) -> None:
        self._grid = grid
        self._waiting.extend(points)

    def poll(self) -> Iterator[tuple[Point, Ended]]:
        if self._waiting:
            point = self._waiting.popleft()
            yield point, self.trained(point)

    def running(self) -> dict[Point, tuple[str, str | None]]:
        return {}

    def stop(self, number: int) -> None:
        self._waiting.clear()

    @property
    def idle(self) -> bool:
        return not self._waiting

    def trained(self, point: Point) -> Ended:
        raise NotImplementedError


class Formula(OneByOne):
    """`loss(values, loss tokens)` is what a run has come to; a negative one fails.

    `tokens`: those seen after each step of a whole run. `jobs`: what was run, and how far.
    """

    def __init__(self, loss: Loss, tokens: Sequence[int] = range(100, 1000, 100)) -> None:
        super().__init__()
        self._loss, self._tokens = loss, tokens
        self.jobs: list[tuple[str, int]] = []

    def trained(self, point: Point) -> Ended:
        run = self._grid.runs[self._grid.points.index(point)]
        words = dict(word.split("=", 1) for word in point.command if "=" in word)
        at = float(words.get("pause_at", inf))
        least = ceil(at * len(self._tokens) - 1e-6) if at < 1 else 1
        seen = enumerate(self._tokens, start=1)
        due = (step for step, tokens in seen if step >= least and (at < 1 or tokens >= at))
        steps = next(due, len(self._tokens))
        tokens = self._tokens[steps - 1]
        self.jobs.append((point.label, tokens))
        loss = self._loss(words, tokens)
        if loss < 0:
            return Ended(1, "it cannot be\n")
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / "identity.json").write_text(json.dumps({"id": run.id}))
        row = {"step": steps, "loss_tokens": tokens, "train/loss": loss}
        (run.folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        if steps == len(self._tokens):
            text = result_of(loss, run.id, loss_tokens=tokens, steps=steps)
            (run.folder / "result.json").write_text(text)
        else:
            file = run.folder / "pauses.json"
            before = json.loads(file.read_text()) if file.exists() else []
            noted = {"at": at, "step": steps, "loss_tokens": tokens, "loss": loss}
            file.write_text(json.dumps([*before, noted]))
        return Ended(0, "")
