"""The steps of a run as a tracker gets them: each once, and whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sft_research.tracking import Tracker


class Steps:
    """What is logged at a step comes in parts: losses, then an evaluation. A tracker is handed them together."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._step = -1
        self._values: dict[str, float] = {}

    def log(self, values: dict[str, float], step: int) -> None:
        if step != self._step:
            self.flush()
        self._step = step
        self._values |= values

    def flush(self) -> None:
        if self._values:
            self._tracker.log(self._values, self._step)
        self._values = {}

    def where(self) -> str:
        return self._tracker.where()
