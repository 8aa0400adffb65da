"""What is proven of a run's tokens, before anything heavy is loaded: masks, turns and overlap.

A proof returns what it found, in a line, or raises ConfigError: the fact, the numbers, the override.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

from sft_research.columns import BadRow
from sft_research.config import ConfigError
from sft_research.counts import Tokens, tokens_of
from sft_research.overlap import duplicates, overlap
from sft_research.tokens import IGNORED, Data, Encoded, Example
from sft_research.turns import end_of_turn

FIRST = 8  # rows of each split that are tokenised once more


def masks(data: Data, max_length: int) -> str:
    """Every example trains some token, and each answer that is whole ends in a trained end of turn."""
    stops, end = _stops(data.tokenizer)
    answers = 0
    for name, split in _splits(data):
        tokens = tokens_of(split.examples)
        if not tokens.trained.all():
            number = int(np.argmin(tokens.trained))
            raise ConfigError(
                f"{name} example {number + 1} has {tokens.lengths[number]} tokens and no label with loss. "
                "Fix: dataset_format=... whose trained part is not empty"
            )
        rows, lasts = _answer_ends(tokens, max_length)
        answers += len(rows)
        unusual = ~np.isin(tokens.labels[lasts], list(stops))
        for row, last in zip(rows[unusual], lasts[unusual], strict=True):
            position = int(last - tokens.lengths[:row].sum())
            ids = split.examples[int(row)].input_ids[: position + 1]
            if not (end and _text(ids, data.tokenizer).rstrip().endswith(end)):
                trained = [label for label in tokens.labels[max(last - 3, 0) : last + 1] if label != IGNORED]
                raise ConfigError(
                    f"{name} example {row + 1} is trained to end in {_text(trained, data.tokenizer)!r}, not in the "
                    f"end of turn {end or data.tokenizer.eos_token!r}: a model trained so never stops. "
                    "Fix: model.chat_template=chatml, or a FILE that ends every answer with it"
                )
    return f"{answers:,} answers end in a trained end of turn; {_lost(data)}"


def _answer_ends(tokens: Tokens, max_length: int) -> tuple[np.ndarray, np.ndarray]:
    """(row, position in line) of each answer's last token; not of one that was cut, whose end is behind max_length.

    Labels [-100, 5, 6] and [-100, 7, -100] -> rows [0, 1], positions [2, 4]
    """
    has_loss = tokens.labels != IGNORED
    until = np.cumsum(tokens.lengths)
    goes_on = np.append(has_loss[1:], False)
    goes_on[until - 1] = False
    lasts = np.flatnonzero(has_loss & ~goes_on)
    rows = np.searchsorted(until, lasts, side="right")
    cut = (lasts == until[rows] - 1) & (tokens.lengths[rows] == max_length)
    return rows[~cut], lasts[~cut]


def turns(data: Data, max_length: int) -> str:
    """The first rows, tokenised once more as whole texts: same ids, and labels that begin where the
    generation prompt ends. `encode` has proven it of every row; this does not take its word."""
    tokenizer, checked = data.tokenizer, 0
    head = _generation_prompt(tokenizer)
    for name, split in _splits(data):
        uncut = (e for e in split.examples if len(e.input_ids) < max_length)
        for number, example in enumerate(islice(uncut, FIRST), start=1):
            problem = _wrong_mask(example, tokenizer, head) or _not_canonical(example, tokenizer)
            if problem:
                raise ConfigError(
                    f"whole {name} example {number}: {problem}. "
                    "Fix: dataset_format=..., or model.chat_template=chatml"
                )
            checked += 1
    bad = len(data.train.bad) + len(data.held_out.bad)
    return f"turn by turn as whole in all rows ({bad} left out as bad); {checked} tokenised once more"


def no_overlap(data: Data, max_length: int) -> str:
    """No held-out row is trained on."""
    train, held_out = data.train.examples, data.held_out.examples
    shared = overlap(train, held_out, max_length)
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
    first = next(i for i, label in enumerate(example.labels) if label != IGNORED)
    before = _text(example.input_ids[:first], tokenizer)
    if head and example.in_template and not before.endswith(head):
        return f"its first label follows {before[-40:]!r}, not the generation prompt {head!r}"
    return ""


def _not_canonical(example: Example, tokenizer: Any) -> str:
    """Its tokens are those of its text: as one, or as generation has it, the prompt and what follows it."""
    ids, begin = example.input_ids, len(example.prompt)
    apart = any(_difference(part, tokenizer) for part in (ids[:begin], ids[begin:]))
    return _difference(ids, tokenizer) if apart else ""


def _difference(ids: list[int], tokenizer: Any) -> str:
    again = tokenizer(_text(ids, tokenizer), add_special_tokens=False).input_ids
    if again == ids:
        return ""
    at = next((i for i, (a, b) in enumerate(zip(ids, again, strict=False)) if a != b), len(ids))
    return (
        f"its tokens are not those of its text: at token {at}, {tokenizer.convert_ids_to_tokens(ids[at : at + 3])} "
        f"becomes {tokenizer.convert_ids_to_tokens(again[at : at + 3])}"
    )


def _text(ids: list[int], tokenizer: Any) -> str:
    # Tidied spaces would be other tokens.
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
