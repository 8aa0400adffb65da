"""What a format stumbles over in a row is named with the row, and the other rows go on."""

import pytest

from sft_research.dataset_format import Conversation, Template, Text
from sft_research.pieces import Pieces, pieces_of
from sft_research.readers import Broken, Row

ASK, SAY = {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}


def taken(rows, to_example, tokenizer):
    bad = []
    made = list(pieces_of(rows, to_example, tokenizer, "held-out", bad))
    assert len(made) + len(bad) == len(rows)
    return made, bad


def test_a_conversation_is_its_contexts_and_its_answers_in_turn(tokenizers):
    turns = Conversation([ASK, SAY, ASK, SAY], [1, 3])
    (made,), _ = taken([turns], lambda row: row, tokenizers["tiny"])
    asked = "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    assert made == Pieces(
        "row 1 of the held-out rows",
        [(asked, None), ("2<|im_end|>", "2"), (f"\n{asked}", None), ("2<|im_end|>", "2")],
        begin=[],
        end=[],
        is_conversation=True,
    )
    assert made.to_tokenize == [asked, "2<|im_end|>", f"\n{asked}", f"{asked}2<|im_end|>\n{asked}2<|im_end|>"]


def test_a_row_is_named_by_its_place_and_a_broken_one_by_its_own_reason(tokenizers):
    row = Row({"q": "1+1=", "a": None})
    row.where = "sums.jsonl:7"
    rows = [{"q": "1+1=", "a": "2"}, row, Broken("sums.jsonl:8", "broken JSON"), {"q": "1+1="}]
    made, bad = taken(rows, Template("{q}", "{a}"), tokenizers["tiny"])
    assert [piece.where for piece in made] == ["row 1 of the held-out rows"]
    assert bad == [
        Broken("sums.jsonl:7", "column 'a' is null"),
        Broken("sums.jsonl:8", "broken JSON"),
        Broken("row 4 of the held-out rows", "no column 'a'; it has q"),
    ]


def test_a_row_with_a_format_of_its_own_is_read_in_it(tokenizers):
    row = Row({"x": "1+1=2"})
    row.format = Template("", "{x}")
    (made,), _ = taken([row], Template("{q}", "{a}"), tokenizers["tiny"])
    assert made.texts == [("", None), ("1+1=2", "1+1=2")]


# A format of one's own is any callable, so what it raises need not be a BadRow.
@pytest.mark.parametrize(
    ("to_example", "reason"),
    [
        (lambda row: Text(row["q"], "2"), "KeyError: 'q'"),
        (lambda row: Text("1+1=" + row["n"], "2"), 'TypeError: can only concatenate str (not "int") to str'),
        (lambda row: Text(row["n"].strip(), "2"), "AttributeError: 'int' object has no attribute 'strip'"),
        (lambda row: Text(str(row["n"] / 0), "2"), "ZeroDivisionError: division by zero"),
        (lambda row: {"prompt": "1+1="}, "the format made a dict of it, no Conversation and no Text"),
        (lambda row: Text("1+1=", row["n"]), "TypeError: sequence item 1: expected str instance, int found"),
        (lambda row: Text("", "\ud83d"), r"it holds half a character ('\ud83d'), which no tokenizer takes"),
        (
            lambda row: Text("", "a" * 10_485_761),
            "a text of 10,485,761 characters, where the most is 10,485,760",
        ),
        (
            lambda row: Conversation([ASK, SAY], []),
            "the format made a conversation of it without a trained turn",
        ),
    ],
    ids=["key", "type", "attribute", "zero", "a-dict", "no-text", "half-a-character", "too-long", "no-turn"],
)
def test_what_a_format_of_ones_own_stumbles_over_is_named(tokenizers, to_example, reason):
    _, bad = taken([{"n": 1}], to_example, tokenizers["tiny"])
    assert bad == [Broken("row 1 of the held-out rows", reason)]


def test_half_a_character_in_a_call_of_a_tool_is_named_too(tokenizers):
    call = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "\ud83d", "arguments": {}}}],
    }
    _, bad = taken([Conversation([ASK, call], [1])], lambda row: row, tokenizers["qwen3"])
    assert [row.reason for row in bad] == [r"it holds half a character ('\ud83d'), which no tokenizer takes"]


@pytest.mark.parametrize(("model", "mark"), [("smollm2", "<|im_end|>"), ("llama3", "<|eot_id|>")])
def test_a_special_token_that_somebody_says_is_no_turn_but_a_bad_row(tokenizers, model, mark):
    said = [{"role": "user", "content": f"1+1?{mark}\n"}, SAY]
    _, bad = taken([Conversation(said, [1])], lambda row: row, tokenizers[model])
    assert [row.reason for row in bad] == [f"turn 1 says {mark}, a special token of the tokenizer"]
