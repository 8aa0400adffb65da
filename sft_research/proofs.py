"""What is proven of a run's tokens, before anything heavy is loaded: masks, turns and overlap.

A proof returns what it found, in a line, or raises ConfigError: the fact, the numbers, the override.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from sft_research.columns import BadRow
from sft_research.config import ConfigError
from sft_research.overlap import duplicates, overlap
from sft_research.tokens import IGNORED, Data, Encoded, Example
from sft_research.turns import end_of_turn

FIRST = 8  # rows of each split that are tokenised once more


def masks(data: Data, max_length: int) -> str:
    """Every example trains some token, and each answer that is whole ends in a trained end of turn."""
    stops, end = _stops(data.tokenizer)
    answers = 0
    for name, split in _splits(data):
        for number, example in enumerate(split.examples, start=1):
            if example.loss_tokens == 0:
                raise ConfigError(
                    f"{name} example {number} has {len(example.labels)} tokens and no label with loss. "
                    "Fix: dataset_format=... whose trained part is not empty"
                )
            for start, stop in _answers(example.labels):
                if stop == len(example.labels) == max_length:
                    continue  # cut: its end of turn is behind max_length
                answers += 1
                ids = example.input_ids[start:stop]
                if ids[-1] not in stops and not _ends(ids, end, data.tokenizer):
                    last = _text(ids[-4:], data.tokenizer)
                    raise ConfigError(
                        f"{name} example {number} is trained to end in {last!r}, not in the end of turn "
                        f"{end or data.tokenizer.eos_token!r}: a model trained so never stops. "
                        "Fix: model.chat_template=chatml, or a FILE that ends every answer with it"
                    )
    return f"{answers:,} answers end in a trained end of turn; {_lost(data)}"


def turns(data: Data, max_length: int) -> str:
    """The first rows, tokenised once more as whole texts: same ids, and labels that begin where the
    generation prompt ends. `encode` has proven it of every row; this does not take its word."""
    tokenizer, checked = data.tokenizer, 0
    head = _generation_prompt(tokenizer)
    for name, split in _splits(data):
        uncut = (e for e in split.examples if len(e.input_ids) < max_length)
        for number, example in enumerate(islice(uncut, FIRST), start=1):
            problem = _wrong_mask(example, tokenizer, head) or _not_canonical(example, tokenizer, head)
            if problem:
                raise ConfigError(
                    f"whole {name} example {number}: {problem}. "
                    "Fix: dataset_format=..., or model.chat_template=chatml"
                )
            checked += 1
    bad = len(data.train.bad) + len(data.held_out.bad)
    return f"turn by turn as whole in all rows ({bad} left out as bad); {checked} tokenised once more"


def no_overlap(data: Data) -> str:
    """No held-out row is trained on."""
    train, held_out = data.train.examples, data.held_out.examples
    shared = overlap(train, held_out)
    if shared:
        rows = ", ".join(str(index + 1) for index in shared[:5]) + (", ..." if len(shared) > 5 else "")
        raise ConfigError(
            f"{len(shared)} of {len(held_out)} held-out rows are training rows too, token for token: "
            f"held-out {rows}. Fix: on_overlap=drop leaves them out of the training rows"
        )
    again = f"{duplicates(train)} training and {duplicates(held_out)} held-out rows are there twice"
    return f"none of {len(held_out):,} held-out rows is among {len(train):,} training rows; {again}"


def _splits(data: Data) -> tuple[tuple[str, Encoded], tuple[str, Encoded]]:
    return ("training", data.train), ("held-out", data.held_out)


def _lost(data: Data) -> str:
    lost = [split for _, split in _splits(data)]
    cut, dropped, answers = (
        sum(getattr(s, n) for s in lost) for n in ("truncated", "dropped", "answers_cut")
    )
    return (
        f"{cut} rows cut at model.max_length, {dropped} left out whole, {answers} answers without their end"
    )


def _answers(labels: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where labels with loss begin and stop: [-100, 5, 6, -100, 7] -> (1, 3), (4, 5)"""
    start: int | None = None
    for position, label in enumerate([*labels, IGNORED]):
        if label != IGNORED and start is None:
            start = position
        elif label == IGNORED and start is not None:
            yield start, position
            start = None


def _stops(tokenizer: Any) -> tuple[set[int], str]:
    """Ids that end an answer, and the end of turn of the chat template as text.

    Special tokens all may: Llama 3.1 ends a call of a tool otherwise than an answer. Not those that begin or
    fill a row.
    """
    others = {tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    stops = (set(tokenizer.all_special_ids) - others) | {tokenizer.eos_token_id}
    if not tokenizer.chat_template:
        return stops, ""
    try:
        return stops, end_of_turn(tokenizer)
    except (BadRow, ConfigError):  # a template that does not take the probe, only the rows' own turns
        return stops, ""


def _ends(ids: list[int], end: str, tokenizer: Any) -> bool:
    return bool(end) and _text(ids, tokenizer).rstrip().endswith(end)


def _generation_prompt(tokenizer: Any) -> str:
    """What the template puts before an answer, `<|im_start|>assistant\\n`; empty where it puts nothing."""
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        return ""
    probe = [{"role": "user", "content": "1+1?"}]
    try:
        asked, bare = (
            tokenizer.apply_chat_template(probe, tokenize=False, add_generation_prompt=add)
            for add in (True, False)
        )
    except (TemplateError, TypeError, ValueError, KeyError):
        return ""
    return str(asked[len(bare) :]) if asked.startswith(bare) else ""


def _wrong_mask(example: Example, tokenizer: Any, head: str) -> str:
    for position, (token, label) in enumerate(zip(example.input_ids, example.labels, strict=True)):
        if label not in (IGNORED, token):
            return f"at token {position} its label is {label}, where its token is {token}"
    begin, prompt = len(example.prompt), example.prompt
    around = example.labels[max(begin - 1, 0) : begin + 1]
    if (
        example.input_ids[:begin] != prompt
        or [label == IGNORED for label in around] != [True, False][-len(around) :]
    ):
        return f"its loss does not begin where its prompt of {begin} tokens ends"
    first = next(start for start, _ in _answers(example.labels))
    before = _text(example.input_ids[:first], tokenizer)
    if head and head in _text(example.input_ids, tokenizer) and not before.endswith(head):
        return f"its first label follows {before[-40:]!r}, not the generation prompt {head!r}"
    return ""


def _not_canonical(example: Example, tokenizer: Any, head: str) -> str:
    """A conversation is one text to the tokenizer; of a plain text, prompt and completion are two."""
    ids = example.input_ids
    begin = 0 if head and head in _text(ids, tokenizer) else len(example.prompt)
    for part in (ids[:begin], ids[begin:]):
        again = tokenizer(_text(part, tokenizer), add_special_tokens=False).input_ids
        if again != part:
            at = next((i for i, (a, b) in enumerate(zip(part, again, strict=False)) if a != b), len(part))
            return (
                f"its tokens are not those of its text: at token {at}, "
                f"{tokenizer.convert_ids_to_tokens(part[at : at + 3])} becomes "
                f"{tokenizer.convert_ids_to_tokens(again[at : at + 3])}"
            )
    return ""


def _text(ids: list[int], tokenizer: Any) -> str:
    # Tidied spaces would be other tokens.
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
