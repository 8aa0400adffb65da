"""A tracker gets each step once, whole."""

from __future__ import annotations

from sft_research.steps import Steps


class Kept:
    def __init__(self) -> None:
        self.got: list[tuple[int, dict[str, float]]] = []

    def log(self, values: dict[str, float], step: int) -> None:
        self.got.append((step, values))


def test_what_is_logged_at_a_step_in_parts_arrives_together() -> None:
    tracker = Kept()
    steps = Steps(tracker)  # type: ignore[arg-type]
    steps.log({"train/loss": 2.0}, 4)
    steps.log({"eval/loss": 1.5}, 4)
    assert tracker.got == []  # there may be more of step 4
    steps.log({"train/loss": 1.0}, 5)
    assert tracker.got == [(4, {"train/loss": 2.0, "eval/loss": 1.5})]
    steps.flush()
    steps.flush()
    assert tracker.got[1:] == [(5, {"train/loss": 1.0})]
