"""Who goes on, worked out by hand after Algorithm 2 of the paper."""

from __future__ import annotations

from math import inf

import pytest

from sft_research.halving import Trial, best, leader, promotable, ranked


def trials(*losses: list[float], finished: tuple[int, ...] = ()) -> list[Trial]:
    """Each rests at the rung of its last loss."""
    return [Trial(n, len(of) - 1, of, finished=n in finished) for n, of in enumerate(losses)]


def number(trial: Trial | None) -> int | None:
    return trial.number if trial else None


@pytest.mark.parametrize(
    ("losses", "goes_on"),
    [
        ([[3.0], [2.0]], None),  # a third of two is none
        ([[3.0], [2.0], [4.0]], 1),
        ([[3.0], [2.0, 1.0], [4.0]], None),  # the best third has gone on
        ([[3.0], [2.0, 1.0], [4.0], [1.5]], 3),  # a new best does, while the rung has room for one
        ([[3.0], [2.0, 1.0], [4.0], [2.5]], None),
        ([[3.0], [2.0, 1.0], [4.0], [2.5], [5.0], [6.0]], 3),  # of six, two
        ([[2.0], [2.0], [2.0]], 0),  # of equal ones the earliest
        ([[inf], [inf], [inf]], None),
        ([[3.0, 1.2], [2.0, 1.0], [4.0, 1.1], [1.0]], 1),  # the higher rung first, of which 1 is the best
        ([[3.0, 1.2], [2.0, 1.0, 0.5], [4.0, 1.1], [1.0]], 3),
        ([[3.0, inf], [2.0, inf], [4.0, 1.1]], 2),  # a failure has come to its rung, as the worst
    ],
)
def test_the_best_third_of_a_rung_goes_on(losses: list[list[float]], goes_on: int | None) -> None:
    assert number(promotable(trials(*losses), 3)) == goes_on


def test_one_that_was_sent_on_is_not_sent_again() -> None:
    made = trials([3.0], [2.0], [4.0])
    made[1].rung = 1
    assert not made[1].rests
    assert promotable(made, 3) is None


def test_one_that_is_finished_has_no_rung_above() -> None:
    made = trials([3.0, 1.0], [2.0, 0.5], [4.0, 2.0], finished=(1,))
    assert promotable(made, 3) is None  # the best third of both rungs is trial 1
    assert promotable(made, 2) is None  # half of three is one


def test_nine_trials_each_worse_than_the_one_before() -> None:
    """By hand: 0 goes on after 3 trials, 1 after 6, 2 after 9, and then 0 to the end, as one of three."""
    made: list[Trial] = []
    order = []
    for _ in range(13):
        if trial := promotable(made, 3):
            trial.rung += 1
            trial.finished = trial.rung == 2
        elif len(made) < 9:
            trial = Trial(len(made))
            made.append(trial)
        else:
            break
        order.append((trial.number, trial.rung))
        trial.losses.append(1.0 + trial.number - 0.1 * trial.rung)
    begun = [(n, 0) for n in range(9)]
    assert order == [*begun[:3], (0, 1), *begun[3:6], (1, 1), *begun[6:], (2, 1), (0, 2)]


def test_where_too_few_have_come_to_a_rung_the_leader_goes_on() -> None:
    assert number(leader(trials([3.0], [2.0], [4.0]))) == 1
    assert number(leader(trials([3.0, 1.5], [2.0, 1.2], [1.0]))) == 1  # the higher rung before the lower loss
    assert number(leader(trials([3.0, 1.5], [2.0, inf], [1.0]))) == 0
    assert leader(trials([3.0, 1.5], [2.0], finished=(0,))) is None
    assert leader(trials([inf])) is None


def test_the_best_is_one_that_was_trained_to_the_end() -> None:
    assert number(best(trials([3.0, 1.5], [1.0], finished=(0,)))) == 0
    assert number(best(trials([3.0, 1.5], [2.0, 1.4], [1.0]))) == 1
    assert number(best(trials([3.0, inf], [2.0]))) == 1
    assert best(trials([inf])) is None
    # Where budgets are tokens a short run may end below the rung at which a long one rests.
    assert number(best(trials([1.5], [3.0, 1.2], finished=(0,)))) == 0


def test_a_rung_is_ranked_by_its_own_losses() -> None:
    made = trials([3.0, 1.0], [2.0, 1.5], [4.0])
    assert [t.number for t in ranked(made, 0)] == [1, 0, 2]
    assert [t.number for t in ranked(made, 1)] == [0, 1]
