"""A preview in the terminal: colours where there are any, brackets where there are none."""

import re

from sft_research.screen import CONTEXT, SPECIAL, TRAINED, bracketed, coloured, screen
from sft_research.visible import Gap
from tests.previews import PIECES, toy


def test_brackets_hold_what_is_trained_and_bars_end_tokens():
    assert bracketed(PIECES, with_ids=False) == "<|user|>│<1&1>↵²\n⟦ 2│<|end|>⟧"
    assert bracketed(PIECES, with_ids=True) == "<|user|>₁│<1&1>↵²₇,₈\n⟦ 2₂₀│<|end|>₂⟧"
    assert bracketed([PIECES[2], PIECES[0], Gap(70, False)], with_ids=False) == "⟦ 2⟧<|user|>│… 70 tokens …"


def test_colours_say_trained_and_special_in_turns_and_end_before_a_newline():
    assert coloured(PIECES, with_ids=False) == (
        f"\033[{CONTEXT[0]}{SPECIAL}m<|user|>\033[0m\033[{CONTEXT[1]}m<1&1>↵²\033[0m\n"
        f"\033[{TRAINED[0]}m 2\033[0m\033[{TRAINED[1]}{SPECIAL}m<|end|>\033[0m"
    )


def test_the_colours_are_all_that_a_terminal_adds():
    without = re.sub(r"\033\[[\d;]*m", "", screen(toy(examples=[]), colour=True))
    legend = 4
    assert "\033" not in screen(toy(), colour=False)
    kept = [
        [line for number, line in enumerate(text.split("\n")) if number != legend]
        for text in (without, screen(toy(examples=[]), colour=False))
    ]
    assert kept[0] == kept[1]


def test_the_screen_says_which_row_is_shown_and_which_packing_is_the_run_s():
    said = screen(toy(), colour=False)
    assert "\n  Example 2 of 3, the median: 5 tokens, 2 trained\n" in said
    assert "\n    none     3      1           43    36.8%             60          0\n" in said
    assert "\n  > bfd      2      1           43     0.0%             43          0\n" in said


def test_the_histogram_draws_its_tallest_bar_at_full_width():
    lines = screen(toy(), colour=False).split("\n")
    at = lines.index("  Training rows by tokens")
    # 5, 8 and 30 tokens in bars of 5: three bars of one row, each the tallest, and three of none.
    assert lines[at + 1] == f"              5 to 9  {'█' * 40} 2"
    assert lines[at + 2] == "            10 to 14   0"
    assert lines[at + 6] == f"            30 to 34  {'█' * 20} 1"


def test_a_row_that_fills_max_length_is_said_to():
    assert "5 tokens, 2 trained, as long as model.max_length" in screen(toy(max_length=5), colour=False)
