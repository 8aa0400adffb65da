"""A conversation -> its texts in the model's chat template: what comes before each answer, and the answer.

    context   <|im_start|>user\\n1+1?<|im_end|>\\n<|im_start|>assistant\\n    no loss
    answer    2<|im_end|>                                                  loss
A context ends as a prompt does at generation time. No `{% generation %}` marks are needed: the template is
asked for the conversation before each answer and with it, and refused where the two disagree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sft_research.columns import BadRow, Message
from sft_research.config import ConfigError
from sft_research.dataset_format import Conversation

OPENED = re.compile(r"<(\w+)>\s*$")  # a generation prompt that opens the thought, as Qwen3-Thinking's does


@dataclass(frozen=True)
class Turn:
    """The text between the previous answer and this one, and this one with its end of turn."""

    context: str
    answer: str


def turns_in_template(conversation: Conversation, tokenizer: Any) -> list[Turn]:
    """One Turn a trained turn, to be joined in order.

    Raises BadRow for a conversation that the template refuses or leaves a part of out, and ConfigError where it
    shows an earlier turn otherwise later on (Qwen3 drops its thoughts): that would teach what generation never sees.
    """
    done = ""
    made = []
    for index in conversation.trained:
        before = conversation.messages[:index]
        prompt = _render(tokenizer, before, conversation.tools, add_generation_prompt=True)
        if conversation.tools and prompt == _render(tokenizer, before, None, add_generation_prompt=True):
            raise BadRow(
                "the chat template does not show the tools that the row has; a model whose template does takes it, or "
                "dataset_format.tools=null without them"
            )
        if not prompt.startswith(done):
            raise ConfigError(
                f"the chat template shows earlier turns otherwise later on: {_difference(done, prompt)}. "
                "Fix: dataset_format.train_on=last_turn"
            )
        answer = _answer(tokenizer, conversation, index, prompt)
        made.append(Turn(prompt[len(done) :], answer))
        done = prompt + answer
    return made


def end_of_turn(tokenizer: Any) -> str:
    """What the template puts after an answer, such as `<|im_end|>`: generation stops there."""
    return _end(tokenizer, [{"role": "user", "content": "1+1?"}])


def _answer(tokenizer: Any, conversation: Conversation, index: int, prompt: str) -> str:
    """What the model is to say after `prompt`, as the template writes it.

    A template that leaves thoughts out of every finished turn (DeepSeek-R1's) is shown to do only that, and
    the turn is written out as generation would: thought, answer and end of turn.
    """
    before, turn = conversation.messages[:index], conversation.messages[index]
    shown = _render(tokenizer, [*before, turn], conversation.tools)
    if turn.get("tool_calls"):
        silent = {key: value for key, value in turn.items() if key != "tool_calls"}
        if shown == _render(tokenizer, [*before, silent], conversation.tools):
            raise BadRow("the chat template does not show the tool calls of its answer")
    content = turn["content"].strip()
    if shown.startswith(prompt) and content in shown[len(prompt) :]:
        return shown[len(prompt) :].rstrip()
    opened = OPENED.search(prompt)
    head = prompt[: opened.start()] if opened else prompt
    visible = content.rpartition("</think>")[2].strip()
    said = shown[len(head) :].rpartition("</think>")[2].lstrip()
    written_out = shown.startswith(head) and said.startswith(visible)
    if not written_out or turn.get("tool_calls"):
        raise BadRow(
            "the chat template writes a finished answer otherwise than the prompt it answers: "
            f"{_difference(prompt, shown)}. Fix: model.chat_template=FILE that does not, or chatml"
        )
    end = _end(tokenizer, before)
    if opened and f"</{opened[1]}>" not in content:
        return f"\n</{opened[1]}>\n\n{content}{end}"  # no thought, and the tag is open: close it
    if opened:  # the prompt has said the tag and its line break already
        content = content.removeprefix(f"<{opened[1]}>").lstrip()
    return content + end


def _end(tokenizer: Any, before: list[Message]) -> str:
    probe = _render(tokenizer, [*before, {"role": "assistant", "content": "PROBE"}], None)
    return probe.rpartition("PROBE")[2].rstrip()


def _render(tokenizer: Any, messages: list[Message], tools: Any, add_generation_prompt: bool = False) -> str:
    from jinja2 import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(
            messages, tools=tools, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise BadRow(f"the chat template refuses it: {error}") from error
    return text


def _difference(one: str, other: str) -> str:
    """Where two texts part: `at character 17, 'abc' becomes 'abd'`."""
    at = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    return f"at character {at}, {one[at : at + 40]!r} becomes {other[at : at + 40]!r}"
