"""What a model is worth on rows it never saw: held-out loss, right answers, right form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from sft_research import ranks
from sft_research.answers import Answer, answer, final_answer, has_form
from sft_research.loss import held_out_loss
from sft_research.tokens import Data


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
    note: Callable[[str], None]
    file: Path | None = None  # for the loss of each row

    def __call__(self, when: str, known_loss: float | None = None) -> Judged:
        """`known_loss`: the held-out loss at this step, where the trainer has just measured it."""
        self.note(f"evaluating {when}")
        held_out, settings = self.data.held_out.examples, self.settings
        loss = known_loss
        if loss is None and held_out:
            loss = held_out_loss(self.model, held_out, settings.batch_size, self.file)
        asked = held_out[: settings.questions]
        with tqdm(total=len(asked), desc=f"answers {when}", file=self.console, disable=not asked) as bar:
            # By rank 0 alone: answers depend on the batch that they are made in.
            answers = ranks.by_first(
                lambda: answer(
                    self.model,
                    self.data.tokenizer,
                    asked,
                    settings.batch_size,
                    settings.max_new_tokens,
                    bar.update,
                )
            )
        if self.data.checkable:
            answers = [replace(one, right=is_right(one, self.think_tags)) for one in answers]
        return Judged(score(answers, loss, self.data.checkable, self.think_tags), answers)


def is_right(answer: Answer, think_tags: Sequence[str] | None) -> bool:
    """Whether what it says after its thought is what was expected."""
    return final_answer(answer.text, think_tags) == final_answer(answer.expected, think_tags)


def score(
    answers: Sequence[Answer], loss: float | None, checkable: bool, think_tags: Sequence[str] | None
) -> Scores:
    """Share of right answers, and of answers in the right form."""
    count = len(answers)
    right = sum(is_right(a, think_tags) for a in answers)
    formed = sum(a.stopped and has_form(a.text, a.expected, think_tags) for a in answers)
    return Scores(
        loss=loss,
        questions=count,
        exact_match=right / count if count and checkable else None,
        form=formed / count if count else None,
    )
