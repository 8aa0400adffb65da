"""Answers that a model really generates to held-out questions: what they say, and their form."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sft_research import stopping
from sft_research.loss import evaluating
from sft_research.tokens import Example


@dataclass(frozen=True)
class Answer:
    """One generated answer, the tag that the prompt had opened included."""

    question: str
    expected: str
    text: str
    stopped: bool
    right: bool | None = None  # where there is one right text


def answer(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    batch_size: int,
    max_new_tokens: int,
    done: Callable[[int], Any],
) -> list[Answer]:
    """Greedy answers to the examples' prompts, left-padded, in batches of similar length."""
    import torch

    order = sorted(range(len(examples)), key=lambda i: len(examples[i].prompt))
    answers: dict[int, Answer] = {}
    with evaluating(model):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            prompts = [examples[i].prompt for i in chosen]
            width = max(map(len, prompts))
            ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(p)) + p for p in prompts])
            mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
            said = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                use_cache=True,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                stopping_criteria=[_polled],
            )[:, width:].tolist()
            for index, tokens in zip(chosen, said, strict=True):
                answers[index] = _answer(tokenizer, examples[index], tokens)
            done(len(chosen))
    return [answers[index] for index in range(len(examples))]


def final_answer(text: str, think_tags: Sequence[str] | None) -> str:
    """What is left to compare: after the thought, and after GSM8K's `####`.

    final_answer("<think>\\n6*7=42\\n</think>\\n\\n42", ["<think>", "</think>"]) -> "42"
    """
    if think_tags:
        text = text.rpartition(think_tags[1])[2]
    return text.rpartition("####")[2].strip()


def has_form(text: str, expected: str, think_tags: Sequence[str] | None) -> bool:
    """Whether an answer has the shape of the expected one: a thought, its end and an answer, or none of it."""
    if not think_tags or think_tags[1] not in expected:
        return bool(text.strip())
    start, end = (re.escape(tag) for tag in think_tags)
    words = rf"(?:(?!{start}|{end})[\s\S])+"  # any text without a tag in it
    return re.fullmatch(rf"{start}\n{words}\n{end}\n\n{words}", text) is not None


def _polled(ids: Any, scores: Any, **_: Any) -> Any:
    """Asked after every token, and always says to go on; raises Stopped where the run is to stop."""
    import torch

    stopping.poll()
    return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)


def _answer(tokenizer: Any, example: Example, tokens: list[int]) -> Answer:
    stopped = tokenizer.eos_token_id in tokens
    if stopped:
        tokens = tokens[: tokens.index(tokenizer.eos_token_id)]
    opened = tokenizer.decode(example.prompt[-8:])
    text = tokenizer.decode([t for t in tokens if t != tokenizer.pad_token_id])
    tag = example.answer.split("\n", 1)[0] + "\n"
    trained = tokenizer.decode(example.input_ids[len(example.prompt) :])
    # An answer "assistant" is not opened by ChatML's "<|im_start|>assistant\n".
    if opened.endswith(tag) and not trained.startswith(tag.rstrip()):
        text = tag + text
    return Answer(tokenizer.decode(example.prompt), example.answer, text, stopped)
