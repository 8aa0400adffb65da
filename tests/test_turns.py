"""What a chat template makes of a conversation, turn by turn, and when it is refused."""

# ruff: noqa: RUF001  (DeepSeek writes its marks with a wide bar)
import json
from copy import copy

import pytest
from transformers import AutoTokenizer

from sft_research.config import ConfigError
from sft_research.dataset_format import Chat, Conversation
from sft_research.readers import Broken
from sft_research.tokens import encode
from tests.templates import ASK, ASK_AGAIN, SAY, THOUGHT, TWO_THOUGHTS, TWO_TURNS, one, trained_text


def say(content):
    return {"role": "assistant", "content": content}


# Earlier turns ------------------------------------------------------------------------------------


ASKED_AGAIN = r"<|im_end|>\n<|im_start|>user\n2+2?<|im_en"


@pytest.mark.parametrize(
    ("model", "row", "at", "shown", "shown_later"),
    [
        ("qwen3", TWO_THOUGHTS, 54, r"<think>\nadd\n</think>\n\n2<|im_end|>", f"2{ASKED_AGAIN}"),
        # Without thoughts too: an empty one is shown in the last turn, until it is not the last.
        ("qwen3", TWO_TURNS, 54, r"<think>\n\n</think>\n\n2<|im_end|>", f"2{ASKED_AGAIN}"),
        ("qwen3_thinking", TWO_THOUGHTS, 54, r"<think>\nadd\n</think>\n\n2<|im_end|>", f"2{ASKED_AGAIN}"),
        (
            "deepseek",
            TWO_THOUGHTS,
            46,
            r"<think>\nadd\n</think>\n\n2<｜end▁of▁sentence",
            r"\n\n2<｜end▁of▁sentence｜><｜User｜>2+2?<｜Assi",
        ),
    ],
    ids=["qwen3", "qwen3-without-thoughts", "qwen3-thinking-2507", "deepseek"],
)
def test_training_every_turn_is_refused_where_the_template_drops_earlier_thoughts(
    tokenizers, model, row, at, shown, shown_later
):
    with pytest.raises(ConfigError) as error:
        encode([row], Chat(), tokenizers[model], 512, "training")
    assert str(error.value) == (
        "row 1 of the training rows: the chat template shows earlier turns otherwise later on: "
        f"at character {at}, '{shown}' becomes '{shown_later}'. Fix: dataset_format.train_on=last_turn"
    )


@pytest.mark.parametrize(
    ("model", "trained"),
    [
        ("smollm2", "<think>\nsum\n</think>\n\n4<|im_end|>"),
        ("llama3", "<think>\nsum\n</think>\n\n4<|eot_id|>"),
        ("gemma3", "<think>\nsum\n</think>\n\n4<end_of_turn>"),
        ("qwen3", "<think>\nsum\n</think>\n\n4<|im_end|>"),
        ("qwen3_thinking", "sum\n</think>\n\n4<|im_end|>"),
        ("deepseek", "sum\n</think>\n\n4<｜end▁of▁sentence｜>"),
    ],
)
def test_the_last_turn_is_trained_with_its_thought_after_the_history_as_generation_sees_it(
    tokenizers, model, trained
):
    tokenizer = tokenizers[model]
    example = one(Chat(train_on="last_turn")(TWO_THOUGHTS), tokenizer)
    asked = tokenizer.apply_chat_template(
        TWO_THOUGHTS["messages"][:3], tokenize=False, add_generation_prompt=True
    )
    assert tokenizer.decode(example.prompt) == asked
    assert trained_text(example, tokenizer) == [trained]


def test_a_template_that_keeps_earlier_thoughts_has_them_all_trained(tokenizers):
    example = one(Chat()(TWO_THOUGHTS), tokenizers["smollm2"])
    assert trained_text(example, tokenizers["smollm2"]) == [
        "<think>\nadd\n</think>\n\n2<|im_end|>",
        "<think>\nsum\n</think>\n\n4<|im_end|>",
    ]


