"""A point is known wherever it runs: a cluster's worker starts in a directory of its own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from sft_research import lock
from sft_research.point import Point, Process


def test_the_lock_of_a_relative_folder_is_looked_for_where_its_grid_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = Point(("r=8",), Path("runs/r=8"), (), "r=8", cwd=str(tmp_path))
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir("/")
    with lock.held(tmp_path / "runs" / ".r=8.lock", tmp_path):
        assert point.held
    assert not point.held


@pytest.mark.parametrize(("state", "kept"), [("training", False), ("paused", True)])
def test_what_an_earlier_process_noted_is_not_shown_of_a_new_one(
    tmp_path: Path, state: str, kept: bool
) -> None:
    """It notes its own when it has imported its libraries; until then a run that rests does so."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "state.json").write_text(json.dumps({"state": state, "step": 12}))
    Process(Point((), Path("a"), (sys.executable, "-c", ""), "a", cwd=str(tmp_path)), os.environ).ended(
        wait=True
    )
    assert (tmp_path / "a" / "state.json").exists() is kept
