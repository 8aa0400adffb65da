"""Points are compared where held-out rows, loss tokens, batch, schedule and seeds are the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sft_research.config import ConfigError
from sft_research.contract import common_seeds, effective_batch, groups
from sft_research.past_runs import find
from sft_research.points import METRICS, Point, points, varied
from tests.compared import ROWS, config, metrics, run, write


def grouped(place: Path, *across: str, metric: str = "loss") -> list[tuple[list[str], list[str]]]:
    runs = find([place])
    found, _ = points(runs, varied(runs))
    made = groups(found, METRICS[metric], across)
    return [([point.label for point in group.points], group.differs) for group in made]


def pair(place: Path) -> None:
    run(place, r=4)
    run(place, r=8)


def test_points_that_keep_the_contract_are_one_group(tmp_path: Path) -> None:
    pair(tmp_path)
    assert grouped(tmp_path) == [(["r=4", "r=8"], [])]


@pytest.mark.parametrize(
    ("more", "differs"),
    [
        ({"results": {"loss_tokens": 400}}, "loss tokens: 400, not 300"),
        ({"results": {"steps": 12}, "training__max_steps": 12}, "schedule: 12 steps lr_scheduler_type=linear "
            "max_steps=12, not 6 steps lr_scheduler_type=linear max_steps=6"),
        ({"training__lr_scheduler_type": "cosine"}, "schedule: 6 steps lr_scheduler_type=cosine max_steps=6, not "
            "6 steps lr_scheduler_type=linear max_steps=6"),
    ],
)  # fmt: skip
def test_what_breaks_the_contract_is_labelled_and_apart(
    tmp_path: Path, more: dict[str, Any], differs: str
) -> None:
    pair(tmp_path)
    run(tmp_path, r=16, **more)
    (same, _), (other, said) = grouped(tmp_path)
    assert (len(same), len(other), said) == (2, 1, [differs])


def test_other_rows_or_another_batch_break_it_too(tmp_path: Path) -> None:
    pair(tmp_path)
    run(tmp_path, r=16, rows={**ROWS, "dd": (1, 1.0)})
    wide = run(tmp_path, r=32)
    write(wide, "metrics.jsonl", metrics([2.0, 1.0], examples=16.0))
    said = [differs for _, differs in grouped(tmp_path)]
    assert said[0] == []
    assert [text.partition(" (")[0] for [text] in said[1:]] == [
        "held-out rows: 4 rows",
        "effective batch: 16 rows, not 8 rows",
    ]
    assert "not 3 rows (" in said[1][0]


def test_counts_may_differ_by_a_hundredth(tmp_path: Path) -> None:
    pair(tmp_path)
    run(tmp_path, r=16, results={"loss_tokens": 302})
    run(tmp_path, r=32, results={"loss_tokens": 310})
    assert [labels for labels, _ in grouped(tmp_path)] == [["r=16", "r=4", "r=8"], ["r=32"]]


def test_seeds_that_draw_other_batches_are_compared_each_with_its_own(tmp_path: Path) -> None:
    for r in (4, 8):
        for seed, tokens in ((0, 300), (1, 330)):
            run(tmp_path, r=r, seed=seed, results={"loss_tokens": tokens})
    assert grouped(tmp_path) == [(["r=4", "r=8"], [])]


def test_what_is_asked_about_may_differ_and_rows_never(tmp_path: Path) -> None:
    run(tmp_path, r=4)
    run(tmp_path, r=8, results={"loss_tokens": 400})
    with pytest.raises(ConfigError) as said:
        grouped(tmp_path)
    assert str(said.value) == (
        "No two points can be compared fairly. Against r=4:\n  r=8: loss tokens: 400, not 300\n"
        "Fix: --across tokens, if that is the question"
    )
    assert grouped(tmp_path, "tokens") == [(["r=4", "r=8"], [])]
    shutil.rmtree(tmp_path)
    run(tmp_path, r=4)
    run(tmp_path, r=8, rows={"zz": (1, 1.0)})
    with pytest.raises(
        ConfigError, match=r"held-out rows: 1 rows \(.*\nFix: name runs with the same dataset"
    ):
        grouped(tmp_path, "tokens", "batch", "schedule")


def test_runs_without_losses_of_rows_are_known_by_where_rows_come_from(tmp_path: Path) -> None:
    pair(tmp_path)
    old = run(tmp_path, r=16)
    (old / "held_out.jsonl").unlink()
    assert [labels for labels, _ in grouped(tmp_path)] == [["r=16", "r=4", "r=8"]]
    write(old, "environment.json", {"dataset_fingerprint": "0" * 16})
    assert [labels for labels, _ in grouped(tmp_path)] == [["r=4", "r=8"], ["r=16"]]


def test_questions_are_part_of_it_where_answers_are_compared(tmp_path: Path) -> None:
    pair(tmp_path)
    run(tmp_path, r=16, evaluation__questions=9)
    assert len(grouped(tmp_path)) == 1
    assert grouped(tmp_path, metric="exact_match")[1][1] == [
        "questions asked: 9 of up to 8 tokens, not 2 of up to 8 tokens"
    ]


def test_a_batch_is_what_was_logged_else_what_the_config_says(tmp_path: Path) -> None:
    folder = run(tmp_path, training__gradient_accumulation_steps=4)
    (found,) = find([folder])
    assert effective_batch(found) == 8.0  # 8 examples a step in metrics.jsonl
    (folder / "metrics.jsonl").unlink()
    (found,) = find([folder])
    assert effective_batch(found) == 32.0
    several = config(training__gradient_accumulation_steps=4) | {"devices": 3}
    (folder / "config.yaml").write_text(json.dumps(several))  # which YAML reads too
    (found,) = find([folder])
    assert effective_batch(found) == 96.0  # 3 devices x 8 rows x 4 batches


@pytest.mark.parametrize(
    ("sets", "common"),
    [
        ([{0, 1}, {0, 1}, {0}], [0, 1]),  # 2 x 2 runs against 3 x 1
        ([{0}, {0}, {0}, {0, 1}], [0]),  # 4 x 1 against 1 x 2
        ([{0, 1, 2}, {0, 1}], [0, 1]),  # 2 x 2 against 1 x 3
        ([], []),
        ([{0, 1}, {0}], [0]),  # two can be held against each other on seed 0
        ([{0, 1, 2}, {0}, {1}], [0]),
    ],
)
def test_the_seeds_that_most_runs_have_in_common(sets: list[set[int]], common: list[int]) -> None:
    assert common_seeds([Point({}, "", dict.fromkeys(seeds)) for seeds in sets]) == common  # type: ignore[arg-type]
