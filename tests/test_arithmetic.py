"""Generated questions are right, seeded, and never on both sides."""

import re

import pytest

from sft_research.arithmetic import DIFFERENCES, SUMS, Arithmetic, question, working
from sft_research.config import ConfigError

LEVELS = ["easy", "hard", "mixed"]


def numbers(text):
    return [int(number) for number in re.findall(r"\d+", text)]


@pytest.fixture(params=LEVELS)
def rows(request):
    return Arithmetic(rows=300, held_out=50, level=request.param, seed=7).load()


def all_of(rows):
    return [*rows.held_out, *rows.train]


@pytest.mark.parametrize(
    ("a", "b", "steps"),
    [
        (59, 63, "59 + 60 = 119, and 119 + 3 = 122."),
        (85, -27, "85 - 20 = 65, and 65 - 7 = 58."),
        (500, 345, "500 + 300 = 800, and 800 + 40 = 840, and 840 + 5 = 845."),
        (90, 30, "90 + 30 = 120."),
        (412, -207, "412 - 200 = 212, and 212 - 7 = 205."),
        (44, -44, "44 - 40 = 4, and 4 - 4 = 0."),
    ],
    ids=["sum", "difference", "hundreds", "no-ones", "no-tens", "nothing-left"],
)
def test_the_working_goes_by_hundreds_tens_and_ones(a, b, steps):
    assert working(a, b) == steps


@pytest.mark.parametrize(
    ("template", "asked", "response"),
    [
        (SUMS[0], "Calculate 63 plus 59.", "122"),
        (SUMS[1], "What is 63 + 59?", "122"),
        (SUMS[2], "Add 59 to 63.", "122"),
        (SUMS[3], "Tom has 63 marbles and gets 59 more. How many has he now?", "122"),
        (DIFFERENCES[0], "Calculate 63 minus 59.", "4"),
        (DIFFERENCES[1], "What is 63 - 59?", "4"),
        (DIFFERENCES[2], "Subtract 59 from 63.", "4"),
        (DIFFERENCES[3], "Ann has 63 stamps and gives 59 away. How many are left?", "4"),
    ],
)
def test_each_template_asks_for_the_larger_number_and_the_smaller(template, asked, response):
    row = question(63, 59, lambda templates: templates[templates.index(template)])
    assert (row["instruction"], row["response"]) == (asked, response)


def test_every_template_is_used_and_tested_above():
    assert len(SUMS) == len(DIFFERENCES) == 4
    made = all_of(Arithmetic(rows=300, held_out=0, level="easy", seed=7).load())
    said = {re.sub(r"\d+", "#", row["instruction"]) for row in made}
    assert said == {template.format(a="#", b="#") for template in (*SUMS, *DIFFERENCES)}


def test_every_response_is_the_sum_or_difference_of_the_numbers_in_its_question(rows):
    kinds = {True: 0, False: 0}
    for row in all_of(rows):
        text = row["instruction"]
        is_sum = any(word in text for word in ("plus", "+", "Add", "more"))
        low, high = sorted(numbers(text))
        assert (text, row["response"]) == (text, str(high + low if is_sum else high - low))
        kinds[is_sum] += 1
    assert min(kinds.values()) > 100  # of 350, half of each kind are expected


def test_every_line_of_working_is_true_and_leads_from_the_question_to_the_response(rows):
    for row in all_of(rows):
        at = max(numbers(row["instruction"]))
        for step in row["thinking"].removesuffix(".").split(", and "):
            a, sign, b, _, after = step.split(" ")
            assert int(a) == at
            at = int(a) + int(b) if sign == "+" else int(a) - int(b)
            assert int(after) == at
        assert str(at) == row["response"]


def test_no_pair_of_operands_appears_twice_so_none_is_on_both_sides(rows):
    pairs = [tuple(sorted(numbers(row["instruction"]))) for row in all_of(rows)]
    assert len(pairs) == len(set(pairs)) == 350


def test_there_are_as_many_rows_as_asked_for_and_they_are_checkable(rows):
    assert (len(rows.train), len(rows.held_out), rows.checkable) == (300, 50, True)


@pytest.mark.parametrize(
    ("level", "digits"), [("easy", [2, 2, 2, 2]), ("hard", [3, 3, 3, 3]), ("mixed", [2, 3, 2, 3])]
)
def test_the_level_sets_the_digits_and_mixed_takes_turns(level, digits):
    made = Arithmetic(rows=4, held_out=0, level=level, seed=0).load().train
    lengths = [{len(str(number)) for number in numbers(row["instruction"])} for row in made]
    assert lengths == [{length} for length in digits]


def test_a_seed_gives_the_same_rows_on_every_machine():
    made = Arithmetic(rows=2, held_out=1, level="easy", seed=0).load()
    assert made.held_out == [
        {
            "instruction": "Calculate 63 plus 59.",
            "thinking": "63 + 50 = 113, and 113 + 9 = 122.",
            "response": "122",
        }
    ]
    assert [row["instruction"] for row in made.train] == [
        "Ann has 75 stamps and gives 43 away. How many are left?",
        "Ann has 61 stamps and gives 48 away. How many are left?",
    ]


def test_another_seed_gives_other_rows_and_more_rows_keep_the_first():
    few, many, other = (
        Arithmetic(rows, held_out=20, level="easy", seed=seed).load()
        for rows, seed in [(10, 0), (100, 0), (10, 1)]
    )
    assert (many.held_out, many.train[:10]) == (few.held_out, few.train)
    assert other.held_out != few.held_out


# Mixed rows are half easy, and of two-digit pairs there are 4,095: 9,000 mixed rows are never found.
@pytest.mark.parametrize(("level", "possible"), [("easy", 3_000), ("mixed", 6_000), ("hard", 100_000)])
def test_more_questions_than_there_are_pairs_are_refused_with_the_number_that_fits(level, possible):
    with pytest.raises(ConfigError) as error:
        Arithmetic(rows=possible - 63, held_out=64, level=level, seed=0).load()
    assert str(error.value) == (
        f"dataset.rows={possible - 63} + dataset.held_out=64 are more than the {possible} different questions "
        f"of dataset.level={level}. Fix: dataset.rows={possible - 64}"
    )


@pytest.mark.parametrize(
    ("rows", "held_out", "fix"),
    [
        (2_999, 2, "dataset.rows=2998"),
        (1, 3_000, "dataset.rows=1 dataset.held_out=64"),
        (1_000, 5_000, "dataset.rows=1000 dataset.held_out=64"),
        (4_000, 5_000, "dataset.rows=2936 dataset.held_out=64"),
    ],
)
def test_the_fix_leaves_both_sides_some_of_the_3000_questions(rows, held_out, fix):
    with pytest.raises(ConfigError) as error:
        Arithmetic(rows, held_out, level="easy", seed=0).load()
    assert str(error.value).endswith(f" Fix: {fix}")


@pytest.mark.parametrize(("level", "possible"), [("easy", 3_000), ("mixed", 6_000)])
def test_the_most_that_is_allowed_can_be_drawn(level, possible):
    made = Arithmetic(rows=possible - 64, held_out=64, level=level, seed=0).load()
    assert len(made.train) == possible - 64
