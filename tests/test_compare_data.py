"""What the page and the pictures are given: bounded, thinned, and nothing that JSON cannot hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sft_research.compare_data import curves, data, score
from sft_research.comparison import compare
from sft_research.pairs import best_of
from sft_research.past_runs import find
from sft_research.points import METRICS
from sft_research.verdict import verdict
from tests.compared import grid, metrics, run, write


def seen(place: Path, metric: str = "loss") -> dict[str, Any]:
    found = compare(find([place]), METRICS[metric])
    return data(found, verdict(found), "the command")


def test_a_step_is_one_place_of_every_curve() -> None:
    assert curves(metrics([2.0, 1.5])) == {
        "step": [1, 2],
        "loss_tokens": [50, 100],
        "seconds": [1.0, 2.0],
        "train/loss": [2.0, 1.5],
        "eval/loss": [None, 1.5],
    }
    assert curves([]) == {}


def test_long_curves_are_thinned_and_keep_their_evaluations_and_end() -> None:
    rows = metrics([1.0] * 2500)
    rows.append({"step": 1001, "eval/loss": 3.0})
    found = curves(rows)
    assert found["step"][:3] == [1, 4, 7]  # every third: 2,500 are at most 1,000
    assert found["step"][-1] == 2500
    assert len(found["step"]) <= 1002
    assert found["eval/loss"][found["step"].index(1001)] == 3.0


def test_what_all_runs_share_is_said_once(tmp_path: Path) -> None:
    grid(tmp_path, {(4, 1e-3): [0.5], (8, 1e-3): [0.4]})
    found = seen(tmp_path)
    assert (found["common"]["lora.alpha"], [run["config"] for run in found["runs"]]) == (
        16,
        [{"lora.r": 4}, {"lora.r": 8}],
    )
    assert found["texts"] == ["1+1?", "2", "7", "4", "8"]
    assert found["runs"][1]["samples"] == [
        {"question": 0, "expected": 1, "before": 2, "after": 4, "right": False}
    ]


def test_a_pair_of_settings_holds_the_best_over_the_others(tmp_path: Path) -> None:
    for alpha, losses in ((8, (0.5, 0.3)), (16, (0.4, 0.6))):
        for lr, loss in zip((1e-3, 1e-2), losses, strict=True):
            run(tmp_path, r=4, lr=lr, loss=loss, alpha=alpha)
    run(tmp_path, r=8, lr=1e-3, loss=0.2, alpha=8)
    found = best_of(compare(find([tmp_path]), METRICS["loss"]), "optimizer.lr", "lora.r")
    means = [[cell and cell["mean"] for cell in row] for row in found["cells"]]
    assert (found["rows"], found["columns"], found["over"]) == ([4, 8], [0.001, 0.01], ["alpha"])
    assert means == [[0.4, 0.3], [0.2, None]]
    assert [(one["row"], one["column"]) for one in seen(tmp_path)["heatmaps"]] == [
        ("lora.r", "optimizer.lr"),
        ("lora.r", "lora.alpha"),
        ("lora.alpha", "optimizer.lr"),
    ]


def test_a_torn_or_hostile_run_is_still_json(tmp_path: Path) -> None:
    run(tmp_path, r=4, alpha=float("nan"))
    other = run(tmp_path, r=8, alpha=float("inf"), results={"command": {"a": 1}, "tokens": "x"})
    write(other, "environment.json", {"git": [1], "packages": 3, "gpus": {"a": 1}})
    write(other, "samples.jsonl", [{"question": 3}, {"question": "x" * 9000, "right": "yes"}])
    failed = run(tmp_path, r=16)
    (failed / "result.json").unlink()
    write(
        failed,
        "failure.json",
        {"error": 1, "message": [2], "cause": {"fixes": [["a=1", "less"], 7]}, "step": "x"},
    )
    found = seen(tmp_path)
    json.dumps(found, allow_nan=False)
    assert max(len(text) for text in found["texts"]) == 1500
    assert [run["fixes"] for run in found["runs"] if run["state"] == "failed"] == [["a=1 less", "7"]]


def test_a_score_is_written_in_its_unit(tmp_path: Path) -> None:
    run(tmp_path)
    assert score(seen(tmp_path), 0.51237) == "0.5124"
    assert score(seen(tmp_path, "exact_match"), 0.5) == "50.0 %"
    assert score(seen(tmp_path), None) == ""
