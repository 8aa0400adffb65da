"""Rows of several sources come in the shares of their weights, each in its own format, and none twice."""

from dataclasses import dataclass, replace

import pytest

from sft_research.check import check
from sft_research.config import ConfigError, build, compose
from sft_research.dataset import Rows
from sft_research.dataset_format import Template
from sft_research.mixture import Mixture, Part
from sft_research.readers import Broken
from sft_research.tokens import encode


@dataclass(frozen=True)
class Made:
    """A source of rows {"a": 0}, {"a": 1}, ..."""

    name: str
    train: int
    held_out: int = 0
    checkable: bool = True

    def load(self):
        train, held_out = ([{self.name: n} for n in range(size)] for size in (self.train, self.held_out))
        return Rows(train, held_out, self.checkable)


def mixture(rows=None, seed=0, **parts):
    """a=(100, 3): 100 rows at weight 3."""
    made = {name: Part(Made(name, size), str, weight) for name, (size, weight) in parts.items()}
    return Mixture(made, rows, seed)


def counts(rows):
    names = [next(iter(row)) for row in rows]
    return {name: names.count(name) for name in sorted(set(names))}


@pytest.mark.parametrize(
    ("rows", "parts", "expected"),
    [
        (None, {"a": (100, 3), "b": (30, 1)}, {"a": 90, "b": 30}),
        (None, {"a": (30, 3), "b": (30, 1)}, {"a": 30, "b": 10}),
        (40, {"a": (100, 3), "b": (30, 1)}, {"a": 30, "b": 10}),
        (120, {"a": (100, 3), "b": (30, 1)}, {"a": 90, "b": 30}),
        (10, {"a": (9, 1), "b": (9, 1), "c": (9, 1)}, {"a": 4, "b": 3, "c": 3}),  # none lost by rounding
        (7, {"a": (9, 0.5), "b": (9, 0.5), "c": (9, 0)}, {"a": 4, "b": 3}),
    ],
)
def test_the_shares_are_those_of_the_weights(rows, parts, expected):
    assert counts(mixture(rows, **parts).load().train) == expected


def test_no_row_is_there_twice_and_each_names_its_part_and_number():
    rows = mixture(a=(5, 1), b=(5, 1)).load().train
    assert len(rows) == 10
    assert {row.where: dict(row) for row in rows} == {
        f"row {n + 1} of {name}": {name: n} for name in ("a", "b") for n in range(5)
    }


def test_more_rows_than_the_scarcest_source_allows_are_refused_with_the_number_that_it_does():
    with pytest.raises(ConfigError) as error:
        mixture(121, a=(100, 3), b=(30, 1)).load()
    assert str(error.value) == (
        "dataset.rows=121 needs 31 rows of b, which has 30. "
        "Fix: dataset.rows=120, or a smaller dataset.parts.b.weight"
    )


def test_another_part_or_weight_changes_nothing_in_the_order_in_which_a_part_is_picked():
    def of_a(made):
        return {row["a"] for row in made.load().train if "a" in row}

    few, more = of_a(mixture(20, a=(100, 1), b=(100, 1))), of_a(mixture(40, a=(100, 3), c=(100, 1)))
    assert (len(few), len(more)) == (10, 30)
    assert few < more


def test_another_seed_picks_other_rows_in_another_order():
    first, other = (mixture(20, seed, a=(100, 1), b=(100, 1)).load().train for seed in (0, 1))
    assert counts(first) == counts(other)
    assert sorted(map(str, first)) != sorted(map(str, other))
    assert mixture(20, 0, a=(100, 1), b=(100, 1)).load().train == first


def test_held_out_rows_come_in_the_same_shares_of_the_parts_that_have_any():
    made = mixture(a=(100, 3), b=(30, 1), c=(10, 1))
    held_out = {"a": 9, "b": 4, "c": 0}
    parts = {
        name: replace(part, source=replace(part.source, held_out=held_out[name]))
        for name, part in made.parts.items()
    }
    assert counts(replace(made, parts=parts).load().held_out) == {"a": 9, "b": 3}


def test_answers_can_be_checked_where_they_can_in_every_part():
    part = Part(Made("a", 1), str, 1)
    assert Mixture({"a": part}, None, 0).load().checkable is True
    unchecked = Part(Made("b", 1, checkable=False), str, 1)
    assert Mixture({"a": part, "b": unchecked}, None, 0).load().checkable is False


def test_each_row_is_read_in_the_format_of_its_part_and_a_broken_one_stays_broken(tokenizers):
    broken = Broken("a.jsonl:1", "broken JSON")

    @dataclass(frozen=True)
    class Source:
        rows: list

        def load(self):
            return Rows(self.rows, [], False)

    parts = {
        "a": Part(Source([{"q": "1+1=", "a": "2"}, broken]), Template("{q}", "{a}"), 2),
        "b": Part(Source([{"text": "2+2=4"}]), Template("", "{text}"), 1),
    }
    encoded = encode(Mixture(parts, None, 0).load().train, str, tokenizers["tiny"], 64, "training")
    assert sorted(example.answer for example in encoded.examples) == ["2", "2+2=4"]
    assert encoded.bad == [broken]


# The option in conf -------------------------------------------------------------------------------


def test_the_mixture_of_conf_has_two_easy_rows_for_a_hard_one():
    run = compose(["model=tiny", "dataset=mixture", "dataset.rows=30", "tracking=none"])
    check(run.cfg)
    rows = build(run.cfg.dataset).load()
    assert sum("of easy" in row.where for row in rows.train) == 20
    assert sum("of hard" in row.where for row in rows.train) == 10
    assert len(rows.held_out) == 96  # all 64 easy ones, half of the hard


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["dataset.parts.easy.weight=-1"],
            "dataset.parts.easy.weight=-1 is no share. Fix: dataset.parts.easy.weight=1",
        ),
        (
            ["dataset.parts.easy.weight=0", "dataset.parts.hard.weight=0"],
            "Every weight of dataset.parts is 0, so there are no rows. Fix: dataset.parts.easy.weight=1",
        ),
        (
            ["+dataset.parts.easy.source.on_bad_row=skip"],
            "dataset.parts.easy.source.on_bad_row=skip would be ignored: the mixture decides. "
            "Fix: dataset.on_bad_row=skip, and ~dataset.parts.easy.source.on_bad_row",
        ),
        (
            ["dataset.on_bad_row=drop"],
            "dataset.on_bad_row=drop: there is no such choice. Fix: dataset.on_bad_row=error or skip",
        ),
        (
            ["dataset.seed=-1"],
            "dataset.seed=-1 is out of range. Fix: dataset.seed=..., a seed, from 0 to 4294967295",
        ),
    ],
)
def test_what_would_not_mix_is_refused_before_anything_loads(overrides, message):
    overrides = ["model=tiny", "dataset=mixture", "tracking=none", *overrides]
    if "+" in overrides[-1]:  # Arithmetic has no such key: a file does
        overrides += [
            "dataset.parts.easy.source._target_=sft_research.dataset.File",
            *(f"~dataset.parts.easy.source.{key}" for key in ("rows", "level")),
            "+dataset.parts.easy.source.path=rows.jsonl",
        ]
    with pytest.raises(ConfigError) as error:
        check(compose(overrides).cfg)
    assert str(error.value) == message
