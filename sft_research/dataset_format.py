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

from sft_research.columns import BadRow, Message, Row, column, tools_of, turns_of
from sft_research.config import ConfigError

ROLES = ("system", "user", "assistant", "tool")
SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "function_response": "tool",
}


@dataclass(frozen=True)
class Conversation:
    """Turns for the model's chat template; `trained` are the positions of the turns with loss."""

    messages: list[Message]
    trained: list[int]
    tools: list[Any] | None = None  # descriptions of functions, handed to the template as they are


@dataclass(frozen=True)
class Text:
    """Plain text without a template: loss on the completion and the end-of-text token."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Instruction:
    instruction: str = "instruction"
    input: str = "input"
    response: str = "response"
    system: str | None = None

    def __call__(self, row: Row) -> Conversation:
        asked = column(row, self.instruction)
        more = row.get(self.input)
        if more is not None and (not isinstance(more, str) or more.strip()):
            asked += f"\n\n{column(row, self.input)}"
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
        thought, response = column(row, self.thinking), column(row, self.response)
        for name, text in ((self.thinking, thought), (self.response, response)):
            for tag in (start, end):
                if tag in text:
                    raise BadRow(f"column {name!r} holds {tag} itself, so that it would be there twice")
        answer = f"{start}\n{thought}\n{end}\n\n{response}"
        return _single_turn(column(row, self.instruction), answer, self.system)


@dataclass(frozen=True)
class Chat:
    messages: str = "messages"
    tools: str | None = "tools"  # null: without them
    system: str | None = None
    train_on: Literal["every_turn", "last_turn"] = "every_turn"

    def __call__(self, row: Row) -> Conversation:
        turns = list(turns_of(row, self.messages, "role", "content", dict(zip(ROLES, ROLES, strict=True))))
        return _conversation(turns, self.system, self.train_on, tools_of(row, self.tools))


@dataclass(frozen=True)
class ShareGPT:
    conversations: str = "conversations"
    tools: str | None = "tools"  # null: without them
    system: str | None = None
    train_on: Literal["every_turn", "last_turn"] = "every_turn"

    def __call__(self, row: Row) -> Conversation:
        turns = list(turns_of(row, self.conversations, "from", "value", SHAREGPT_ROLES))
        return _conversation(turns, self.system, self.train_on, tools_of(row, self.tools))


@dataclass(frozen=True)
class Template:
    """Free text with columns in braces; braces inside the data are harmless."""

    prompt: str
    completion: str

    def __call__(self, row: Row) -> Text:
        return Text(_fill(self.prompt, row), _fill(self.completion, row))


def _fill(template: str, row: Row) -> str:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(
            f"dataset_format: {error} in {template!r}. Fix: {{{{ and }}}} for braces of the text itself"
        ) from error
    if unclear := [part for part in parts if part[1] == "" or part[2] or part[3]]:
        raise ConfigError(
            f"dataset_format: braces that name no column, behind {unclear[0][0]!r} in {template!r}. "
            "Fix: {{ and }} for braces of the text itself"
        )
    return "".join(literal + (column(row, field) if field else "") for literal, field, _, _ in parts)


def _single_turn(asked: str, answer: str, system: str | None) -> Conversation:
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return _conversation(turns, system, "last_turn")


def _conversation(
    turns: list[Message], system: str | None, train_on: str, tools: list[Any] | None = None
) -> Conversation:
    if system is not None and turns[0]["role"] != "system":
        turns = [{"role": "system", "content": system}, *turns]
    answers = [index for index, turn in enumerate(turns) if turn["role"] == "assistant"]
    if 0 in answers:
        raise BadRow("its first turn is the assistant's, so it answers nothing")
    if not answers:
        roles = ", ".join(dict.fromkeys(turn["role"] for turn in turns))
        raise BadRow(f"no assistant turn, so nothing to learn from; its roles are {roles}")
    for index in answers:
        if index + 1 in answers:
            raise BadRow(f"turns {index + 1} and {index + 2} are both the assistant's")
    return Conversation(turns, answers if train_on == "every_turn" else answers[-1:], tools)


def require_template(tokenizer_has_one: bool, name: str) -> None:
    """Raise ConfigError for a conversation where the tokenizer has no chat template."""
    if not tokenizer_has_one:
        raise ConfigError(
            f"{name} has no chat template, and this dataset_format makes conversations. "
            "Fix: model.chat_template=chatml, or dataset_format=question_answer"
        )
