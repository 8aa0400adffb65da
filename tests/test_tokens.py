"""What training sees of a row, token for token, through the templates of five models.

    SmolLM2 (the folder's own), Qwen3, DeepSeek-R1-Distill (trl's files), Qwen3-Thinking-2507, ChatML on bytes
DeepSeek's runs on Qwen3's vocabulary with its own five marks added, as in the distilled model.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from sft_research.config import ConfigError
from sft_research.dataset_format import Chat, Conversation, Template, Text
from sft_research.tokens import IGNORED, Encoded, Example, encode
from tests.templates import ASK, MODELS, SAY, THOUGHT, TWO_TURNS, one, parts, trained_text

TEXT = Template("### Question: {question}\n ### Answer:", " {answer}")({"question": "1+1?", "answer": "2"})


# Tokens -------------------------------------------------------------------------------------------
# In SmolLM2's vocabulary 0-9 are 32-41, + 27, ? 47, = 45, \n 198, \n\n 1116, < 44, > 46, </ 9617,
# think 17400, <|im_start|> 1 and <|im_end|> 2; in Qwen3's 0-9 are 15-24, + 10, ? 30, = 28, \n 198, \n\n 271.

# <|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n
SMOLLM2_SYSTEM = [1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018]
SMOLLM2_SYSTEM += [411, 407, 19712, 8182, 2, 198]
# <|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n, and the same with 2+2?
SMOLLM2_ASKED = [1, 4093, 198, 33, 27, 33, 47, 2, 198, 1, 520, 9531, 198]
SMOLLM2_ASKED_AGAIN = [1, 4093, 198, 34, 27, 34, 47, 2, 198, 1, 520, 9531, 198]
QWEN3_ASKED = [151644, 872, 198, 16, 10, 16, 30, 151645, 198, 151644, 77091, 198]
LLAMA3_USER, LLAMA3_ASSISTANT = [151670, 872, 151671, 271], [151670, 77091, 151671, 271]

TOKENS = {
    "smollm2-thinking": (
        "smollm2",
        THOUGHT,
        [
            ("context", SMOLLM2_SYSTEM + SMOLLM2_ASKED),
            ("trained", [44, 17400, 46, 198, 33, 27, 33, 45, 34, 198, 9617, 17400, 46, 1116, 34, 2]),
        ],
    ),
    "smollm2-every-turn": (
        "smollm2",
        Chat()(TWO_TURNS),
        [
            ("context", SMOLLM2_SYSTEM + SMOLLM2_ASKED),
            ("trained", [34, 2]),
            ("context", [198, *SMOLLM2_ASKED_AGAIN]),  # the newline after the end of turn is not trained
            ("trained", [36, 2]),
        ],
    ),
    "smollm2-last-turn": (
        "smollm2",
        Chat(train_on="last_turn")(TWO_TURNS),
        [
            ("context", [*SMOLLM2_SYSTEM, *SMOLLM2_ASKED, 34, 2, 198, *SMOLLM2_ASKED_AGAIN]),
            ("trained", [36, 2]),
        ],
    ),
    "smollm2-text": (
        "smollm2",
        TEXT,
        [
            # ### | Question | : | space | 1 | + | 1 | ? | \n | space ### | space Answer | :
            ("context", [3757, 15232, 42, 216, 33, 27, 33, 47, 198, 20749, 19842, 42]),
            ("trained", [216, 34, 2]),
        ],
    ),
    "qwen3-thinking": (
        "qwen3",
        THOUGHT,
        [
            ("context", QWEN3_ASKED),
            ("trained", [151667, 198, 16, 10, 16, 28, 17, 198, 151668, 271, 17, 151645]),
        ],
    ),
    "qwen3-without-a-thought": (  # trained on the empty thought that its template writes
        "qwen3",
        Conversation([ASK, SAY], [1]),
        [("context", QWEN3_ASKED), ("trained", [151667, 271, 151668, 271, 17, 151645])],
    ),
    "qwen3-thinking-2507": (
        "qwen3_thinking",
        THOUGHT,
        [
            ("context", [*QWEN3_ASKED, 151667, 198]),
            ("trained", [16, 10, 16, 28, 17, 198, 151668, 271, 17, 151645]),
        ],
    ),
    "deepseek-thinking": (
        "deepseek",
        THOUGHT,
        [
            # begin | User | 1 + 1 ? | Assistant | <think> | \n
            ("context", [151669, 151670, 16, 10, 16, 30, 151671, 151667, 198]),
            ("trained", [16, 10, 16, 28, 17, 198, 151668, 271, 17, 151672]),
        ],
    ),
    "llama3-every-turn": (
        "llama3",
        Chat()(TWO_TURNS),
        [
            # begin | start user end \n\n | 1 + 1 ? | eot | start assistant end \n\n
            ("context", [151669, *LLAMA3_USER, 16, 10, 16, 30, 151672, *LLAMA3_ASSISTANT]),
            ("trained", [17, 151672]),
            ("context", [*LLAMA3_USER, 17, 10, 17, 30, 151672, *LLAMA3_ASSISTANT]),
            ("trained", [19, 151672]),
        ],
    ),
    "gemma3-thinking": (
        "gemma3",
        THOUGHT,
        [
            # begin | start user \n | 1 + 1 ? | end \n | start model \n
            ("context", [151669, 151670, 872, 198, 16, 10, 16, 30, 151671, 198, 151670, 2528, 198]),
            ("trained", [151667, 198, 16, 10, 16, 28, 17, 198, 151668, 271, 17, 151671]),
        ],
    ),
    "gemma3-every-turn": (
        "gemma3",
        Chat()(TWO_TURNS),
        [
            ("context", [151669, 151670, 872, 198, 16, 10, 16, 30, 151671, 198, 151670, 2528, 198]),
            ("trained", [17, 151671]),
            ("context", [198, 151670, 872, 198, 17, 10, 17, 30, 151671, 198, 151670, 2528, 198]),
            ("trained", [19, 151671]),
        ],
    ),
    "tiny-bytes": (  # three marks, then the printable bytes from "!" = 3: "1" = 19, "u" = 87
        "tiny",
        Text("1+1", "2"),
        [("context", [19, 13, 19]), ("trained", [20, 2])],
    ),
}


@pytest.mark.parametrize("case", TOKENS)
def test_a_row_becomes_these_tokens_and_these_are_trained(tokenizers, case):
    model, row, expected = TOKENS[case]
    assert parts(one(row, tokenizers[model])) == expected


@pytest.mark.parametrize("model", MODELS)
def test_the_prompt_is_what_generation_is_given_token_for_token(tokenizers, model):
    tokenizer = tokenizers[model]
    asked = tokenizer.apply_chat_template([ASK], add_generation_prompt=True, return_dict=False)
    example = one(THOUGHT, tokenizer)
    assert example.prompt == asked
    assert example.input_ids[: len(asked)] == asked
    assert set(example.labels[: len(asked)]) == {IGNORED}


@pytest.mark.parametrize("model", MODELS)
def test_the_whole_row_reads_as_one_prompt_one_thought_and_one_answer(tokenizers, model):
    text = tokenizers[model].decode(one(THOUGHT, tokenizers[model]).input_ids)
    assert text.count("<think>\n1+1=2\n</think>\n\n2") == 1
    assert (text.count("<think>"), text.count("</think>")) == (1, 1)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("row", [THOUGHT, TEXT], ids=["chat", "text"])
def test_the_last_thing_trained_is_the_token_that_generation_stops_at(tokenizers, model, row):
    example = one(row, tokenizers[model])
    assert example.labels[-1] == tokenizers[model].eos_token_id
    assert example.labels.count(tokenizers[model].eos_token_id) == 1


def test_the_end_of_each_turn_is_trained_and_the_newline_after_it_is_not(tokenizers):
    example = one(Chat()(TWO_TURNS), tokenizers["smollm2"])
    assert trained_text(example, tokenizers["smollm2"]) == ["2<|im_end|>", "4<|im_end|>"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(), st.text(min_size=1)), min_size=1, max_size=3))
def test_whatever_is_said_the_answers_and_their_ends_are_trained_and_nothing_else(tokenizers, said):
    said = [(ask, answer) for ask, answer in said if ask.strip() and answer.strip()] or [("1+1?", "2")]
    turns = [
        {"role": role, "content": text}
        for pair in said
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    example = one(Chat()({"messages": turns}), tokenizers["tiny"], max_length=10**6)
    assert trained_text(example, tokenizers["tiny"]) == [f"{answer}<|im_end|>" for _, answer in said]
    whole = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in turns)
    assert tokenizers["tiny"].decode(example.input_ids) == whole.removesuffix("\n")


def test_the_first_token_of_a_text_has_nothing_before_it_and_so_no_loss(tokenizers):
    example = one(Text("", "1+1=2"), tokenizers["smollm2"])
    assert parts(example) == [("trained", [33, 27, 33, 45, 34, 2])]
    assert example.loss_tokens == 5


# The beginning of a text --------------------------------------------------------------------------


@pytest.fixture(scope="session")
def begins():
    """Words as tokens: 0 <s>, put before every text as Llama and OPT do, 1 </s>, 2 unknown, 3 one, 4 two."""
    words = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "?": 2, "one": 3, "two": 4}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="?")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("one", [("context", [0, 3]), ("trained", [4, 1])]),
        ("", [("context", [0]), ("trained", [4, 1])]),
        ("<s> one", [("context", [0, 3]), ("trained", [4, 1])]),
    ],
    ids=["prompt", "none", "written-out"],
)
def test_a_text_begins_once_where_the_tokenizer_sets_a_beginning(begins, prompt, expected):
    assert parts(one(Text(prompt, "two"), begins)) == expected


# SmolLM2's bos is <|im_start|>, but its tokenizer sets none: a ChatML of one's own has its one.
def test_a_chat_template_written_out_in_a_text_keeps_its_tokens(tokenizers):
    row = Text("<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n", "2")
    assert parts(one(row, tokenizers["smollm2"])) == [("context", SMOLLM2_ASKED), ("trained", [34, 2])]


# max_length ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_length", "lengths", "truncated", "dropped", "answers_cut"),
    [
        (99, [3, 4, 6], 0, 0, 0),
        (6, [3, 4, 6], 0, 0, 0),
        (5, [3, 4, 5], 1, 0, 1),
        (4, [3, 4], 0, 1, 1),  # of the third row nothing but the prompt is left
        (2, [2], 1, 2, 3),
    ],
)
def test_max_length_cuts_rows_and_drops_those_that_keep_no_answer(
    begins, max_length, lengths, truncated, dropped, answers_cut
):
    # with <s> and </s>: prompts of 1, 2 and 4 tokens, answers of 2
    rows = [Text("", "two"), Text("one", "two"), Text("one one one", "two")]
    encoded = encode(rows, lambda row: row, begins, max_length, "training")
    assert [len(example.input_ids) for example in encoded.examples] == lengths
    assert [len(example.labels) for example in encoded.examples] == lengths
    assert (encoded.truncated, encoded.dropped, encoded.answers_cut) == (truncated, dropped, answers_cut)


def test_what_is_left_of_a_cut_row_is_its_beginning_and_its_question_stays_whole(begins):
    assert one(Text("one", "two two two"), begins, max_length=4) == Example(
        input_ids=[0, 3, 4, 4], labels=[IGNORED, IGNORED, 4, 4], prompt=[0, 3], answer="two two two"
    )


def test_where_no_row_keeps_an_answer_the_run_is_refused_with_the_numbers(begins):
    rows = [Text("one one one", "two")] * 7
    with pytest.raises(ConfigError) as error:
        encode(rows, lambda row: row, begins, 4, "held-out")
    assert str(error.value) == (
        "none of the 7 held-out rows has an answer within model.max_length=4 tokens. Fix: model.max_length=8"
    )


def test_a_split_without_rows_is_not_refused(begins):
    assert encode([], lambda row: row, begins, 4, "held-out") == Encoded([])


# The second question of TWO_TURNS ends at token 50, so with 50 its answer is never seen.
@pytest.mark.parametrize(("max_length", "asked", "answer"), [(51, 50, "4"), (50, 34, "2"), (36, 34, "2")])
def test_the_question_to_be_answered_is_the_last_that_max_length_leaves_an_answer(
    tokenizers, max_length, asked, answer
):
    example = one(Chat()(TWO_TURNS), tokenizers["smollm2"], max_length)
    assert (len(example.prompt), example.answer) == (asked, answer)
    assert example.prompt == example.input_ids[:asked]


# The answers of TWO_TURNS end at tokens 36 and 52.
@pytest.mark.parametrize(("max_length", "cut"), [(52, 0), (51, 1), (36, 1), (35, 2)])
def test_each_answer_whose_end_is_behind_max_length_is_counted(tokenizers, max_length, cut):
    assert encode([TWO_TURNS], Chat(), tokenizers["smollm2"], max_length, "training").answers_cut == cut
