"""A tracker that is down ends no run, and its curves are kept here."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from sft_research.recording import recording
from sft_research.surviving import Surviving
from sft_research.tracking import About
from tests.runs import TINY, train


class Down:
    """A tracker that fails in some of its verbs, and notes what it was asked."""

    def __init__(self, *verbs: str) -> None:
        self.verbs, self.asked = verbs, []

    def _do(self, verb: str) -> None:
        self.asked.append(verb)
        if verb in self.verbs:
            raise ConnectionError(f"no way to {verb}\nand more")

    def start(self, about: About) -> None:
        self._do("start")

    def log(self, values: dict[str, float], step: int) -> None:
        self._do("log")

    def finish(self, exit_code: int) -> None:
        self._do("finish")

    def where(self) -> str:
        return "elsewhere"


@pytest.mark.parametrize(
    ("verb", "asked", "where"),
    [
        (
            "start",
            ["start", "finish"],
            "metrics.jsonl; Down failed to start (ConnectionError: no way to start)",
        ),
        (
            "log",
            ["start", "log", "finish"],
            "metrics.jsonl; Down failed to log (ConnectionError: no way to log)",
        ),
        ("", ["start", "log", "log", "finish"], "elsewhere"),
    ],
)
def test_what_fails_is_said_once_and_asked_no_more(
    verb: str, asked: list[str], where: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    down = Down(verb, "finish") if verb else Down()
    with (
        caplog.at_level(logging.WARNING, "sft_research"),
        recording(down, About("a", "b", tmp_path, {})) as tracker,
    ):
        tracker.log({"x": 1.0}, 1)
        tracker.log({"x": 1.0}, 2)
    assert (down.asked, tracker.where()) == (asked, where)
    said = [f"{where.partition('; ')[2]}. The run goes on, its curves are in metrics.jsonl"] if verb else []
    assert caplog.messages == said


def test_ctrl_c_in_a_tracker_is_not_taken_for_its_failure() -> None:
    class Stopped(Down):
        def log(self, values: dict[str, float], step: int) -> None:
            raise KeyboardInterrupt

    tracker: Any = Surviving(Stopped())
    with pytest.raises(KeyboardInterrupt):
        tracker.log({}, 1)


def test_a_run_ends_well_where_the_server_of_wandb_is_down(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    keys = {"WANDB_API_KEY": "local-" + "0" * 40, "WANDB_BASE_URL": f"http://127.0.0.1:{port}"}
    overrides = [
        *TINY,
        "backend=transformers",
        "tracking=wandb",
        "tracking.mode=online",
        "training.max_steps=2",
    ]
    done = train(overrides, tmp_path, WANDB_INIT_TIMEOUT="4", **keys)
    assert done.status == 0, done.out + done.err
    assert "W&B cannot be reached (" in done.out
    assert "W&B is offline; to upload: wandb sync" in done.out
    assert [row["step"] for row in done.metrics if "train/loss" in row] == [1, 2]
