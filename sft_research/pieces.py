"""A row -> its texts in order, those with loss marked.

[("<|im_start|>user\\n1+1?<|im_end|>\\n<|im_start|>assistant\\n", None), ("2<|im_end|>", "2")]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sft_research.columns import BadRow
from sft_research.config import ConfigError
from sft_research.dataset import place_of
from sft_research.dataset_format import Conversation, Text, require_template
from sft_research.readers import MAX_ROW_BYTES, Broken
from sft_research.turns import turns_in_template

# What a format, which may be the user's own, stumbles over in a row.
MISTAKES = (
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    ArithmeticError,
    AssertionError,
    RecursionError,
)


@dataclass(frozen=True)
class Pieces:
    """A row as texts in order; those with an answer have loss, together with `end` behind the last."""

    where: str
    texts: list[tuple[str, str | None]]  # (text, the answer that it is)
    begin: list[int]
    end: list[int]
    is_conversation: bool

    @property
    def to_tokenize(self) -> list[str]:
        """Each text by itself; in a conversation the last within the whole, where its tokens are looked for."""
        texts = [text for text, _ in self.texts]
        return [*texts[:-1], "".join(texts)] if self.is_conversation else texts


def pieces_of(
    rows: Sequence[Any], to_example: Callable[[Any], Any], tokenizer: Any, name: str, bad: list[Broken]
) -> Iterator[Pieces]:
    """The pieces of each row, and into `bad` the rows that have none, with the reason."""
    begins = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
    begin = [tokenizer.bos_token_id] if begins else []
    special = [re.escape(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special]
    marks = re.compile("|".join(special) or "(?!)")
    for index, row in enumerate(rows):
        where = place_of(row, index, name)
        try:
            if isinstance(row, Broken):
                raise BadRow(row.reason)
            made = (getattr(row, "format", None) or to_example)(row)
            if isinstance(made, Conversation):
                if not made.trained:
                    raise BadRow("the format made a conversation of it without a trained turn")
                _require_no_marks(made, marks)
                require_template(bool(tokenizer.chat_template), tokenizer.name_or_path)
                try:
                    turns = turns_in_template(made, tokenizer)
                except ConfigError as error:  # of the template, with turns as this row has them
                    raise ConfigError(f"{where}: {error}") from error
                said = [made.messages[index]["content"] for index in made.trained]
                texts = [
                    t
                    for turn, text in zip(turns, said, strict=True)
                    for t in ((turn.context, None), (turn.answer, text))
                ]
                yield _whole(Pieces(where, texts, [], [], True))
            elif isinstance(made, Text):
                texts = [(made.prompt, None), (made.completion, made.completion)]
                yield _whole(Pieces(where, texts, begin, [tokenizer.eos_token_id], False))
            else:
                raise BadRow(f"the format made a {type(made).__name__} of it, no Conversation and no Text")
        except BadRow as error:
            bad.append(Broken(where, str(error)))
        except MISTAKES as error:
            bad.append(Broken(where, f"{type(error).__name__}: {error}"))


def _require_no_marks(conversation: Conversation, marks: re.Pattern[str]) -> None:
    """Raise BadRow where somebody says a special token: the model would see a turn that nobody had."""
    for number, message in enumerate(conversation.messages, start=1):
        if found := marks.search(message["content"]):
            raise BadRow(f"turn {number} says {found[0]}, a special token of the tokenizer")


def _whole(row: Pieces) -> Pieces:
    """The row, where its text is one that a tokenizer takes."""
    text = "".join(text for text, _ in row.texts)
    if len(text) > MAX_ROW_BYTES:
        raise BadRow(f"a text of {len(text):,} characters, where the most is {MAX_ROW_BYTES:,}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadRow(
                f"it holds half a character ({text[error.start]!a}), which no tokenizer takes"
            ) from None
    return row
