"""A job tells its run of its end, hands itself back to Slurm when the run has saved, and notes how it ended."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_research.point import LOST
from sft_research.slurm_job import Job
from tests.grids import grid

# Ends by USR2 as a run does that has saved.
SAVING = "import os, signal, sys; signal.signal(signal.SIGUSR2, lambda *_: sys.exit(140)); "
ASKED = "os.kill(os.getppid(), signal.SIGUSR2); signal.pause()"


def noted(code: str, tmp_path: Path, requeue: Callable[..., Any]) -> dict[str, Any]:
    """What a job whose run is this program leaves; `requeue`: what submitit does at USR2."""
    (point,) = grid(tmp_path, {"a": code}).points
    before = signal.signal(signal.SIGUSR2, requeue)
    try:
        Job(point, tmp_path / "note.json")()
    finally:
        signal.signal(signal.SIGUSR2, before)
        note = json.loads((tmp_path / "note.json").read_text())
    return {key: note.get(key) for key in ("status", "tail")}


def test_how_a_run_ended_is_noted(tmp_path: Path) -> None:
    code = "import sys; sys.exit('no such drawer')"
    assert noted(code, tmp_path, signal.default_int_handler) == {"status": 1, "tail": "no such drawer\n"}


@pytest.mark.parametrize("code", [SAVING + ASKED, "import os, signal; " + ASKED])
def test_a_job_is_handed_back_when_its_run_has_saved_or_could_not_yet(code: str, tmp_path: Path) -> None:
    """No end is noted, for it goes on."""
    with pytest.raises(SystemExit) as left:
        noted(code, tmp_path, lambda *_: sys.exit(77))
    assert left.value.code == 77
    assert "status" not in json.loads((tmp_path / "note.json").read_text())


def test_a_run_that_finishes_at_the_signal_is_not_begun_again(tmp_path: Path) -> None:
    code = "import os, signal, sys; signal.signal(signal.SIGUSR2, lambda *_: sys.exit(0)); " + ASKED
    assert noted(code, tmp_path, lambda *_: sys.exit(77)) == {"status": 0, "tail": ""}


def test_a_job_that_slurm_does_not_take_back_says_so(tmp_path: Path) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("timed-out too many times.")

    note = noted(SAVING + ASKED, tmp_path, refuse)
    assert note["status"] == LOST
    assert note["tail"] == (
        "Slurm's time was up, the run has saved, and its job was not requeued: timed-out too many times. "
        "Fix: the same command again, or hydra.launcher.minutes=..., hydra.launcher.requeues=..."
    )
