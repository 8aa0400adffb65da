"""Answers are what the model says to each question by itself, with their thought and their end told apart."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft_research.answers import Answer, answer, final_answer, has_form
from sft_research.dataset_format import Conversation
from sft_research.tokens import encode
from tests.toys import Speaker, example

TAGS = ["<think>", "</think>"]

# What an answer says ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tags", "final"),
    [
        ("<think>\n6*7=42\n</think>\n\n42", TAGS, "42"),
        ("6*7=42\n</think>\n\n42", TAGS, "42"),
        ("<think>\n1\n</think>\n\n2\n</think>\n\n3", TAGS, "3"),
        ("<think>\n6*7=42", TAGS, "<think>\n6*7=42"),  # a thought without an end is no answer
        ("<think>\n6*7=42\n</think>\n\n", TAGS, ""),
        ("<think>\n6*7=42\n</think>\n\n42", None, "<think>\n6*7=42\n</think>\n\n42"),
        ("Six times seven.\n#### 42", None, "42"),
        ("<think>\n#### 1\n</think>\n\n6*7=42\n#### 42 ", TAGS, "42"),
        (" 42\n", None, "42"),
        ("[T]6*7[/T]42", ["[T]", "[/T]"], "42"),
    ],
)
def test_the_final_answer_is_what_follows_the_thought_and_the_four_hashes(text, tags, final):
    assert final_answer(text, tags) == final


THOUGHT = "<think>\n1+1=2\n</think>\n\n2"


@pytest.mark.parametrize(
    ("text", "expected", "tags", "formed"),
    [
        (THOUGHT, THOUGHT, TAGS, True),
        ("<think>\na\n\nb < c\n</think>\n\nd\n\ne", THOUGHT, TAGS, True),
        ("2", THOUGHT, TAGS, False),
        ("<think>\n1+1=2", THOUGHT, TAGS, False),
        ("<think>\n1+1=2\n</think>\n\n", THOUGHT, TAGS, False),
        ("<think>\n\n</think>\n\n2", THOUGHT, TAGS, False),  # an empty thought
        ("<think>1+1=2</think>2", THOUGHT, TAGS, False),
        ("<think>\n1\n</think>\n\n2\n</think>\n\n3", THOUGHT, TAGS, False),
        ("<think>\n<think>\n1\n</think>\n\n2", THOUGHT, TAGS, False),
        (f"Well. {THOUGHT}", THOUGHT, TAGS, False),
        ("[T]\n1\n[/T]\n\n2", "[T]\n3\n[/T]\n\n4", ["[T]", "[/T]"], True),  # tags are no patterns
        # Where no thought is expected, any answer will do.
        ("2", "2", TAGS, True),
        ("2", "2", None, True),
        (THOUGHT, THOUGHT, None, True),
        (" \n", "2", TAGS, False),
        ("", "2", None, False),
    ],
)
def test_an_answer_has_the_form_of_the_expected_one_or_not(text, expected, tags, formed):
    assert has_form(text, expected, tags) is formed


# What the model is given --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    """Bytes: 0 <|endoftext|> (padding), 1 <|im_start|>, 2 <|im_end|>, then "1" 19, "2" 20, ... and "a" 67."""
    return AutoTokenizer.from_pretrained(tiny_folder)


def ask(model, tokenizer, examples, batch_size, max_new_tokens=5):
    steps = []
    said = answer(model, tokenizer, examples, batch_size, max_new_tokens, steps.append)
    return said, steps


def test_prompts_are_padded_on_the_left_and_short_ones_go_together(tokenizer):
    model = Speaker({19: [67, 2], 20: [68, 68, 2], 21: [69, 2]}, pad=0)
    questions = [example([1, 1, 1, 19], [7]), example([20], [7]), example([1, 21], [7])]
    said, steps = ask(model, tokenizer, questions, batch_size=2)
    assert model.asked == [
        ([[0, 20], [1, 21]], [[0, 1], [1, 1]]),
        ([[1, 1, 1, 19]], [[1, 1, 1, 1]]),
    ]
    assert [one.text for one in said] == ["a", "bb", "c"]  # in the order of the questions
    assert steps == [2, 1]


@pytest.mark.parametrize(
    ("said", "text", "stopped"),
    [
        ([67, 68, 2], "ab", True),
        ([67, 2, 68, 69], "a", True),
        ([67, 68, 69], "abc", False),
        ([67, 2, 0, 0], "a", True),
        ([67, 0, 68], "ab", False),
        ([2], "", True),
        ([19, 13, 19], "1+1", False),
    ],
)
def test_an_answer_ends_at_its_first_end_of_turn_and_has_no_padding_in_it(tokenizer, said, text, stopped):
    model = Speaker({19: said}, pad=0)
    (made,), _ = ask(model, tokenizer, [example([1, 19], [7], answer="2")], batch_size=1)
    assert made == Answer(question="<|im_start|>1", expected="2", text=text, stopped=stopped)


def ids(text, tokenizer):
    return tokenizer(text).input_ids


@pytest.mark.parametrize(
    ("prompt", "trained", "expected", "said", "text"),
    [
        # DeepSeek's and Qwen3-Thinking-2507's templates open the thought in the prompt.
        ("ask<think>\n", "1\n</think>\n\n2", "<think>\n1\n</think>\n\n2", "3", "<think>\n3"),
        ("ask\n", "<think>\n1\n</think>\n\n2", "<think>\n1\n</think>\n\n2", "<think>\n3", "<think>\n3"),
        ("ask\n", "2", "2", "3", "3"),
        # Gemma's template ends with the name of the role, which opens no answer that is that word.
        ("<|im_start|>model\n", "model", "model", "model", "model"),
    ],
    ids=["opened", "not-opened", "no-thought", "role"],
)
def test_a_tag_that_the_prompt_has_opened_belongs_to_the_answer(
    tokenizer, prompt, trained, expected, said, text
):
    model = Speaker({ids("\n", tokenizer)[0]: [*ids(said, tokenizer), 2]}, pad=0)
    question = example(ids(prompt, tokenizer), [*ids(trained, tokenizer), 2], answer=expected)
    (made,), _ = ask(model, tokenizer, [question], batch_size=1)
    assert made == Answer(question=prompt, expected=expected, text=text, stopped=True)


def test_no_questions_have_no_answers(tokenizer):
    assert ask(Speaker({}, pad=0), tokenizer, [], batch_size=4) == ([], [])


@pytest.mark.parametrize("training", [True, False])
def test_the_training_state_is_back_afterwards(tokenizer, training):
    model = Speaker({19: [67]}, pad=0).train(training)
    ask(model, tokenizer, [example([19], [7])], batch_size=1)
    assert model.training is training


# A real model -------------------------------------------------------------------------------------

QUESTIONS = [
    "What is the capital of France?",
    "Hi",
    "What colour is the sky on a clear day, and what colour is grass? Answer in a few words.",
]


@pytest.fixture(scope="module")
def smollm2(smollm2_folder):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine two threads wait for each other: 17 times slower
    model = AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(smollm2_folder)
    rows = [
        Conversation([{"role": "user", "content": ask}, {"role": "assistant", "content": "?"}], [1])
        for ask in QUESTIONS
    ]
    yield model, tokenizer, encode(rows, lambda row: row, tokenizer, 512, "held-out").examples
    torch.set_num_threads(threads)


def test_a_question_has_the_same_answer_by_itself_and_in_a_batch_of_other_lengths(smollm2):
    model, tokenizer, questions = smollm2
    alone, _ = ask(model, tokenizer, questions, batch_size=1, max_new_tokens=8)
    together, _ = ask(model, tokenizer, questions, batch_size=3, max_new_tokens=8)
    assert together == alone
    assert (alone[0].text, alone[0].stopped) == ("The capital of France is Paris.", True)
    assert len({one.text for one in alone}) == 3


def test_an_answer_is_cut_at_the_most_tokens_it_may_have(smollm2):
    model, tokenizer, questions = smollm2
    (cut,), _ = ask(model, tokenizer, questions[:1], batch_size=1, max_new_tokens=3)
    assert (cut.text, cut.stopped) == ("The capital of", False)
