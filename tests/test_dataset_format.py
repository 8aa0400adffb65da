"""Each format makes exactly this of a row, and says of a row it cannot take what is wrong with it."""

import pytest

from sft_research.config import CONF_DIR, ConfigError, build, compose
from sft_research.dataset_format import (
    BadRow,
    Chat,
    Conversation,
    Instruction,
    ShareGPT,
    Template,
    Text,
    Thinking,
)

TAGS = ["<think>", "</think>"]
SYSTEM = {"role": "system", "content": "Be brief."}
ASK, SAY = {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}
ASK_AGAIN, SAY_AGAIN = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}
SHARED = [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]

# One row and what it becomes, of each file in conf/dataset_format, as it stands there.
MADE = {
    "instruction": ({"instruction": "1+1?", "response": "2"}, Conversation([ASK, SAY], [1])),
    "thinking": (
        {"instruction": "1+1?", "thinking": "1+1=2", "response": "2"},
        Conversation([ASK, {"role": "assistant", "content": "<think>\n1+1=2\n</think>\n\n2"}], [1]),
    ),
    "chat": (
        {"messages": [SYSTEM, ASK, SAY, ASK_AGAIN, SAY_AGAIN]},
        Conversation([SYSTEM, ASK, SAY, ASK_AGAIN, SAY_AGAIN], [2, 4]),
    ),
    "sharegpt": (
        {"conversations": [{"from": "system", "value": "Be brief."}, *SHARED]},
        Conversation([SYSTEM, ASK, SAY], [2]),
    ),
    "question_answer": (
        {"question": "1+1?", "answer": "2"},
        Text("### Question: 1+1?\n ### Answer:", " 2"),
    ),
    "prompt_completion": ({"prompt": "1+1=", "completion": "2"}, Text("1+1=", "2")),
    "text": ({"text": "1+1=2"}, Text("", "1+1=2")),
}


def test_every_format_of_conf_is_shown_above():
    assert set(MADE) == {file.stem for file in (CONF_DIR / "dataset_format").glob("*.yaml")}


@pytest.mark.parametrize("name", MADE)
def test_a_format_makes_this_of_a_row(name):
    run = compose(["model=tiny", "dataset=file", "dataset.path=rows.jsonl", f"dataset_format={name}"])
    row, made = MADE[name]
    assert build(run.cfg.dataset_format)(row) == made


# Options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"input": "Apples."}, "Count.\n\nApples."),
        ({"input": ""}, "Count."),
        ({"input": " \n"}, "Count."),
        ({"input": None}, "Count."),
        ({}, "Count."),
    ],
)
def test_an_input_follows_the_instruction_after_a_blank_line_where_the_row_has_one(row, asked):
    made = Instruction()({"instruction": "Count.", "response": "2", **row})
    assert made.messages[0] == {"role": "user", "content": asked}


@pytest.mark.parametrize(
    ("to_conversation", "row", "messages", "trained"),
    [
        (Instruction(system="Be brief."), {"instruction": "1+1?", "response": "2"}, [SYSTEM, ASK, SAY], [2]),
        (Chat(system="Be brief."), {"messages": [ASK, SAY]}, [SYSTEM, ASK, SAY], [2]),
        (ShareGPT(system="Be brief."), {"conversations": SHARED}, [SYSTEM, ASK, SAY], [2]),
        (Chat(system="Be long."), {"messages": [SYSTEM, ASK, SAY]}, [SYSTEM, ASK, SAY], [2]),
    ],
    ids=["instruction", "chat", "sharegpt", "the-row-has-one"],
)
def test_the_system_turn_comes_first_and_that_of_the_row_wins(to_conversation, row, messages, trained):
    assert to_conversation(row) == Conversation(messages, trained)


def test_a_thought_is_written_in_the_tags_of_the_model():
    made = Thinking(["[T]", "[/T]"], "q", "t", "a", system="Be brief.")({"q": "1+1?", "t": "easy", "a": "2"})
    assert made == Conversation([SYSTEM, ASK, {"role": "assistant", "content": "[T]\neasy\n[/T]\n\n2"}], [2])


@pytest.mark.parametrize("kind", [Chat, ShareGPT])
@pytest.mark.parametrize(("train_on", "trained"), [("every_turn", [1, 3]), ("last_turn", [3])])
def test_every_turn_of_the_assistant_is_trained_or_the_last_alone(kind, train_on, trained):
    turns = [ASK, SAY, ASK_AGAIN, SAY_AGAIN]
    if kind is ShareGPT:
        names = {"user": "human", "assistant": "gpt"}
        turns = [{"from": names[turn["role"]], "value": turn["content"]} for turn in turns]
    made = kind("turns", train_on=train_on)({"turns": turns})
    assert made == Conversation([ASK, SAY, ASK_AGAIN, SAY_AGAIN], trained)


def test_what_a_turn_carries_beside_role_and_content_is_kept_for_the_template():
    calls = [{"function": {"name": "add", "arguments": {"a": 1}}}]
    turn = {"role": "assistant", "content": None, "tool_calls": calls, "name": None}
    made = Chat()({"messages": [ASK, turn], "tools": '[{"name": "add"}]'})
    said = {"role": "assistant", "content": "", "tool_calls": calls}
    assert made == Conversation([ASK, said], [1], tools=[{"name": "add"}])