def test_a_conversation_without_a_chat_template_is_refused_with_two_ways_out(tokenizers, smollm2_folder):
    base = AutoTokenizer.from_pretrained(smollm2_folder)
    base.chat_template = None
    with pytest.raises(ConfigError) as error:
        encode([THOUGHT], lambda row: row, base, 512, "training")
    assert str(error.value) == (
        f"{smollm2_folder} has no chat template, and this dataset_format makes conversations. "
        "Fix: model.chat_template=chatml, or dataset_format=question_answer"
    )


# Qwen3's template strips the blank lines around a thought; DeepSeek's drops the thought. Where the prompt has
# opened the thought and ended the line, the blank line before it is the prompt's.
@pytest.mark.parametrize(
    ("model", "trained"),
    [
        ("qwen3", "<think>\n\n1+1=2\n\n</think>\n\n2<|im_end|>"),
        ("qwen3_thinking", "1+1=2\n\n</think>\n\n2<|im_end|>"),
        ("deepseek", "1+1=2\n\n</think>\n\n2<｜end▁of▁sentence｜>"),
    ],
)
def test_a_thought_that_the_template_would_change_is_trained_as_the_row_has_it(tokenizers, model, trained):
    row = Conversation([ASK, say("<think>\n\n1+1=2\n\n</think>\n\n2")], [1])
    assert trained_text(one(row, tokenizers[model]), tokenizers[model]) == [trained]


# 151667 <think>, 151668 </think>, 198 a line break, 271 two, 17 the digit 2; 151672 and 151645 end the turn.
@pytest.mark.parametrize(("model", "end"), [("deepseek", 151672), ("qwen3_thinking", 151645)])
def test_a_row_without_a_thought_closes_the_one_that_the_prompt_opens(tokenizers, model, end):
    example = one(Conversation([ASK, SAY], [1]), tokenizers[model])
    assert example.prompt[-2:] == [151667, 198]
    assert example.input_ids[len(example.prompt) :] == [198, 151668, 271, 17, end]
    assert example.labels[len(example.prompt) :] == [198, 151668, 271, 17, end]


@pytest.mark.parametrize("content", ["<think>\nadd\n</think>\n\n2", "add\n</think>\n\n2"])
def test_an_open_thought_is_gone_on_with_whether_the_row_has_its_tag_or_not(tokenizers, content):
    row = Conversation([ASK, say(content)], [1])
    for model in ("deepseek", "qwen3_thinking"):
        text = tokenizers[model].decode(one(row, tokenizers[model]).input_ids)
        assert text.count("<think>\nadd\n</think>\n\n2") == text.count("<think>") == 1


# Templates of one's own ---------------------------------------------------------------------------


def with_template(tokenizers, template):
    tokenizer = copy(tokenizers["smollm2"])
    tokenizer.chat_template = template
    return tokenizer


COUNTS = "{% for m in messages %}{{ m.role }} {{ loop.revindex }}: {{ m.content }}\n{% endfor %}"
COUNTS += "{% if add_generation_prompt %}assistant 1: {% endif %}"
SPACED = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
SPACED += "{% if add_generation_prompt %}assistant: {% endif %}"
WORDS = {"messages": [ASK, say("two"), ASK_AGAIN, say("four")]}


def test_a_template_that_writes_an_earlier_turn_otherwise_later_on_is_refused_with_the_place(tokenizers):
    tokenizer = with_template(tokenizers, COUNTS)  # "user 1: 1+1?" of the first prompt is "user 3: 1+1?" then
    (bad,) = encode([WORDS], Chat(), tokenizer, 512, "training").bad
    assert bad.reason == (
        "the chat template writes a finished answer otherwise than the prompt it answers: at character 5, "
        "'1: 1+1?\\nassistant 1: ' becomes '2: 1+1?\\nassistant 1: two\\n'. "
        "Fix: model.chat_template=FILE that does not, or chatml"
    )


def test_a_prompt_of_another_shape_than_a_turn_is_refused_and_no_tag_made_up(tokenizers):
    template = SPACED.replace("%}assistant: {", "%}<assistant> {")
    row = {"messages": [ASK, say("two")]}
    (bad,) = encode([row], Chat(), with_template(tokenizers, template), 512, "training").bad
    assert r"at character 11, '<assistant> ' becomes 'assistant: two\n'. Fix" in bad.reason


