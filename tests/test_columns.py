"""What is taken out of a row is a text, turns or tools; whatever else is there is named, and nothing crashes."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_research.columns import BadRow, column, names_of, tools_of, turns_of
from sft_research.config import ConfigError
from sft_research.dataset_format import Chat, Instruction, ShareGPT, Template, Thinking
from sft_research.tokens import encode

ROLES = {"user": "user", "assistant": "assistant", "human": "user"}
HALF = "\ud83d"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "no column 'a'; it has none"),
        ({"b": 1, "c\n": 2, HALF: 3}, r"no column 'a'; it has b, 'c\n', '\ud83d'"),
        ({"a": None}, "column 'a' is null"),
        ({"a": True}, "column 'a' holds True, of type bool, not a text"),
        ({"a": "x" + HALF}, r"column 'a' holds half a character ('\ud83d'), which no tokenizer takes"),
        ({"a": ["x" * 100]}, f"column 'a' holds ['{'x' * 58}, of type list, not a text"),
    ],
)
def test_a_column_that_is_no_text_is_named(row, reason):
    with pytest.raises(BadRow) as error:
        column(row, "a")
    assert str(error.value) == reason


def test_of_many_columns_twenty_are_named():
    named = names_of(range(23))
    assert named == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 and 3 more"


def test_turns_take_the_role_and_the_text_from_the_columns_of_their_style():
    row = {"t": [{"from": "human", "value": "1+1?", "weight": 0, "name": None}]}
    assert list(turns_of(row, "t", "from", "value", ROLES)) == [
        {"role": "user", "content": "1+1?", "weight": 0}
    ]


@pytest.mark.parametrize(
    ("tools", "found"),
    [
        (None, None),
        ("", None),
        ([], None),
        ([{"name": "add"}], [{"name": "add"}]),
        ('[{"a": 1}]', [{"a": 1}]),
    ],
)
def test_tools_are_a_list_or_its_json_or_none(tools, found):
    assert tools_of({"tools": tools}, "tools") == found


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ("x", "column 'tools' is broken JSON: Expecting value: line 1 column 1 (char 0)"),
        ("2", "column 'tools' holds 2, not a list of tools"),
        (0, "column 'tools' holds 0, not a list of tools"),
        (
            "[" * 100_000,
            "column 'tools' is broken JSON: maximum recursion depth exceeded while decoding a JSON array from a "
            "unicode string",
        ),
    ],
    ids=["word", "json-number", "number", "deep"],
)
def test_tools_that_are_none_are_named(tools, reason):
    with pytest.raises(BadRow) as error:
        tools_of({"tools": tools}, "tools")
    assert str(error.value) == reason


# Anything -----------------------------------------------------------------------------------------
# Rows with the right columns and roles more often than chance has them, so that every check is reached.

TEXT = st.sampled_from(
    ["2", "", " ", HALF, "<think>", "</think>", "<|im_end|>", "{", "\n\n", "a\0b"]
) | st.text(max_size=8)
VALUE = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
CALLS = st.lists(
    st.fixed_dictionaries({"function": st.fixed_dictionaries({"name": TEXT | VALUE, "arguments": VALUE})})
    | VALUE,
    max_size=2,
)
ROLE = st.sampled_from(["system", "user", "assistant", "tool", "human", "gpt"])
TURN = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("role", "from"), ROLE | VALUE),
        **dict.fromkeys(("content", "value"), TEXT | VALUE),
        "tool_calls": CALLS | VALUE,
        "reasoning_content": VALUE,
    },
)
TURNS = st.lists(TURN | VALUE, max_size=4) | VALUE
COLUMNS = {
    **dict.fromkeys(("instruction", "thinking", "response", "input"), TEXT | VALUE),
    "messages": TURNS,
    "conversations": TURNS,
    "tools": st.lists(st.dictionaries(TEXT, VALUE, max_size=2), max_size=2) | VALUE,
}
ROW = st.fixed_dictionaries({}, optional=COLUMNS) | st.dictionaries(TEXT, VALUE, max_size=3)
FORMATS = [
    Instruction(),
    Thinking(["<think>", "</think>"]),
    Chat(),
    Chat(train_on="last_turn", system="Be brief."),
    ShareGPT(train_on="last_turn"),
    Template("{instruction}", "{response}"),
]


# Of a template that shows earlier turns otherwise, or of max_length.
REFUSED = r"row \d+ of the training rows: the chat template shows|none of the \d+ training rows has an answer"


@pytest.mark.parametrize("model", ["smollm2", "qwen3", "deepseek", "gemma3", "tiny"])
@pytest.mark.parametrize("to_example", FORMATS, ids=lambda made: type(made).__name__)
@settings(max_examples=15, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=12))
def test_any_row_is_an_example_or_a_dropped_or_a_named_one(tokenizers, to_example, model, rows):
    try:
        encoded = encode(rows, to_example, tokenizers[model], 64, "training")
    except ConfigError as error:
        if not re.match(REFUSED, str(error)):
            raise
        return
    assert len(encoded.examples) + encoded.dropped + len(encoded.bad) == len(rows)
    assert all(len(bad.reason) > 5 and bad.where.startswith("row ") for bad in encoded.bad)
    assert all(example.loss_tokens > 0 for example in encoded.examples)
