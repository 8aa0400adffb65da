"""Runs that differ in their seed alone are one point, named by what varies."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft_research.past_runs import find
from sft_research.points import METRICS, Metric, label, points, sorted_values, varied
from tests.compared import run


def test_seeds_of_one_configuration_are_one_point(tmp_path: Path) -> None:
    for r, seed, loss in ((8, 0, 0.5), (8, 1, 0.7), (16, 0, 0.4)):
        run(tmp_path, r=r, seed=seed, loss=loss)
    runs = find([tmp_path])
    keys = varied(runs)
    found, repeats = points(runs, keys)
    assert keys == ["lora.r"]
    assert repeats == []
    assert {point.label: point.values(METRICS["loss"]) for point in found} == {
        "r=8": {0: 0.5, 1: 0.7},
        "r=16": {0: 0.4},
    }


def test_rank_alpha_and_rate_come_first_and_places_do_not_count(tmp_path: Path) -> None:
    run(tmp_path, r=8, lr=1e-3, training__max_steps=6)
    run(tmp_path, r=4, lr=1e-2, alpha=8, training__max_steps=8)
    assert varied(find([tmp_path])) == ["lora.r", "lora.alpha", "optimizer.lr", "training.max_steps"]


def test_a_seed_of_the_rows_that_follows_the_runs_is_part_of_it(tmp_path: Path) -> None:
    run(tmp_path, seed=0, dataset__seed=0)
    run(tmp_path, seed=1, dataset__seed=1)
    assert varied(find([tmp_path])) == []
    run(tmp_path, seed=2, dataset__seed=0)
    assert varied(find([tmp_path])) == ["dataset.seed"]


def test_a_seed_that_is_there_twice_is_a_repeat(tmp_path: Path) -> None:
    run(tmp_path / "a", loss=0.5)
    run(tmp_path / "b", loss=0.1)
    found, repeats = points(find([tmp_path]), [])
    assert found[0].values(METRICS["loss"]) == {0: 0.5}
    assert [again.name for again in repeats] == ["b/lora.alpha=16,lora.r=8,optimizer.lr=0.001,seed=0"]


def test_a_run_that_has_not_finished_is_no_point(tmp_path: Path) -> None:
    (run(tmp_path) / "result.json").unlink()
    assert points(find([tmp_path]), []) == ([], [])


def test_labels_are_short_where_they_can_be() -> None:
    assert label({"lora.r": 8, "optimizer.lr": 1e-4}) == "r=8 lr=0.0001"
    assert label({"dataset.path": "a", "model.path": "b\x1b"}) == "dataset.path=a model.path=b"
    assert label({f"a.k{i}": i for i in range(8)}) == "k0=0 k1=1 k2=2 k3=3 k4=4 k5=5 and 2 more"
    assert label({}) == "one configuration"


def test_scale_times_learning_rate(tmp_path: Path) -> None:
    run(tmp_path, r=8, alpha=16, lr=1e-3)  # 2 x 0.001
    found, _ = points(find([tmp_path]), [])
    assert found[0].scale_times_lr == 0.002


def test_values_are_sorted_as_a_person_would() -> None:
    assert sorted_values([16, "r", 8.0, 16, None, "2r"]) == [8.0, 16, "2r", None, "r"]


@pytest.mark.parametrize(
    ("metric", "value", "shown", "sign"),
    [(METRICS["loss"], 0.51237, "0.5124", 1), (METRICS["exact_match"], 0.125, "12.5 %", -1)],
)
def test_a_metric_is_written_in_its_unit(metric: Metric, value: float, shown: str, sign: int) -> None:
    assert (metric.shown(value), metric.shown(None), metric.sign) == (shown, "", sign)