# After "assistant:" the space and "two" are one token, Ġtwo, once they stand together in a history.
def test_turns_whose_tokens_merge_in_the_whole_conversation_are_refused_with_the_first_difference(tokenizers):
    encoded = encode([WORDS], Chat(), with_template(tokenizers, SPACED), 512, "training")
    assert (encoded.examples, encoded.bad) == (
        [],
        [
            Broken(
                "row 1 of the training rows",
                "turn by turn, its tokens are not those of the whole conversation: from token 11 on "
                "['Ġ', 'two', 'Ċ'] becomes ['Ġtwo', 'Ċ', 'user']; dataset_format.train_on=last_turn "
                "takes it as it is",
            )
        ],
    )


def test_the_last_turn_of_such_a_conversation_goes_on_from_the_prompt_that_generation_is_given(tokenizers):
    tokenizer = with_template(tokenizers, SPACED)
    (example,) = encode([WORDS], Chat(train_on="last_turn"), tokenizer, 512, "training").examples
    asked = tokenizer.apply_chat_template(
        WORDS["messages"][:3], add_generation_prompt=True, return_dict=False
    )
    assert example.prompt == asked
    assert tokenizer.convert_ids_to_tokens(example.input_ids[-3:]) == [":", "Ġ", "four"]
    assert "Ġtwo" in tokenizer.convert_ids_to_tokens(example.input_ids)
    assert trained_text(example, tokenizer) == ["four"]


def test_a_conversation_that_a_template_refuses_is_a_bad_row_with_its_words(tokenizers):
    encoded = encode([{"messages": [ASK, ASK_AGAIN, SAY]}], Chat(), tokenizers["gemma3"], 512, "training")
    assert [row.reason for row in encoded.bad] == [
        "the chat template refuses it: Conversation roles must alternate user/assistant/user/assistant/..."
    ]


# Tools --------------------------------------------------------------------------------------------

ADD = {"type": "function", "function": {"name": "add", "parameters": {}}}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}],
}
TOOLS = {"messages": [ASK, CALL, {"role": "tool", "content": "2"}, SAY]}


@pytest.mark.parametrize("tools", [[ADD], json.dumps([ADD])], ids=["list", "json"])
def test_tools_are_shown_in_the_prompt_and_a_tools_answer_has_no_loss(tokenizers, tools):
    example = one_of(TOOLS | {"tools": tools}, tokenizers["qwen3"])
    prompt = tokenizers["qwen3"].decode(example.prompt)
    assert '<tools>\n{"type": "function", "function": {"name": "add", "parameters": {}}}\n</tools>' in prompt
    assert prompt.endswith(
        '<|im_start|>assistant\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n2\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )
    assert trained_text(example, tokenizers["qwen3"]) == ["<think>\n\n</think>\n\n2<|im_end|>"]


def test_a_call_of_a_tool_is_trained_where_it_is_the_answer(tokenizers):
    example = one_of({"messages": [ASK, CALL]}, tokenizers["qwen3"])
    assert trained_text(example, tokenizers["qwen3"]) == [
        '<think>\n\n</think>\n\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>'
    ]


@pytest.mark.parametrize("model", ["smollm2", "tiny", "llama3", "gemma3"])
@pytest.mark.parametrize("said", ["", "I add."])
def test_a_call_that_the_template_leaves_out_is_a_bad_row_and_never_trains_an_empty_answer(
    tokenizers, model, said
):
    row = {"messages": [ASK, CALL | {"content": said}]}
    (bad,) = encode([row], Chat(), tokenizers[model], 512, "training").bad
    assert bad.reason == "the chat template does not show the tool calls of its answer"


def test_tools_that_the_template_leaves_out_are_a_bad_row(tokenizers):
    row = {"messages": [ASK, SAY], "tools": [ADD]}
    (bad,) = encode([row], Chat(), tokenizers["smollm2"], 512, "training").bad
    assert bad.reason.startswith("the chat template does not show the tools that the row has; ")
    assert encode([row], Chat(tools=None), tokenizers["smollm2"], 512, "training").bad == []


def one_of(row, tokenizer):
    return one(Chat(train_on="last_turn")(row), tokenizer)
