"""An example's tokens say on the screen exactly what the tokenizer makes of them."""

import pytest
from hypothesis import example as with_example
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from sft_research.tokens import IGNORED, Example
from sft_research.visible import Gap, Piece, elided, pieces, visible
from tests.toys import example


class Tokenizers(dict):
    def __repr__(self):  # hypothesis prints what a failing test was given
        return ", ".join(self)


@pytest.fixture(scope="session")
def tokenizers(smollm2_folder, qwen3_folder, tiny_folder):
    folders = {"smollm2": smollm2_folder, "qwen3": qwen3_folder, "tiny": tiny_folder}
    return Tokenizers({name: AutoTokenizer.from_pretrained(folder) for name, folder in folders.items()})


def of(tokenizer, prompt, completion):
    ids = [tokenizer(text, add_special_tokens=False).input_ids for text in (prompt, completion)]
    return example(*ids)


@pytest.mark.parametrize("model", ["smollm2", "qwen3", "tiny"])
@given(st.text(), st.text(min_size=1))
@with_example("", "\ufffd" * 7 + "\U000c0000")  # text that holds the mark of unfinished bytes itself
@settings(deadline=None)
def test_the_pieces_together_are_the_text_and_lose_no_token(tokenizers, model, prompt, completion):
    tokenizer = tokenizers[model]
    row = of(tokenizer, prompt, completion)
    made = pieces(row, tokenizer)
    assert "".join(piece.text for piece in made) == tokenizer.decode(row.input_ids)
    assert [id for piece in made for id in piece.ids] == row.input_ids
    with_loss = [piece.trained for piece in made for _ in piece.ids]
    assert with_loss[1:] == [label != IGNORED for label in row.labels[1:]]


def test_a_character_of_several_tokens_is_one_piece(tokenizers):
    made = pieces(of(tokenizers["tiny"], "é?", "語"), tokenizers["tiny"])
    assert [(piece.text, len(piece.ids), piece.at) for piece in made] == [
        ("é", 2, 0),
        ("?", 1, 2),
        ("語", 3, 3),
    ]
    assert [piece.shown() for piece in made] == ["é²", "?", "語³"]


def test_a_character_that_is_cut_in_two_is_shown_as_what_is_left(tokenizers):
    (half,) = tokenizers["tiny"]("é", add_special_tokens=False).input_ids[:1]
    (piece,) = pieces(Example([half], [half], [], ""), tokenizers["tiny"])
    assert (piece.text, len(piece.ids)) == ("\ufffd", 1)


def test_a_half_character_does_not_swallow_the_special_token_behind_it(tokenizers):
    half, _, end = tokenizers["tiny"]("é<|im_end|>", add_special_tokens=False).input_ids
    made = pieces(example([half], [half, end]), tokenizers["tiny"])
    assert [(piece.text, piece.special) for piece in made] == [
        ("\ufffd", False),
        ("\ufffd", False),
        ("<|im_end|>", True),
    ]


def test_special_tokens_are_told_from_text_that_looks_like_them(tokenizers):
    made = pieces(of(tokenizers["smollm2"], "<|im_start|>", "<think>"), tokenizers["smollm2"])
    assert [(piece.text, piece.special) for piece in made] == [
        ("<|im_start|>", True),
        ("<", False),
        ("think", False),
        (">", False),
    ]


def test_the_first_token_has_no_loss_whatever_its_label(tokenizers):
    made = pieces(of(tokenizers["smollm2"], "", "One two"), tokenizers["smollm2"])
    assert [(piece.text, piece.trained) for piece in made] == [("One", False), (" two", True)]


def test_a_key_in_a_row_is_struck_out_with_its_token_numbers(tokenizers, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_Zq81x")
    made = pieces(of(tokenizers["tiny"], "a hf_Zq81x", "b"), tokenizers["tiny"])
    assert [piece.text for piece in made] == ["a", " ", *["***"] * 8, "b"]
    assert [piece.ids for piece in made[2:10]] == [()] * 8


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one two", "one two"),
        (" two", " two"),
        (" ", "·"),
        ("a  b", "a··b"),
        ("\n\n", "↵\n↵\n"),
        ("\t\r\u00a0", "⇥␍⍽"),
        ("\x1b[31mred", "⟨U+001B⟩[31mred"),
        ("a\u202eb\u200d", "a⟨U+202E⟩b⟨U+200D⟩"),
        ("日本 é", "日本 é"),
    ],
)
def test_whitespace_and_control_codes_are_visible(text, shown):
    assert visible(text) == shown


def test_numbers_stand_before_the_newline_they_belong_to():
    piece = Piece("a\n", (12, 3), 0, trained=False, special=False)
    assert piece.shown() == "a↵²\n"
    assert piece.shown(with_ids=True) == "a↵²₁₂,₃\n"


def test_a_long_stretch_keeps_its_ends():
    row = [Piece(str(i), (i, i), 2 * i, trained=i >= 6, special=False) for i in range(9)]
    # Six of context lose the middle four, of two tokens each; three trained ones are no long stretch.
    assert elided(row, 1) == [row[0], Gap(8, False), row[5], *row[6:]]
    assert elided(row, 3) == row
