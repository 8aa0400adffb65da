"""A tracker that is down ends no run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sft_research.tracking import About, Tracker

log = logging.getLogger("sft_research")


@dataclass
class Surviving:
    """A tracker whose errors are said once and end no run: the same curves are in metrics.jsonl."""

    tracker: Tracker
    down: str = ""

    def start(self, about: About) -> None:
        self._try("start", about)

    def log(self, values: dict[str, float], step: int) -> None:
        self._try("log", values, step)

    def finish(self, exit_code: int) -> None:
        self._try("finish", exit_code)

    def where(self) -> str:
        return f"metrics.jsonl; {self.down}" if self.down else self.tracker.where()

    def _try(self, verb: str, *given: Any) -> None:
        if self.down and verb != "finish":
            return
        try:
            getattr(self.tracker, verb)(*given)
        except Exception as error:
            if not self.down:
                first = f"{error}".strip().partition("\n")[0]
                self.down = (
                    f"{type(self.tracker).__name__} failed to {verb} ({type(error).__name__}: {first})"
                )
                log.warning("%s. The run goes on, its curves are in metrics.jsonl", self.down)
                log.debug("tracking", exc_info=error)
