"""What a comparison writes down."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from sft_research.compare_files import table, write
from sft_research.comparison import Comparison, compare
from sft_research.past_runs import find
from sft_research.points import METRICS
from sft_research.verdict import verdict
from tests.compared import grid, run
from tests.compared import write as put


def compared(place: Path) -> Comparison:
    return compare(find([place]), METRICS["loss"])


def rows(place: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table(compared(place)))))


def test_every_run_is_a_line_the_missing_ones_too(tmp_path: Path) -> None:
    grid(tmp_path, {(4, 1e-3): [0.5, 0.6], (4, 1e-2): [0.7, 0.8], (8, 1e-3): [0.4, 0.5], (8, 1e-2): [0.3]})
    failed = run(tmp_path, r=16, lr=1e-3)
    (failed / "result.json").unlink()
    put(failed, "failure.json", {"error": "Boom", "message": "m"})
    found = [
        (row["point"], row["seed"], row["state"], row["compared"], row["after_loss"])
        for row in rows(tmp_path)
    ]
    assert (
        "r=8 lr=0.01",
        "0",
        "finished",
        "False",
        "0.3",
    ) in found  # it lacks seed 1, and is held against nothing
    assert ("r=4 lr=0.001", "1", "finished", "True", "0.6") in found
    assert ("r=16 lr=0.001", "0", "failed", "False", "") in found
    assert ("r=8 lr=0.01", "1", "missing", "False", "") in found


def test_a_cell_is_no_formula(tmp_path: Path) -> None:
    run(tmp_path, r=4, alpha="=HYPERLINK(1)")
    run(tmp_path, r=8, alpha="-1+1")
    assert sorted(row["lora.alpha"] for row in rows(tmp_path) if row["run"]) == ["'-1+1", "'=HYPERLINK(1)"]


def test_no_secret_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_thisIsASecret")
    run(tmp_path / "runs", r=4, alpha="hf_thisIsASecret")
    run(tmp_path / "runs", r=8, alpha="r")
    found = compared(tmp_path / "runs")
    written = write(tmp_path / "seen", found, verdict(found), "compare hf_thisIsASecret")
    assert [file.name for _, file in written][:3] == ["compare.html", "runs.csv", "compare.json"]
    for _, file in written:
        assert b"hf_thisIsASecret" not in file.read_bytes()
