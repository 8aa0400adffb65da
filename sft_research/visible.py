"""An example's tokens as a person can read them: whole characters, whitespace that shows, no control codes.

<|im_start|> user ↵  1 + 1 ?  ...  é²      one character of two tokens
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from sft_research import secrets
from sft_research.tokens import IGNORED, Example

UNFINISHED = "\ufffd"  # what a decoder writes for bytes that are no character yet, or for U+FFFD itself
WHITESPACE = {"\n": "↵\n", "\t": "⇥", "\r": "␍", "\u00a0": "⍽"}
SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True)
class Piece:
    """A token, or the few that make one character together."""

    text: str
    ids: tuple[int, ...]  # none where its text is a secret
    at: int  # position of the first
    trained: bool
    special: bool

    def shown(self, with_ids: bool = False) -> str:
        """Its text with every character visible, then ² for two tokens, then their numbers."""
        behind = str(len(self.ids)).translate(SUPERSCRIPT) if len(self.ids) > 1 else ""
        if with_ids:
            behind += ",".join(map(str, self.ids)).translate(SUBSCRIPT)
        text = visible(self.text)
        return text[:-1] + behind + "\n" if text.endswith("\n") else text + behind


@dataclass(frozen=True)
class Gap:
    """Tokens that are not shown."""

    count: int
    trained: bool


def pieces(example: Example, tokenizer: Any) -> list[Piece]:
    """Together they say what the tokenizer decodes the whole row to; secrets are struck out."""
    ids = example.input_ids
    labelled = [label != IGNORED for label in example.labels]
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    made: list[Piece] = []
    context = begin = 0  # decoded after the piece before, since some decoders drop a leading space
    for end in range(1, len(ids) + 1):
        before = _decode(tokenizer, ids[context:begin])
        text = _decode(tokenizer, ids[context:end])[len(before) :]
        may_grow = end < len(ids) and labelled[end] == labelled[begin] and ids[end] not in special
        if text.endswith(UNFINISHED) and may_grow:
            continue
        # The first token of a row is predicted by nothing, so it has no loss whatever its label.
        trained = labelled[begin] and end > 1
        made.append(Piece(text, tuple(ids[begin:end]), begin, trained, ids[begin] in special))
        context, begin = begin, end
    return _without_secrets(made)


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def _without_secrets(made: list[Piece]) -> list[Piece]:
    """A key in a row is spread over many tokens, so it is looked for in the text that they make."""
    struck = secrets.spans("".join(piece.text for piece in made))
    if not struck:
        return made
    kept, start = [], 0
    for piece in made:
        end = start + len(piece.text)
        hidden = any(start < stop and end > first for first, stop in struck)
        kept.append(replace(piece, text="***", ids=()) if hidden else piece)
        start = end
    return kept


def visible(text: str) -> str:
    """Newlines as ↵ with a real one behind, other whitespace and control codes as marks.

    A single space between words stays one; two or more, or a text of nothing else, become ·.
    """
    if text and not text.strip(" "):
        return "·" * len(text)
    shown = []
    for is_space, run in groupby(text, lambda character: character == " "):
        part = "".join(run)
        if is_space:
            shown.append("·" * len(part) if len(part) > 1 else part)
        else:
            shown.append("".join(_character(character) for character in part))
    return "".join(shown)


def _character(character: str) -> str:
    if character in WHITESPACE:
        return WHITESPACE[character]
    # Control codes would act on the terminal; marks that turn the direction would hide text in a page.
    if unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"):
        return f"⟨U+{ord(character):04X}⟩"
    return character


def elided(made: Sequence[Piece], keep: int) -> list[Piece | Gap]:
    """Long stretches of one kind without their middle: `keep` pieces stay on either side of it."""
    left: list[Piece | Gap] = []
    for trained, run in groupby(made, lambda piece: piece.trained):
        stretch = list(run)
        if len(stretch) <= 2 * keep + 1:
            left += stretch
        else:
            hidden = sum(len(piece.ids) for piece in stretch[keep:-keep])
            left += [*stretch[:keep], Gap(hidden, trained), *stretch[-keep:]]
    return left
