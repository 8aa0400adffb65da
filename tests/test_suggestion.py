"""What was typed becomes a space, and what is drawn from it depends on the seed and on the trials alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from sft_research.config import ConfigError
from sft_research.halving import Trial
from sft_research.suggestion import Interval, Space, Values, space_of, suggestion


def space(*overrides: str) -> Space:
    return space_of(OverridesParser.create().parse_overrides(list(overrides)))


def test_what_was_typed_is_the_space() -> None:
    made = space(
        "model=tiny",
        "lora.r=8,16,8",
        "optimizer.lr=tag(log, interval(1e-4, 1e-2))",
        "lora.dropout=interval(0, 0.5)",
        "training.warmup_steps=int(interval(0, 4))",
        "optimizer.weight_decay=range(0, 3)",
        "~tracking",
    )
    assert made.varied == {
        "lora.r": ["8", "16"],
        "optimizer.lr": Interval(1e-4, 1e-2, True),
        "lora.dropout": Interval(0.0, 0.5, False),
        "training.warmup_steps": Interval(0, 4, False),
        "optimizer.weight_decay": ["0", "1", "2"],
    }
    assert made.fixed == ("model=tiny", "~tracking")
    assert made.overrides({"lora.r": "8"}) == ("model=tiny", "~tracking", "lora.r=8")


def test_of_two_overrides_of_a_key_the_later_counts() -> None:
    """An experiment's own grid comes first, then what was typed."""
    assert space("lora.r=8,16", "seed=0,1", "lora.r=4").fixed == ("lora.r=4",)
    assert list(space("lora.r=8,16", "seed=0,1", "lora.r=4").varied) == ["seed"]
    assert space("seed=3", "seed=0,1").fixed == ()


@pytest.mark.parametrize(
    ("overrides", "points"),
    [
        (["lora.r=8,16,32", "seed=0,1"], 6),
        (["lora.r=8,16", "training.warmup_steps=int(interval(0, 4))"], 10),
        (["lora.r=8,16", "optimizer.lr=interval(1e-4, 1e-2)"], None),
    ],
)
def test_the_points_of_the_whole_grid(overrides: list[str], points: int | None) -> None:
    assert space(*overrides).grid == points


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=tiny"], "hydra/sweeper=asha searches what varies, and nothing does. Fix: lora.r=8,16,32 or"),
        (
            ["optimizer.lr=tag(log, interval(0, 1))"],
            "optimizer.lr=interval(0.0, 1.0) holds nothing. Fix: a lower end first, above 0 as it is in logarithms",
        ),
        (
            ["optimizer.lr=interval(2, 1)"],
            "optimizer.lr=interval(2.0, 1.0) holds nothing. Fix: a lower end first",
        ),
    ],
)
def test_a_space_that_holds_nothing_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        space(*overrides)
    assert str(refused.value).startswith(said)


def searched(made: Space, sampler: str, seed: int, count: int, again_from: int = 0) -> list[Values]:
    """What is drawn where the loss is the distance of lr from 0.001; `again_from`: a process that begins there."""
    tried: list[tuple[Trial, Values]] = []
    for number in range(count):
        values = suggestion(made, tried, sampler, seed)
        assert values is not None
        loss = abs(math.log10(float(values["optimizer.lr"])) + 3)
        tried.append((Trial(number, 0, [loss]), values))
    return [values for _, values in tried]


LR = ("lora.r=8,16", "optimizer.lr=tag(log, interval(1e-5, 1e-1))")


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_seed_draws_the_same_again_and_another_seed_others(sampler: str) -> None:
    first = searched(space(*LR), sampler, 0, 12)
    assert searched(space(*LR), sampler, 0, 12) == first
    assert searched(space(*LR), sampler, 1, 12) != first
    assert len({tuple(values.items()) for values in first}) == 12


def test_numbers_are_drawn_inside_of_their_interval_in_four_digits() -> None:
    drawn = [values["optimizer.lr"] for values in searched(space(*LR), "random", 0, 20)]
    assert all(1e-5 <= lr <= 1e-1 and float(f"{lr:.4g}") == lr for lr in drawn)
    # In logarithms: of 20 about 10 lie in the lower two of four decades.
    assert 5 <= sum(lr < 1e-3 for lr in drawn) <= 15


def test_tpe_draws_near_the_best_once_it_has_seen_some() -> None:
    def far(sampler: str) -> float:
        drawn = searched(space(*LR), sampler, 0, 40)[20:]
        return sum(abs(math.log10(values["optimizer.lr"]) + 3) for values in drawn) / 20

    # Uniform over four decades the mean distance from the middle is 1 decade.
    assert far("tpe") < 0.6
    assert far("random") > 0.7


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_no_point_is_drawn_twice_and_each_of_a_grid_once(sampler: str) -> None:
    made = space("lora.r=8,16", "optimizer.lr=1e-4,1e-3,1e-2")
    drawn = searched(made, sampler, 0, 6)
    assert {tuple(values.values()) for values in drawn} == {
        (r, lr) for r in ("8", "16") for lr in ("0.0001", "0.001", "0.01")
    }
    assert suggestion(made, [(Trial(n), values) for n, values in enumerate(drawn)], sampler, 0) is None


def test_whole_numbers_too_are_each_drawn_once() -> None:
    made = space("lora.r=int(interval(1, 4))")
    tried: list[Any] = []
    while (values := suggestion(made, tried, "tpe", 0)) is not None:
        tried.append((Trial(len(tried), 0, [1.0]), values))
    assert sorted(values["lora.r"] for _, values in tried) == [1, 2, 3, 4]


def test_trials_that_fail_or_have_come_to_nothing_yet_are_told_too() -> None:
    """None of them may end the search."""
    made = space(*LR)
    tried = [
        (Trial(n, 0, losses), {"lora.r": "8", "optimizer.lr": 10.0**-n})
        for n, losses in ((2, [math.inf]), (3, []), (4, [1.0]))
    ]
    values = suggestion(made, [*tried, *tried, *tried, *tried], "tpe", 0)
    assert values is not None
    assert values["lora.r"] in ("8", "16")
