"""A row -> a conversation with its trained turns, or a text with its trained part.

    Instruction(...)({"instruction": "1+1?", "response": "2"})
      -> Conversation(messages=[user "1+1?", assistant "2"], trained=[1])
A format of your own is any callable from a row to one of the two:
    dataset_format._target_=my_package.MyFormat
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any, Literal

from sft_research.config import ConfigError
from sft_research.dataset import Row

Message = dict[str, Any]
SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


@dataclass(frozen=True)
class Conversation:
    """Turns for the model's chat template; `trained` are the positions of the turns with loss."""

    messages: list[Message]
    trained: list[int]


@dataclass(frozen=True)
class Text:
    """Plain text without a template: loss on the completion and the end-of-text token."""

    prompt: str
    completion: str


class BadRow(ValueError):
    """A row that a format cannot take: what is wrong with it."""


@dataclass(frozen=True)
class Instruction:
    instruction: str = "instruction"
    input: str = "input"
    response: str = "response"
    system: str | None = None

    def __call__(self, row: Row) -> Conversation:
        asked = column(row, self.instruction)
        if row.get(self.input):
            asked += f"\n\n{row[self.input]}"
        return _single_turn(asked, column(row, self.response), self.system)


@dataclass(frozen=True)
class Thinking:
    """`<think>\\n{thinking}\\n</think>\\n\\n{response}`, in the tags of the model."""

    think_tags: list[str] | None  # None, a model without them, is refused before anything loads
    instruction: str = "instruction"
    thinking: str = "thinking"
    response: str = "response"
    system: str | None = None

    def __call__(self, row: Row) -> Conversation:
        assert self.think_tags
        start, end = self.think_tags
        thought = f"{start}\n{column(row, self.thinking)}\n{end}\n\n{column(row, self.response)}"
        return _single_turn(column(row, self.instruction), thought, self.system)


@dataclass(frozen=True)
class Chat:
    messages: str = "messages"
    system: str | None = None
    train_on: Literal["every_turn", "last_turn"] = "every_turn"

    def __call__(self, row: Row) -> Conversation:
        turns = [
            {"role": role, "content": said} for role, said in _turns(row, self.messages, "role", "content")
        ]
        return _conversation(turns, self.system, self.train_on)


@dataclass(frozen=True)
class ShareGPT:
    conversations: str = "conversations"
    system: str | None = None
    train_on: Literal["every_turn", "last_turn"] = "every_turn"

    def __call__(self, row: Row) -> Conversation:
        turns = []
        for role, said in _turns(row, self.conversations, "from", "value"):
            if role not in SHAREGPT_ROLES:
                raise BadRow(f"unknown role {role!r}; known are {', '.join(SHAREGPT_ROLES)}")
            turns.append({"role": SHAREGPT_ROLES[role], "content": said})
        return _conversation(turns, self.system, self.train_on)


@dataclass(frozen=True)
class Template:
    """Free text with columns in braces; braces inside the data are harmless."""

    prompt: str
    completion: str

    def __call__(self, row: Row) -> Text:
        return Text(_fill(self.prompt, row), _fill(self.completion, row))


def column(row: Row, name: str) -> str:
    """The text of a column; raises BadRow where it is missing, null, empty or no text."""
    if name not in row:
        raise BadRow(f"no column {name!r}; it has {', '.join(row)}")
    if not isinstance(row[name], str) or not row[name].strip():
        raise BadRow(f"column {name!r} holds {row[name]!r}, not a text")
    return row[name]


def _fill(template: str, row: Row) -> str:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(
            f"dataset_format: {error} in {template!r}. Fix: {{{{ and }}}} for braces of the text itself"
        ) from error
    return "".join(literal + (column(row, field) if field else "") for literal, field, _, _ in parts)


def _single_turn(asked: str, answer: str, system: str | None) -> Conversation:
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return _conversation(turns, system, "last_turn")


def _conversation(turns: list[Message], system: str | None, train_on: str) -> Conversation:
    if system is not None and turns[0]["role"] != "system":
        turns = [{"role": "system", "content": system}, *turns]
    answers = [index for index, turn in enumerate(turns) if turn["role"] == "assistant"]
    if not answers:
        roles = ", ".join(dict.fromkeys(turn["role"] for turn in turns))
        raise BadRow(f"no assistant turn, so nothing to learn from; its roles are {roles}")
    return Conversation(turns, answers if train_on == "every_turn" else answers[-1:])


def _turns(row: Row, name: str, role: str, said: str) -> list[tuple[str, str]]:
    """(role, what is said) of each turn, by the names that the row gives them."""
    if name not in row:
        raise BadRow(f"no column {name!r}; it has {', '.join(row)}")
    if not isinstance(row[name], list) or not row[name]:
        raise BadRow(f"column {name!r} is not a list of turns")
    for number, turn in enumerate(row[name], 1):
        for key in (role, said):
            if not isinstance(turn, dict) or not isinstance(turn.get(key), str):
                raise BadRow(f"column {name!r}, turn {number}: no text {key!r} in {turn!r:.80}")
    return [(turn[role], turn[said]) for turn in row[name]]


def require_template(tokenizer_has_one: bool, name: str) -> None:
    """Raise ConfigError for a conversation where the tokenizer has no chat template."""
    if not tokenizer_has_one:
        raise ConfigError(
            f"{name} has no chat template, and this dataset_format makes conversations. "
            "Fix: model.chat_template=chatml, or dataset_format=question_answer"
        )
