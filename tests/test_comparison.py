"""Points ranked, and everything that is not ranked named with its reason."""

from __future__ import annotations

from pathlib import Path

from sft_research.comparison import Comparison, compare
from sft_research.past_runs import find
from sft_research.points import METRICS
from tests.compared import grid, run, write


def compared(place: Path, metric: str = "loss", across: tuple[str, ...] = ()) -> Comparison:
    return compare(find([place]), METRICS[metric], across)


def test_the_best_comes_first_with_mean_and_spread(tmp_path: Path) -> None:
    grid(tmp_path, {(4, 1e-3): [0.5, 0.7], (8, 1e-3): [0.3, 0.5]})
    found = compared(tmp_path)
    assert [row.point.label for row in found.ranked] == ["r=8", "r=4"]
    assert [round(row.mean, 9) for row in found.ranked] == [0.4, 0.6]
    assert round(found.ranked[0].spread or 0, 6) == 0.141421  # of 0.3 and 0.5: 0.2 / sqrt(2)
    assert found.seeds == [0, 1]
    assert dict(found.contract)["seeds"] == "0, 1"
    assert dict(found.contract)["effective batch"] == "8 rows"


def test_more_right_answers_are_better(tmp_path: Path) -> None:
    for r, right in ((4, 0.25), (8, 0.75)):
        folder = run(tmp_path, r=r)
        scores = {"loss": 0.5, "questions": 4, "exact_match": right, "form": 1.0}
        write(folder, "result.json", {**find([folder])[0].result, "after": scores})
    assert [row.point.label for row in compared(tmp_path, "exact_match").ranked] == ["r=8", "r=4"]


def test_seeds_that_not_all_have_are_labelled_and_not_averaged_in(tmp_path: Path) -> None:
    grid(tmp_path, {(4, 1e-3): [0.5, 0.7, 0.9], (8, 1e-3): [0.6, 0.8], (16, 1e-3): [0.1]})
    rows = compared(tmp_path).ranked
    assert [(row.point.label, row.is_whole, row.note) for row in rows] == [
        ("r=4", True, "seed 2 not averaged in"),
        ("r=8", True, ""),
        ("r=16", False, "lacks seed 1"),  # though its only seed is the best of all
    ]
    assert rows[0].mean == 0.6


def test_another_contract_is_a_section_of_its_own(tmp_path: Path) -> None:
    grid(tmp_path, {(4, 1e-3): [0.5], (8, 1e-3): [0.6]})
    run(tmp_path, r=16, loss=0.1, results={"loss_tokens": 900})
    first, second = compared(tmp_path).sections
    assert [row.point.label for row in first.ranked] == ["r=4", "r=8"]
    assert ([row.point.label for row in second.ranked], second.differs) == (
        ["r=16"],
        ["loss tokens: 900, not 300"],
    )


def test_what_has_not_finished_is_named(tmp_path: Path) -> None:
    grid(tmp_path, {(4, 1e-3): [0.5, 0.6], (8, 1e-3): [0.6]})
    failed = run(tmp_path, r=8, seed=1)
    (failed / "result.json").unlink()
    write(failed, "failure.json", {"status": "failed", "error": "E", "message": "m"})
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", "identity.json", {})
    found = compared(tmp_path)
    assert [(one.state, found.labels[one.folder], one.why) for one in found.unfinished] == [
        ("unfinished", f"{tmp_path.name}/empty", "ended without a result, before its first step"),
        ("failed", "r=8", "E: m"),
    ]


def test_nothing_finished_is_a_comparison_of_nothing(tmp_path: Path) -> None:
    (run(tmp_path) / "result.json").unlink()
    assert compared(tmp_path).ranked == []


def test_code_versions_and_machines_are_said_where_they_differ(tmp_path: Path) -> None:
    one = run(tmp_path, r=4)
    other = run(tmp_path, r=8, results={"preflight": "off"})
    for place, git, cpu, version in (
        (one, {"commit": "c" * 40, "diff": ""}, "a cpu", "1"),
        (other, {"commit": "d" * 40, "diff": "+"}, "another", "2"),
    ):
        packages = {"trl": version, "zinc": version}  # of which no number depends on the latter
        write(place, "environment.json", {"git": git, "cpu": cpu, "packages": packages})
    assert compared(tmp_path).notes == [
        "code differs: cccccccccccc, dddddddddddd with changes",
        "trl differs: 1, 2",
        "processor differs: a cpu, another",
        "not proven by preflight: " + f"{tmp_path.name}/{other.name}",
    ]


def test_a_run_without_the_metric_is_left_out_with_its_name(tmp_path: Path) -> None:
    run(tmp_path, r=4)
    run(tmp_path, r=8)
    run(tmp_path, r=16, loss=None)
    found = compared(tmp_path)
    assert [row.point.label for row in found.ranked] == ["r=4", "r=8"]
    assert found.notes == ["without held-out loss, and left out: r=16"]


def test_what_tells_a_stray_run_apart_is_not_said_of_the_others(tmp_path: Path) -> None:
    grid(tmp_path, {(4, 1e-3): [0.5], (8, 1e-3): [0.4]})
    run(tmp_path, r=16, alpha=32, results={"loss_tokens": 900}, model__max_length=128)
    stray = run(tmp_path, r=32, training__max_steps=9)
    (stray / "result.json").unlink()
    found = compared(tmp_path)
    assert found.keys == ["lora.r"]
    assert sorted(found.labels.values()) == ["r=16 alpha=32 max_length=128", "r=32 max_steps=9", "r=4", "r=8"]
    assert [row.point.label for section in found.sections for row in section.ranked] == [
        "r=8",
        "r=4",
        "r=16 alpha=32 max_length=128",
    ]
