"""What a model is worth on rows it never saw: held-out loss, right answers, right form.

Held-out loss is the sum of the negative log-likelihood over the number of completion tokens, so it
does not move with the batch size, unlike a mean of batch means (huggingface/transformers#39241).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from tqdm import tqdm

from sft_research.tokens import IGNORED, Data, Example

LOGIT_BYTES = 2**30  # at most this much memory for the logits of one batch


@dataclass(frozen=True)
class Evaluation:
    """How many held-out questions are answered, and how."""

    questions: int
    max_new_tokens: int
    batch_size: int


@dataclass(frozen=True)
class Scores:
    """Of one model on the held-out rows. Shares are 0 to 1; None where there is nothing to compare."""

    loss: float | None  # nats a completion token
    questions: int
    exact_match: float | None
    form: float | None  # answers that close their thought and stop by themselves


@dataclass(frozen=True)
class Answer:
    """One generated answer, the tag that the prompt had opened included."""

    question: str
    expected: str
    text: str
    stopped: bool


def held_out_loss(model: Any, examples: Sequence[Example], batch_size: int) -> float:
    """Sum of NLL over completion tokens, in nats a token."""
    import torch

    total = torch.zeros((), dtype=torch.float64)
    with evaluating(model):
        for ids, mask, labels in batches(examples, batch_size, _vocabulary(model), model.device):
            # use_cache=False: with a cache, rows packed into one would see each other.
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
            kept = labels[:, 1:] != IGNORED
            nll = torch.nn.functional.cross_entropy(logits[kept].float(), labels[:, 1:][kept], reduction="sum")
            total += nll.double().cpu()
    return (total / sum(example.loss_tokens for example in examples)).item()


def batches(
    examples: Sequence[Example], batch_size: int, vocabulary: int, device: Any
) -> Iterator[tuple[Any, Any, Any]]:
    """(ids, attention mask, labels), each (B, T), right-padded; short rows together, logits bounded."""
    import torch

    batch: list[Example] = []
    budget = LOGIT_BYTES // (4 * vocabulary)
    for example in [*sorted(examples, key=lambda e: len(e.input_ids)), None]:
        full = example is None or (len(batch) + 1) * len(example.input_ids) > budget
        if batch and (full or len(batch) == batch_size):
            width = len(batch[-1].input_ids)
            pad = [width - len(e.input_ids) for e in batch]
            ids = [e.input_ids + [0] * p for e, p in zip(batch, pad, strict=True)]
            mask = [[1] * len(e.input_ids) + [0] * p for e, p in zip(batch, pad, strict=True)]
            labels = [e.labels + [IGNORED] * p for e, p in zip(batch, pad, strict=True)]
            yield tuple(torch.tensor(part, device=device) for part in (ids, mask, labels))  # type: ignore[misc]
            batch = []
        if example is not None:
            batch.append(example)


def answer(
    model: Any, tokenizer: Any, examples: Sequence[Example], settings: Evaluation, done: Callable[[int], Any]
) -> list[Answer]:
    """Greedy answers to the examples' prompts, left-padded, in batches of similar length."""
    import torch

    order = sorted(range(len(examples)), key=lambda i: len(examples[i].prompt))
    answers: dict[int, Answer] = {}
    with evaluating(model):
        for start in range(0, len(order), settings.batch_size):
            chosen = order[start : start + settings.batch_size]
            prompts = [examples[i].prompt for i in chosen]
            width = max(map(len, prompts))
            ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(p)) + p for p in prompts])
            mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
            said = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=settings.max_new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                use_cache=True,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )[:, width:].tolist()
            for index, tokens in zip(chosen, said, strict=True):
                answers[index] = _answer(tokenizer, examples[index], tokens)
            done(len(chosen))
    return [answers[index] for index in range(len(examples))]


@dataclass(frozen=True)
class Judged:
    scores: Scores
    answers: list[Answer]


@dataclass(frozen=True)
class Judge:
    """Scores one model on the held-out rows, at any time, always on the same rows in the same way."""

    model: Any
    data: Data
    settings: Evaluation
    think_tags: Sequence[str] | None
    console: IO[str]

    def __call__(self, when: str, known_loss: float | None = None) -> Judged:
        """`known_loss`: the held-out loss at this step, where the trainer has just measured it."""
        held_out = self.data.held_out.examples
        loss = known_loss
        if loss is None and held_out:
            loss = held_out_loss(self.model, held_out, self.settings.batch_size)
        asked = held_out[: self.settings.questions]
        with tqdm(total=len(asked), desc=f"answers {when}", file=self.console, disable=not asked) as bar:
            answers = answer(self.model, self.data.tokenizer, asked, self.settings, bar.update)
        return Judged(score(answers, loss, self.data.checkable, self.think_tags), answers)


def score(answers: Sequence[Answer], loss: float | None, checkable: bool, think_tags: Sequence[str] | None) -> Scores:
    """Share of right answers, and of answers in the right form."""
    count = len(answers)
    right = sum(final_answer(a.text, think_tags) == final_answer(a.expected, think_tags) for a in answers)
    formed = sum(a.stopped and has_form(a.text, a.expected, think_tags) for a in answers)
    return Scores(
        loss=loss,
        questions=count,
        exact_match=right / count if count and checkable else None,
        form=formed / count if count else None,
    )


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
    return re.fullmatch(rf"{start}\n(?:(?!{start}|{end})[\s\S])+\n{end}\n\n(?:(?!{start}|{end})[\s\S])+", text) is not None


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Dropout and gradients off, and the training state back afterwards."""
    import torch

    training = model.training
    model.eval()
    try:
        with torch.inference_mode(False), torch.no_grad():
            yield
    finally:
        model.train(training)


def _answer(tokenizer: Any, example: Example, tokens: list[int]) -> Answer:
    stopped = tokenizer.eos_token_id in tokens
    if stopped:
        tokens = tokens[: tokens.index(tokenizer.eos_token_id)]
    opened = tokenizer.decode(example.prompt[-8:])
    text = tokenizer.decode([t for t in tokens if t != tokenizer.pad_token_id])
    tag = example.answer.split("\n", 1)[0] + "\n"
    if opened.endswith(tag):
        text = tag + text
    return Answer(tokenizer.decode(example.prompt), example.answer, text, stopped)


def _vocabulary(model: Any) -> int:
    return int(model.get_output_embeddings().weight.shape[0])
