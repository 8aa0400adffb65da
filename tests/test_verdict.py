"""What is said of a comparison: every sentence with numbers worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft_research.comparison import compare
from sft_research.past_runs import find
from sft_research.points import METRICS
from sft_research.verdict import Verdict, _percent, as_plain, verdict
from tests.compared import ROWS, grid, run


def said(place: Path, metric: str = "loss") -> Verdict:
    return verdict(compare(find([place]), METRICS[metric]))


def texts(found: Verdict, kind: str) -> list[str]:
    return [finding.text for finding in found.findings if finding.kind == kind]


def test_a_difference_beyond_the_spread_between_seeds_is_one(tmp_path: Path) -> None:
    # 0.20, 0.21, 0.22: mean 0.21, deviation 0.01, half 4.3027 x 0.01 / sqrt(3) = 0.02484.
    grid(tmp_path, {(4, 1e-3): [0.60, 0.71, 0.72], (8, 1e-3): [0.40, 0.50, 0.50]})
    found = said(tmp_path)
    assert found.title == "r=8 is better than r=4 by more than the spread between seeds"
    assert texts(found, "best") == [
        "held-out loss: r=8 is 0.2100 nats a token lower than r=4 over 3 seeds, paired; 95 % interval of the "
        "difference +0.1852 to +0.2348; with the spread of all points pooled +0.1852 to +0.2348."
    ]
    assert texts(found, "seeds") == []
    assert found.between_seeds is not None
    assert found.between_seeds.value == pytest.approx(0.21)


def test_a_difference_within_the_spread_is_not_and_says_what_would_decide_it(tmp_path: Path) -> None:
    # 0.1, 0.3: mean 0.2, deviation 0.1414; half 12.706 x 0.1 = 1.2706. (0.1414 / 0.2)^2 = 0.5: the least n
    # is 6, as (2.571 + 0.920)^2 x 0.5 = 6.09 > 6 and (2.447 + 0.906)^2 x 0.5 = 5.62 <= 7.
    grid(tmp_path, {(4, 1e-3): [0.5, 0.8], (8, 1e-3): [0.4, 0.5]})
    found = said(tmp_path)
    assert found.title == "Not decided: r=8 is ahead of r=4 by less than the spread between seeds"
    (finding,) = [one for one in found.findings if one.kind == "seeds"]
    assert finding.text == (
        "With the spread of all points, a difference of this size shows in four cases of five with 7 seeds. That is 10 "
        "more runs:"
    )
    base = (
        "python -m sft_research.train -m model=tiny lora.r={} lora.alpha=16 optimizer.lr=0.001 seed=2,3,4,5,6"
    )
    assert finding.commands == [base.format(8), base.format(4)]


def test_equal_points_are_called_equal(tmp_path: Path) -> None:
    grid(tmp_path, {(4, 1e-3): [0.5, 0.6001], (8, 1e-3): [0.6, 0.5]})
    found = said(tmp_path)
    assert found.title == "r=8 and r=4 are equal within the spread between seeds"
    assert texts(found, "seeds") == ["Even 200 seeds would hardly tell the two apart: take either."]


def test_two_seeds_decide_where_all_points_spread_little(tmp_path: Path) -> None:
    # Own: 0.01, 0.012, half 12.706 x 0.001 = 0.0127 > 0.011. Six points together: the spread is small.
    losses = {(r, 1e-3): [0.5 + r / 100, 0.6 + r / 100] for r in (4, 5, 6, 7)}
    grid(tmp_path, {**losses, (2, 1e-3): [0.500, 0.600], (3, 1e-3): [0.510, 0.612]})
    found = said(tmp_path)
    assert found.title == "r=2 is better than r=3, if seeds spread there as they do in all points"
    assert not any("Not clearly worse" in text for text in texts(found, "best"))


def test_points_that_are_level_with_the_best_are_named(tmp_path: Path) -> None:
    grid(
        tmp_path,
        {(2, 1e-3): [0.50, 0.60], (3, 1e-3): [0.51, 0.60], (4, 1e-3): [0.50, 0.62], (5, 1e-3): [5.0, 5.1]},
    )
    assert texts(said(tmp_path), "best")[1] == "Not clearly worse than it either: r=4."


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    grid(tmp_path, {(4, 1e-3): [0.5], (8, 1e-3): [0.4]})
    found = said(tmp_path)
    assert found.title == "Not decided: r=8 is ahead of r=4, with one seed each"
    (finding,) = [one for one in found.findings if one.kind == "seeds"]
    assert (
        finding.text == "With one seed there is no spread to hold a difference against. That is 4 more runs:"
    )
    assert finding.commands[0].endswith("lora.r=8 lora.alpha=16 optimizer.lr=0.001 seed=1,2")


def test_other_rows_are_asked_of_by_resampling(tmp_path: Path) -> None:
    # Every row is better by the same 0.1 a token: so is every sample of rows.
    grid(tmp_path, {(4, 1e-3): [0.6], (8, 1e-3): [0.3]})
    found = said(tmp_path)
    assert found.between_rows is not None
    assert (found.between_rows.value, found.between_rows.n) == (pytest.approx(0.3), 3)
    assert texts(found, "rows")[0].startswith("On other held-out rows like these 3 the order holds: ")
    for folder in tmp_path.iterdir():
        (folder / "held_out.jsonl").unlink()
    assert texts(said(tmp_path), "rows") == [
        "The runs do not say the loss of each held-out row, so nothing is said of other rows like these."
    ]


def test_one_row_that_makes_the_difference_could_turn(tmp_path: Path) -> None:
    run(tmp_path, r=4, loss=0.5, rows=ROWS)
    run(tmp_path, r=8, loss=0.4, rows={"aa": (2, 0.0), "bb": (3, 2.0), "cc": (5, 2.0)})
    assert " the order could turn: " in texts(said(tmp_path), "rows")[0]


def test_a_best_value_at_an_edge_says_where_to_go_on(tmp_path: Path) -> None:
    grid(tmp_path, {(r, lr): [lr * 100 + r / 100] for r in (4, 8, 16) for lr in (1e-3, 2e-3, 4e-3)})
    low = [one for one in said(tmp_path).findings if one.kind == "edge"]
    assert [one.text for one in low] == [
        "The best rank, 4, is the lowest of 3 tried: try lower ranks.",
        "The best learning rate, 0.001, is the lowest of 3 tried: try lower learning rates.",
    ]
    base = "python -m sft_research.train -m model=tiny "
    assert low[0].commands == [base + "lora.alpha=16 optimizer.lr=0.001 lora.r=2 seed=0"]
    assert low[1].commands == [base + "lora.r=4 lora.alpha=16 optimizer.lr=0.0005 seed=0"]


def test_a_best_value_inside_of_its_grid_is_no_edge(tmp_path: Path) -> None:
    grid(tmp_path, {(8, 1e-3): [0.5], (8, 2e-3): [0.4], (8, 4e-3): [0.5]})
    assert texts(said(tmp_path), "edge") == []


def test_a_value_that_failed_is_not_tried_again_as_an_edge(tmp_path: Path) -> None:
    grid(tmp_path, {(8, 1e-4): [0.5], (8, 1e-3): [0.4]})
    failed = run(tmp_path, lr=1e-2)
    (failed / "result.json").unlink()
    (failed / "failure.json").write_text('{"error": "Diverged", "message": "loss 40 at step 3"}')
    assert texts(said(tmp_path), "edge") == []


def test_a_best_product_inside_is_no_edge_of_its_factors(tmp_path: Path) -> None:
    """0.032 is best, and 0.064 was tried: a higher rate alone would be more of the same product."""
    loss = {0.008: 0.9, 0.016: 0.6, 0.032: 0.2, 0.064: 0.3}
    for alpha in (8, 16):
        for lr in (1e-3, 2e-3, 4e-3):
            run(tmp_path, alpha=alpha, lr=lr, loss=loss[round(alpha * lr, 6)])
    assert texts(said(tmp_path), "edge") == []


def test_as_many_numbers_as_points_explain_nothing(tmp_path: Path) -> None:
    """As of a search, which draws each learning rate once."""
    grid(tmp_path, {(4, 1e-4): [0.5], (8, 2e-4): [0.4], (4, 3e-4): [0.6], (8, 4e-4): [0.3]})
    assert texts(said(tmp_path), "effects") == []


def test_what_matters_and_whether_it_is_the_product_alone(tmp_path: Path) -> None:
    # alpha is 16: scale x rate is 16 / r x lr. The loss follows it: 4 and 1e-3 is as 8 and 2e-3.
    loss = {4: 0.3, 2: 0.5, 1: 0.6}
    losses = {
        (r, lr): [loss[round(8 / r * lr * 1e3)] + seed * 0.1 for seed in (0, 1)]
        for r in (4, 8)
        for lr in (1e-3, 2e-3)
    }
    losses[4, 1e-3][0] += 0.001  # else there is no spread at all
    found = said(grid(tmp_path, losses))
    assert found.product is not None
    assert (found.product.products, found.product.points, found.product.is_all) == (3, 4, True)
    assert texts(found, "product")[0].startswith(
        "Scale x learning rate alone explains 100% of the differences, with 3 values in place of 4 points (100% "
        "adjusted for their number); what it leaves out is within the spread between seeds (lack of fit, p = "
    )
    assert texts(found, "effects")[0].startswith("Of the differences between 4 points, ")
    assert {effect.key for effect in found.effects} == {"lora.r", "optimizer.lr"}


def test_a_product_of_alpha_and_rate_is_told_from_that_of_the_scale(tmp_path: Path) -> None:
    # The loss follows alpha x rate: 4 at 0.016 and 0.032 is as 8. Scale x rate is another: 8 and 2e-3 is as 4 and 1e-3.
    for r in (4, 8):
        for lr, loss in ((1e-3, 0.6), (2e-3, 0.3)):
            for seed in (0, 1):
                run(tmp_path, r=r, lr=lr, seed=seed, loss=loss + seed * 0.1)
    run(tmp_path, r=4, lr=4e-3, seed=0, loss=0.2)
    run(tmp_path, r=4, lr=4e-3, seed=1, loss=0.302)
    of_scale, of_alpha = texts(said(tmp_path), "product")
    # Means .65, .35, .65, .35, .251: .35 and .65 share a product, and leave 0.3^2 / 2 = 0.045 of 0.1396 in all.
    assert of_scale.startswith(
        "Scale x learning rate alone explains 68% of the differences, with 4 values in place of 5 points (0% adjusted"
    )
    assert "more than the spread between seeds" in of_scale
    assert of_alpha.startswith(
        "Alpha x learning rate, without the rank, alone explains 100% of the differences, with 3 values in place of 5"
    )
    assert of_alpha.endswith(": it is all.")


def test_nearly_all_is_not_all() -> None:
    assert [_percent(share) for share in (0.834, 0.994, 0.9951, 0.9996, 1.0)] == [
        "83%",
        "99%",
        "99.5%",
        "99.9%",
        "100%",
    ]


def test_points_that_share_no_product_cannot_tell(tmp_path: Path) -> None:
    grid(tmp_path, {(4, 1e-3): [0.5], (4, 3e-3): [0.4], (8, 1e-3): [0.3]})
    assert texts(said(tmp_path), "product")[0] == (
        "No two of 3 points share a scale x learning rate: whether it is all cannot be told."
    )


def test_no_edge_is_called_where_the_next_value_is_level(tmp_path: Path) -> None:
    # Seeds spread by 0.01 and less; rank 8 is level with 4, and 1e-3 is 0.3 above 2e-3.
    losses = {
        (4, 1e-3): [0.50, 0.61],
        (4, 2e-3): [0.20, 0.30],
        (8, 1e-3): [0.51, 0.60],
        (8, 2e-3): [0.205, 0.30],
    }
    edges = texts(said(grid(tmp_path, losses)), "edge")
    assert edges == ["The best learning rate, 0.002, is the highest of 2 tried: try higher learning rates."]


def test_a_point_ahead_that_lacks_a_seed_is_named_with_its_command(tmp_path: Path) -> None:
    grid(tmp_path, {(4, 1e-3): [0.5, 0.6], (8, 1e-3): [0.4, 0.5], (16, 1e-3): [0.1]})
    texts_and_commands = [(one.text, one.commands) for one in said(tmp_path).findings if "lacks" in one.text]
    command = "python -m sft_research.train -m model=tiny lora.r=16 lora.alpha=16 optimizer.lr=0.001 seed=1"
    assert texts_and_commands == [
        ("r=16 is ahead of it on the seeds that it has; it lacks seed 1:", [command])
    ]


def test_points_without_a_common_seed_are_not_held_against_each_other(tmp_path: Path) -> None:
    run(tmp_path, r=4, seed=0)
    run(tmp_path, r=8, seed=1)
    found = said(tmp_path)
    assert found.title == "Only r=4 has seed 0: no point can be held against it"
    (finding,) = [one for one in found.findings if one.kind == "seeds"]
    assert finding.text == "r=8 lacks seed 0:"
    assert finding.commands[0].endswith("lora.r=8 lora.alpha=16 optimizer.lr=0.001 seed=0")


def test_a_point_is_ahead_only_of_what_the_best_has_on_the_same_seeds(tmp_path: Path) -> None:
    # Seed 0 is easy for all: 0.45 is below the best's mean of 0.5, and above its 0.4.
    grid(tmp_path, {(4, 1e-3): [0.4, 0.6], (8, 1e-3): [0.5, 0.7], (16, 1e-3): [0.45]})
    assert not any("ahead of it" in finding.text for finding in said(tmp_path).findings)


def test_runs_that_nobody_made_come_with_their_commands(tmp_path: Path) -> None:
    grid(tmp_path, {(4, 1e-3): [0.5, 0.6], (4, 1e-2): [0.5], (8, 1e-3): [0.4, 0.5]})
    (finding,) = [one for one in said(tmp_path).findings if one.kind == "missing"]
    assert finding.text == "3 runs of the grid are missing; the grid's own command makes them, or:"
    ends = [command.partition("model=tiny ")[2] for command in finding.commands]
    assert sorted(ends) == [
        "lora.alpha=16 lora.r=4 optimizer.lr=0.01 seed=1",
        "lora.alpha=16 lora.r=8 optimizer.lr=0.01 seed=0,1",
    ]


def test_too_little_to_compare_is_said(tmp_path: Path) -> None:
    first = run(tmp_path, r=4)
    assert said(tmp_path).title == "Only one configuration has finished: there is nothing to compare it with"
    (first / "result.json").unlink()
    assert said(tmp_path).title == "No run has finished"


def test_right_answers_are_counted_in_points(tmp_path: Path) -> None:
    for r, shares in ((4, (0.25, 0.5)), (8, (0.5, 1.0))):
        for seed, share in enumerate(shares):
            scores = {"loss": 0.5, "questions": 4, "exact_match": share, "form": 1.0}
            run(tmp_path, r=r, seed=seed, results={"after": scores})
    found = said(tmp_path, "exact_match")
    assert texts(found, "best")[0].startswith(
        "right answers: r=8 is 37.5 points higher than r=4 over 2 seeds, paired;"
    )
    assert texts(found, "rows") == []


def test_the_verdict_is_plain_for_json(tmp_path: Path) -> None:
    grid(tmp_path, {(4, 1e-3): [0.5, 0.7], (8, 1e-3): [0.4, 0.5]})
    plain = json.loads(json.dumps(as_plain(said(tmp_path))))
    assert plain["second_minus_best_over_seeds"]["value"] == pytest.approx(0.15)
    assert plain["effects"][0]["means"] == [[4, pytest.approx(0.6)], [8, pytest.approx(0.45)]]
