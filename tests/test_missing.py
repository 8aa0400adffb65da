"""What a grid asks for and nobody has made."""

from __future__ import annotations

import shutil
from pathlib import Path

from sft_research.config import ROOT
from sft_research.missing import missing, planned
from sft_research.past_runs import find
from sft_research.points import varied
from tests.compared import run


def lacking(place: Path) -> list[tuple[list[object], object]]:
    runs = find([place])
    return [(list(at.values()), seed) for at, seed in missing(runs, varied(runs))]


def test_the_rest_of_a_grid_is_missing(tmp_path: Path) -> None:
    for r, lr, seed in ((4, 1e-3, 0), (4, 1e-2, 0), (8, 1e-3, 0), (4, 1e-3, 1), (8, 1e-3, 1)):
        run(tmp_path, r=r, lr=lr, seed=seed)
    failed = run(tmp_path, r=8, lr=1e-2, seed=0)
    (failed / "result.json").unlink()  # it is there, though it has not finished
    assert lacking(tmp_path) == [([4, 0.01], 1), ([8, 0.01], 1)]


def test_values_that_a_search_drew_make_no_grid(tmp_path: Path) -> None:
    for r, lr in ((4, 1e-3), (8, 2e-3), (16, 3e-3)):  # 3 of 9
        run(tmp_path, r=r, lr=lr)
    assert lacking(tmp_path) == []
    (one,) = find([next(iter(tmp_path.iterdir()))])
    assert missing([one], []) == []


def test_an_experiments_own_grid_is_known_from_its_first_run(tmp_path: Path) -> None:
    """experiments/lora_rank.yaml: lora.r 4, 16, 64 and seed 0, 1."""
    first = run(tmp_path / "lora_rank", r=16)
    assert planned(find([tmp_path])) == {"lora.r": [4, 16, 64], "seed": [0, 1]}
    assert lacking(tmp_path) == [([4], 0), ([4], 1), ([16], 1), ([64], 0), ([64], 1)]
    shutil.copytree(first, tmp_path / "other" / "one")
    assert planned(find([tmp_path])) == {}


def test_a_folder_with_another_name_has_no_plan(tmp_path: Path) -> None:
    for name in ("nothing", "demo", ".."):
        run(tmp_path / name, seed=name)
    assert [planned(find([tmp_path / name])) for name in ("nothing", "demo")] == [{}, {}]
    assert (ROOT / "experiments" / "demo.yaml").is_file()
