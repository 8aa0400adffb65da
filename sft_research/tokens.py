"""Conversations and texts -> token ids with labels, the very ones that training sees.

    prompt      <|im_start|>user\\n1+1?<|im_end|>\\n<|im_start|>assistant\\n     labels -100
    completion  2<|im_end|>                                                   labels = ids
The prompt is what the model is given at generation time, token for token, earlier turns included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, zip_longest
from typing import Any

from sft_research.columns import BadRow
from sft_research.config import ConfigError
from sft_research.dataset_format import Conversation, Text
from sft_research.pieces import Pieces, pieces_of
from sft_research.readers import Broken

IGNORED = -100  # torch's ignore_index: no loss here
CHUNK = 512  # rows a call of the tokenizer, which works on them in parallel


@dataclass(frozen=True)
class Example:
    """One row as tokens. `prompt` is what comes before its last trained turn that starts within
    max_length, `answer` that turn's text."""

    input_ids: list[int]
    labels: list[int]  # same length; IGNORED where there is no loss
    prompt: list[int]
    answer: str
    in_template: bool = False  # a conversation, which the model's chat template wrote

    @property
    def loss_tokens(self) -> int:
        """Labels with loss; the first token predicts nothing before it."""
        return sum(label != IGNORED for label in self.labels[1:])


@dataclass(frozen=True)
class Encoded:
    """All examples of a split that have something to learn, and what was lost on the way."""

    examples: Sequence[Example]
    truncated: int = 0  # rows cut at max_length, with some labels left
    dropped: int = 0  # rows with no label left within max_length
    answers_cut: int = 0  # trained answers, of dropped rows too, whose end of turn is behind max_length
    bad: list[Broken] = field(default_factory=list)  # rows left out by dataset.on_bad_row=skip


@dataclass(frozen=True)
class Data:
    """All that training and evaluation read: two splits as tokens, and the tokenizer that made them."""

    tokenizer: Any
    train: Encoded
    held_out: Encoded
    added_tokens: list[int]  # ids that a chat template brought, to be trained
    checkable: bool  # whether an answer has one right text


def encode(
    rows: Sequence[Mapping[str, Any] | Broken],
    to_example: Callable[[Any], Conversation | Text],
    tokenizer: Any,
    max_length: int,
    name: str,
    *,
    cut: bool = True,
) -> Encoded:
    """Tokens and labels of a split's rows, bad ones listed; raises ConfigError where none keeps an answer.

    `cut=False` leaves rows longer than max_length whole, for a packing that splits them.
    """
    bad: list[Broken] = []
    pieces = pieces_of(rows, to_example, tokenizer, name, bad)
    examples: list[Example] = []
    truncated = dropped = answers_cut = 0
    while chunk := list(islice(pieces, CHUNK)):
        for example, ends in _examples(chunk, tokenizer, max_length, bad):
            if cut:
                ids, labels = example.input_ids[:max_length], example.labels[:max_length]
                example = replace(example, input_ids=ids, labels=labels)
                answers_cut += sum(end > max_length for end in ends)
            if example.loss_tokens == 0:
                dropped += 1
            else:
                truncated += cut and ends[-1] > max_length
                examples.append(example)
    if dropped and not examples:
        raise ConfigError(
            f"none of the {dropped} {name} rows has an answer within model.max_length={max_length} tokens. "
            f"Fix: model.max_length={2 * max_length}"
        )
    return Encoded(examples, truncated, dropped, answers_cut, bad)


def _examples(
    chunk: Sequence[Pieces], tokenizer: Any, max_length: int, bad: list[Broken]
) -> Iterator[tuple[Example, list[int]]]:
    """Each row's Example, and where its answers end before they are cut at max_length."""
    ids = iter(_ids([text for row in chunk for text in row.to_tokenize], tokenizer))
    for row in chunk:
        parts = [next(ids) for _ in row.texts]
        try:
            if row.is_conversation:
                parts = _as_generated(row, parts, tokenizer)
            yield _example(row, parts, max_length)
        except BadRow as error:
            bad.append(Broken(row.where, str(error)))


def _as_generated(row: Pieces, parts: list[list[int]], tokenizer: Any) -> list[list[int]]:
    """The parts' tokens, the last of them found in the whole conversation behind the tokens of its prompt.

    Raises BadRow where earlier turns, put together, are not the tokens that the prompt of the last one has.
    """
    *apart, whole = parts
    prompt = list(chain.from_iterable(apart))
    if whole[: len(prompt)] == prompt and len(whole) > len(prompt):
        return [*apart, whole[len(prompt) :]]
    # The answer's beginning has merged with the prompt's end, as two line breaks do. The model goes on
    # from the prompt's own tokens, and so does training.
    texts = [text for text, _ in row.texts]
    given, answer = _ids(["".join(texts[:-1]), texts[-1]], tokenizer)
    if given != prompt:
        last = "; dataset_format.train_on=last_turn takes it as it is"
        raise BadRow(_difference(prompt, given, tokenizer) + last)
    if tokenizer.decode(prompt + answer) != tokenizer.decode(whole):
        raise BadRow(_difference(prompt + answer, whole, tokenizer))
    return [*apart, answer]


def _example(row: Pieces, parts: list[list[int]], max_length: int) -> tuple[Example, list[int]]:
    parts[0] = parts[0] if parts[0][: len(row.begin)] == row.begin else [*row.begin, *parts[0]]
    parts[-1] = [*parts[-1], *row.end]
    input_ids: list[int] = []
    labels: list[int] = []
    prompt: list[int] = []
    ends: list[int] = []
    answer = ""
    for (_, said), ids in zip(row.texts, parts, strict=True):
        if said is not None and (not ends or len(input_ids) < max_length):
            prompt, answer = list(input_ids), said
        input_ids += ids
        labels += ids if said is not None else [IGNORED] * len(ids)
        if said is not None:
            ends.append(len(input_ids))
    return Example(input_ids, labels, prompt, answer, row.is_conversation), ends


def _ids(texts: list[str], tokenizer: Any) -> list[list[int]]:
    if not texts:
        return []
    made: list[list[int]] = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)[
        "input_ids"
    ]
    return made


def _difference(apart: list[int], whole: list[int], tokenizer: Any) -> str:
    pairs = enumerate(zip_longest(apart, whole))
    at = next(i for i, (one, other) in pairs if one != other)
    return (
        f"turn by turn, its tokens are not those of the whole conversation: from token {at} on "
        f"{tokenizer.convert_ids_to_tokens(apart[at : at + 3])} becomes "
        f"{tokenizer.convert_ids_to_tokens(whole[at : at + 3])}"
    )
