"""Programs that stand for Slurm's: each says what a test gave it, and notes what it was asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

PROGRAM = """#!/bin/sh
echo "{name} $*" >> '{folder}/calls'
cat '{folder}/{name}.txt'
"""
FAILING = """#!/bin/sh
echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2
exit {status}
"""


def fake(monkeypatch: pytest.MonkeyPatch, folder: Path, says: Mapping[str, str | int]) -> Path:
    """Put these programs first on PATH: `{"squeue": "text", "sacct": 1}`, a number being the status of one that fails.

    Gives the file in which each call is a line.
    """
    folder.mkdir(exist_ok=True)
    for name, said in says.items():
        if isinstance(said, int):
            (folder / name).write_text(FAILING.format(status=said))
        else:
            (folder / f"{name}.txt").write_text(said)
            (folder / name).write_text(PROGRAM.format(name=name, folder=folder))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder / "calls"