def test_a_turn_in_two_styles_is_read_in_the_one_of_its_format():
    shared = [SHARED[0], SHARED[1] | {"role": "system", "content": 7}]
    assert ShareGPT()({"conversations": shared}) == Conversation([ASK, SAY], [1])


def test_braces_in_the_data_are_left_alone_and_doubled_ones_in_the_template_become_single():
    made = Template("{{code}} {question}", "{answer}")({"question": "{answer} {", "answer": "} {question}"})
    assert made == Text("{code} {answer} {", "} {question}")


@pytest.mark.parametrize("template", ["{question", "question}"])
def test_a_template_with_one_brace_too_few_is_refused(template):
    with pytest.raises(
        ConfigError, match=rf"^dataset_format: .* in '{template}'\. Fix: {{{{ and }}}} for braces"
    ):
        Template(template, "{answer}")({"question": "1+1?", "answer": "2"})


@pytest.mark.parametrize("template", ["in \\boxed{}: {question}", "{question!r}", "{question:>9}"])
def test_braces_that_would_be_ignored_are_refused(template):
    with pytest.raises(
        ConfigError, match=r"^dataset_format: braces that name no column, behind .* Fix: {{ and }}"
    ):
        Template(template, "{answer}")({"question": "1+1?", "answer": "2"})


# Rows that cannot be taken ------------------------------------------------------------------------

WHOLE = {"instruction": "1+1?", "thinking": "1+1=2", "response": "2"}
FORMATS = [Instruction(), Thinking(TAGS), Template("{instruction}", "{response}")]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "is null"),
        ("", "is empty"),
        (" \n", "is empty"),
        (2, "holds 2, of type int, not a text"),
        (["2"], "holds ['2'], of type list, not a text"),
        ("2\ud800", r"holds half a character ('\ud800'), which no tokenizer takes"),
    ],
)
@pytest.mark.parametrize("to_example", FORMATS, ids=lambda f: type(f).__name__)
def test_a_column_that_holds_no_text_is_named_with_what_it_holds(to_example, value, said):
    with pytest.raises(BadRow) as error:
        to_example(WHOLE | {"response": value})
    assert str(error.value) == f"column 'response' {said}"


@pytest.mark.parametrize(
    ("to_example", "row", "message"),
    [
        (
            Instruction(),
            {"question": "1+1?", "answer": "2"},
            "no column 'instruction'; it has question, answer",
        ),
        (Thinking(TAGS), {"instruction": "1+1?"}, "no column 'thinking'; it has instruction"),
        (Template("{question}", " 2"), {"text": "1+1?"}, "no column 'question'; it has text"),
        (Chat(), {"conversations": []}, "no column 'messages'; it has conversations"),
        (Chat(), {"messages": "hello"}, "column 'messages' holds 'hello', not a list of turns"),
        (Chat(), {"messages": []}, "column 'messages' holds [], not a list of turns"),
        (Chat(), {"messages": None}, "column 'messages' holds None, not a list of turns"),
        (Chat(), {"messages": ["hello"]}, "turn 1 of 'messages' has no 'role': 'hello'"),
        (
            Chat(),
            {"messages": [ASK, {"from": "gpt", "value": "2"}]},
            "turn 2 of 'messages' has no 'role': {'from': 'gpt', 'value': '2'}",
        ),
        (
            Chat(),
            {"messages": [ASK, {"role": "assistant", "content": None}]},
            "'content' of turn 2 of 'messages' is null",
        ),
        (
            Chat(),
            {"messages": [ASK, {"role": "assistant", "content": [{"type": "text"}]}]},
            "'content' of turn 2 of 'messages' holds [{'type': 'text'}], of type list, not a text",
        ),
        (
            Chat(),
            {"messages": [SYSTEM, ASK, ASK_AGAIN, {"role": "gpt", "content": "2"}]},
            "turn 4 of 'messages' has the unknown role 'gpt'; known are system, user, assistant, tool",
        ),
        (
            ShareGPT(),
            {"conversations": [{"from": "bot", "value": "2"}]},
            "turn 1 of 'conversations' has the unknown role 'bot'; known are human, user, gpt, assistant, "
            "system, tool, function_response",
        ),
        (
            ShareGPT(),
            {"conversations": [ASK, SAY]},
            "turn 1 of 'conversations' has no 'from': {'role': 'user', 'content': '1+1?'}",
        ),
        (
            ShareGPT(),
            {"conversations": SHARED[:1]},
            "no assistant turn, so nothing to learn from; its roles are user",
        ),
        (Chat(), {"messages": [ASK, SAY, SAY_AGAIN]}, "turns 2 and 3 are both the assistant's"),
        (Chat(), {"messages": [SAY]}, "its first turn is the assistant's, so it answers nothing"),
        (
            Chat(),
            {"messages": [ASK, SAY], "tools": "[{"},
            "column 'tools' is broken JSON: Expecting property name enclosed in double quotes: "
            "line 1 column 3 (char 2)",
        ),
        (
            Chat(),
            {"messages": [ASK, SAY], "tools": {"a": 1}},
            "column 'tools' holds {'a': 1}, not a list of tools",
        ),
        (
            Thinking(TAGS),
            {"instruction": "1+1?", "thinking": "</think>", "response": "2"},
            "column 'thinking' holds </think> itself, so that it would be there twice",
        ),
    ],
)
def test_a_row_that_a_format_cannot_take_is_refused_with_the_reason(to_example, row, message):
    with pytest.raises(BadRow) as error:
        to_example(row)
    assert str(error.value) == message
