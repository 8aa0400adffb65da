"""What a person sees of a grid: one line a run that goes on, drawn over in a terminal, and one for each that ended."""

from __future__ import annotations

import shutil
import time
from typing import IO

from sft_research.grid import Became, Grid
from sft_research.point import Point
from sft_research.summary import clock
from sft_research.untrusted import read_json

DRAW_S = 1.0
UP, CLEAR = "\x1b[{}A", "\x1b[J"


class Live:
    """`with Live(grid, console) as live: live.ended(point, became); live.show()`"""

    def __init__(self, grid: Grid, console: IO[str]) -> None:
        self.grid, self.console = grid, console
        self._drawn = 0  # lines on the screen that the next drawing takes the place of
        self._next = 0.0

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        self._wipe()

    def ended(self, point: Point, became: Became) -> None:
        """A line that stays."""
        self._wipe()
        count = sum(b.state not in ("waiting", "running") for b in self.grid.became.values())
        outcome = f"{became.state}: {became.cause}" if became.cause else became.state
        if became.state in ("finished", "paused"):
            outcome = "done" if became.loss is None else f"held-out loss {became.loss:.4f}"
        if became.state == "paused":
            outcome = "rests" if became.loss is None else f"{outcome}, rests"
        print(
            f"[{count}/{len(self.grid.points)}] {point.label}  {outcome}  {point.folder}", file=self.console
        )
        self.console.flush()
        self._next = 0.0

    def show(self) -> None:
        """The runs that go on, at most once a second, where somebody looks."""
        if not self.console.isatty() or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + DRAW_S
        columns, rows = shutil.get_terminal_size()
        running = [point for point, became in self.grid.became.items() if became.state == "running"]
        cells = [self._cells(point) for point in running[: rows - 3]]
        wide = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "".join(f"  {cell:{width}}" for cell, width in zip(row, wide, strict=True) if width)[
                : columns - 1
            ].rstrip()
            for row in cells
        ]
        if more := len(running) - len(lines):
            lines.append(f"... and {more} more")
        self._wipe()
        print("\n".join([*lines, self._total()[: columns - 1]]), file=self.console, flush=True)
        self._drawn = len(lines) + 1

    def _cells(self, point: Point) -> list[str]:
        """What it is, what it does, loss, time left, host."""
        now = read_json(point.folder / "state.json")
        at = f"{now['step']}/{now['steps']}" if now.get("steps") else ""
        loss = f"loss {now['loss']:.3f}" if now.get("loss") is not None else ""
        left = f"{clock(now['left_seconds'])} left" if now.get("left_seconds") is not None else ""
        state = f"{now.get('state', 'starting')} {at}".strip()
        return [point.label, state, loss, left, self.grid.became[point].host or ""]

    def _total(self) -> str:
        states = [became.state for became in self.grid.became.values()]
        order = ("finished", "paused", "failed", "interrupted", "running", "waiting")
        said = [f"{states.count(state)} {state}" for state in order if state in states]
        return f"  {', '.join(said)} of {len(states)} runs"

    def _wipe(self) -> None:
        if self._drawn:
            self.console.write(UP.format(self._drawn) + CLEAR)
            self._drawn = 0
