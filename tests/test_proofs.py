"""What is proven of tokens fails where masks, turns or splits are wrong, and says what to change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from sft_research import proofs
from sft_research.config import ConfigError
from sft_research.dataset_format import Chat, Conversation, Template, Text
from sft_research.tokens import IGNORED, Data, Encoded, Example, encode
from tests import templates
from tests.templates import ASK, SAY, TWO_TURNS
from tests.toys import example

CHATS = [("1+1?", "2"), ("Calculate 85 minus 27.", "85 - 20 = 65, and 65 - 7 = 58."), ("Name it.", "A cat")]
ENDLESS = (  # marks where every turn ends but the last
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% if not loop.last %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_end|>\n<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer(smollm2_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(smollm2_folder)


def chat(pair: tuple[str, str]) -> Conversation:
    return Conversation(
        [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}], [1]
    )


def data_of(tokenizer: Any, rows: Any, to_example: Any = chat, max_length: int = 512) -> Data:
    train = encode(
        [{"pair": row} for row in rows], lambda r: to_example(r["pair"]), tokenizer, max_length, "x"
    )
    held_out = Encoded([example([1, 2], [3, tokenizer.eos_token_id])])
    return Data(tokenizer, train, Encoded([]) if to_example is chat else held_out, [], True)


def changed(data: Data, index: int, **fields: Any) -> Data:
    """The data with one training example changed."""
    examples = list(data.train.examples)
    examples[index] = replace(examples[index], **fields)
    return replace(data, train=replace(data.train, examples=examples))


# Masks --------------------------------------------------------------------------------------------


def test_answers_are_counted_and_what_was_cut_is_told(tokenizer: Any) -> None:
    data = data_of(tokenizer, CHATS)
    data = replace(data, train=replace(data.train, truncated=2, dropped=1, answers_cut=3))
    assert proofs.masks(data, 512) == (
        "3 answers end in a trained end of turn; "
        "2 rows cut at model.max_length, 1 left out whole, 3 answers without their end"
    )


def test_a_template_without_an_end_of_turn_is_refused(tokenizer: Any, smollm2_folder: Path) -> None:
    endless = AutoTokenizer.from_pretrained(smollm2_folder)
    endless.chat_template = ENDLESS
    with pytest.raises(
        ConfigError,
        match=r"training example 1 is trained to end in '2', not in the end of turn '<\|im_end\|>'"
        r".* Fix: model.chat_template=chatml",
    ):
        proofs.masks(data_of(endless, CHATS), 512)


def test_an_end_of_turn_without_loss_is_refused(tokenizer: Any) -> None:
    data = data_of(tokenizer, CHATS)
    labels = [*data.train.examples[1].labels[:-1], IGNORED]
    with pytest.raises(ConfigError, match=r"training example 2 is trained to end in ' 58.', not in the end"):
        proofs.masks(changed(data, 1, labels=labels), 512)


def test_each_turn_of_a_conversation_must_end(tokenizer: Any) -> None:
    def two_turns(pair: tuple[str, str]) -> Conversation:
        return Conversation([*chat(pair).messages, *chat(("And?", "No.")).messages], [1, 3])

    data = data_of(tokenizer, CHATS[:1], two_turns)
    held_out_too = 1
    assert proofs.masks(data, 512).startswith(f"{2 + held_out_too} answers end")
    labels = list(data.train.examples[0].labels)
    labels[labels.index(tokenizer.eos_token_id)] = IGNORED  # of the first answer
    with pytest.raises(ConfigError, match="is trained to end in '2'"):
        proofs.masks(changed(data, 0, labels=labels), 512)


def test_an_answer_that_was_cut_needs_no_end(tokenizer: Any) -> None:
    whole = len(data_of(tokenizer, CHATS[1:2]).train.examples[0].input_ids)
    data = data_of(tokenizer, CHATS[1:2], max_length=whole - 3)
    assert proofs.masks(data, whole - 3).startswith("0 answers end in a trained end of turn; 1 rows cut")
    with pytest.raises(ConfigError, match="trained to end in"):
        proofs.masks(data, whole)  # as if it were the whole row


def test_an_example_without_loss_is_refused(tokenizer: Any) -> None:
    data = data_of(tokenizer, CHATS)
    length = len(data.train.examples[2].labels)
    with pytest.raises(ConfigError, match=rf"training example 3 has {length} tokens and no label with loss"):
        proofs.masks(changed(data, 2, labels=[IGNORED] * length), 512)


# Turns --------------------------------------------------------------------------------------------


def test_rows_of_a_chat_and_of_a_text_are_tokenised_once_more(tokenizer: Any) -> None:
    assert proofs.turns(data_of(tokenizer, CHATS), 512) == (
        "turn by turn as whole in all rows (0 left out as bad); 3 tokenised once more"
    )
    texts = data_of(tokenizer, CHATS, lambda pair: Text(f"{pair[0]}\nAnswer: ", pair[1]))
    assert proofs.turns(replace(texts, held_out=Encoded([])), 512).endswith("; 3 tokenised once more")


def test_tokens_that_are_not_those_of_the_text_are_refused(tokenizer: Any) -> None:
    """What tokenising piece by piece does where the pieces merge: `A cat` as A, space, c, at."""
    data = data_of(tokenizer, CHATS)
    row = data.train.examples[2]
    begin = len(row.prompt)
    apart = [tokenizer(part, add_special_tokens=False).input_ids for part in ("A", " ", "c", "at<|im_end|>")]
    answer = [token for part in apart for token in part]
    split = {"input_ids": [*row.prompt, *answer], "labels": [*[IGNORED] * begin, *answer]}
    assert tokenizer.decode(split["input_ids"]) == tokenizer.decode(row.input_ids)
    with pytest.raises(ConfigError, match=r"whole training example 3: its tokens are not those of its text"):
        proofs.turns(changed(data, 2, **split), 512)


@pytest.mark.parametrize("model", templates.MODELS)
@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASK, SAY]},  # without a thought, where the template may open one
        {"messages": [ASK, {"role": "assistant", "content": "<think>\nadd\n</think>\n\n2"}]},
        {"messages": [ASK, {"role": "assistant", "content": "\n\nHello"}]},  # merges with the prompt's end
        TWO_TURNS,
        {"text": "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"},  # looks like one
    ],
    ids=["plain", "thought", "line-breaks", "two-turns", "text"],
)
def test_whatever_a_template_takes_is_proven(tokenizers: dict[str, Any], model: str, row: Any) -> None:
    to_example = Template("", "{text}") if "text" in row else Chat(train_on="last_turn")
    train = encode([row], to_example, tokenizers[model], 512, "training")
    data = Data(tokenizers[model], train, Encoded([]), [], True)
    assert (len(train.examples), train.bad) == (1, [])
    assert proofs.masks(data, 512).startswith("1 answers end in a trained end of turn; ")
    assert proofs.turns(data, 512).endswith("; 1 tokenised once more")


def shifted(row: Example, by: int) -> dict[str, Any]:
    """Loss that begins `by` tokens later, and a prompt that says so too."""
    begin = len(row.prompt) + by
    labels = [*[IGNORED] * begin, *row.input_ids[begin:]]
    return {"labels": labels, "prompt": row.input_ids[:begin]}


@pytest.mark.parametrize("by", [-2, -1, 1, 2])
def test_loss_that_does_not_begin_behind_the_generation_prompt_is_refused(tokenizer: Any, by: int) -> None:
    data = data_of(tokenizer, CHATS)
    wrong = shifted(data.train.examples[1], by)
    with pytest.raises(ConfigError, match=r"not the generation prompt '<\|im_start\|>assistant\\n'"):
        proofs.turns(changed(data, 1, **wrong), 512)
    del wrong["prompt"]
    with pytest.raises(ConfigError, match=r"its loss does not begin where its prompt of \d+ tokens ends"):
        proofs.turns(changed(data, 1, **wrong), 512)


def test_a_label_that_is_not_its_token_is_refused(tokenizer: Any) -> None:
    data = data_of(tokenizer, CHATS)
    row = data.train.examples[0]
    with pytest.raises(ConfigError, match=r"at token \d+ its label is 7, where its token is 2"):
        proofs.turns(changed(data, 0, labels=[*row.labels[:-1], 7]), 512)


# Overlap ------------------------------------------------------------------------------------------


def test_held_out_rows_that_are_trained_on_are_refused_with_their_numbers(tokenizer: Any) -> None:
    a, b, c = (example([n], [n, n]) for n in (1, 2, 3))
    with pytest.raises(
        ConfigError,
        match=r"2 of 3 held-out rows are training rows too.*: held-out 1, 3. Fix: on_overlap=drop",
    ):
        proofs.no_overlap(Data(tokenizer, Encoded([a, b, a]), Encoded([b, c, a]), [], True), 512)
    assert proofs.no_overlap(Data(tokenizer, Encoded([a, b, a]), Encoded([c]), [], True), 512) == (
        "none of 1 held-out rows is among 3 training rows; 1 training and 0 held-out rows are there twice"
    )
