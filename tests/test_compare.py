"""`python -m sft_research.compare` as a person meets it, in a process in which importing torch is fatal."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.command_line import python
from tests.compared import grid, run
from tests.runs import started


def compare(arguments: list[str], cwd: Path) -> CompletedProcess[str]:
    return python(["-m", "sft_research.compare", *arguments], cwd)


def test_help_says_how_and_imports_no_torch(tmp_path: Path) -> None:
    done = compare(["--help"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for said in (
        "FOLDER",
        "--metric {loss,exact_match,form}",
        "--across {tokens,batch,schedule}",
        "--out FOLDER",
    ):
        assert said in done.stdout


def test_a_grid_is_ranked_and_written_down(tmp_path: Path) -> None:
    grid(tmp_path / "runs" / "rank", {(4, 1e-3): [0.60, 0.71, 0.72], (8, 1e-3): [0.40, 0.50, 0.50]})
    done = compare(["runs/rank", "--out", "seen"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1] == "  r=8 is better than r=4 by more than the spread between seeds"
    assert "  page      seen/compare.html\n" in done.stdout
    files = {"compare.html", "compare.json", "runs.csv", "curves.png", "parallel.png"}
    assert {file.name for file in (tmp_path / "seen").iterdir()} == files  # rank alone varies: no map of two
    made = json.loads((tmp_path / "seen" / "compare.json").read_text())
    assert made["command"] == "python -m sft_research.compare runs/rank --out seen"
    assert [point["settings"] for point in made["sections"][0]["points"]] == [{"lora.r": 8}, {"lora.r": 4}]
    with (tmp_path / "seen" / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["lora.r"], row["seed"], row["after_loss"], row["state"]) for row in rows][:2] == [
        ("4", "0", "0.6", "finished"),
        ("4", "1", "0.71", "finished"),
    ]


def test_without_a_place_nothing_is_written(tmp_path: Path) -> None:
    grid(tmp_path / "runs", {(4, 1e-3): [0.6], (8, 1e-3): [0.4]})
    before = sorted(tmp_path.rglob("*"))
    assert compare(["runs"], tmp_path).returncode == 0
    assert [file for file in sorted(tmp_path.rglob("*")) if ".guard" not in str(file)] == before


def test_what_is_unfair_is_refused_with_the_reason(tmp_path: Path) -> None:
    run(tmp_path / "runs", r=4)
    run(tmp_path / "runs", r=8, results={"loss_tokens": 900})
    done = compare(["runs", "--out", "seen"], tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("loss tokens: 900, not 300\nFix: --across tokens, if that is the question\n")
    assert not (tmp_path / "seen").exists()
    asked = compare(["runs", "--across", "tokens"], tmp_path)
    assert asked.returncode == 0
    assert "loss tokens differs, as asked: 300; 900" in " ".join(asked.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none"], "none is not there. Fix: python -m sft_research.compare runs/NAME, a folder of runs\n"),
        (["."], ". holds no run. Fix: name a run's folder, or one of runs, as runs/NAME\n"),
        (["runs", "--out", "file"], "--out file is a file. Fix: --out FOLDER\n"),
    ],
)
def test_a_wrong_place_is_named_with_a_fix(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "file").write_text("")
    done = compare(arguments, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


@pytest.mark.long
def test_an_experiment_is_run_and_answered(tmp_path: Path) -> None:
    """A cut of experiments/lora_rank_alpha_lr.yaml: the tiny model, 2 ranks x 2 learning rates x 2 seeds."""
    cut = ["model=tiny", "backend=transformers", "lora.r=2,4", "lora.alpha=8", "optimizer.lr=1e-3,3e-2"]
    done = started(["experiments=lora_rank_alpha_lr", *cut, "tracking=none"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    compared = compare(["runs/lora_rank_alpha_lr", "--out", "seen"], tmp_path)
    assert compared.returncode == 0, compared.stderr
    made = json.loads((tmp_path / "seen" / "compare.json").read_text())
    (section,) = made["sections"]
    found = [(point["settings"]["lora.r"], point["settings"]["optimizer.lr"]) for point in section["points"]]
    assert sorted(found) == [(2, 0.001), (2, 0.03), (4, 0.001), (4, 0.03)]
    assert {rate for _, rate in found[:2]} == {0.03}  # 12 steps at 0.001 hardly move random weights
    assert "learning rate" in compared.stdout.split("Of the differences between 4 points, ")[1].split("%")[0]
    pictures = {"curves.png", "heatmaps.png", "best_learning_rate.png", "parallel.png"}
    assert {file.name for file in (tmp_path / "seen").glob("*.png")} == pictures
