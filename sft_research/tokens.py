"""Conversations and texts -> token ids with labels, the very ones that training sees.

    prompt      <|im_start|>user\\n1+1?<|im_end|>\\n<|im_start|>assistant\\n     labels -100
    completion  2<|im_end|>                                                   labels = ids
The prompt is what the model is given at generation time, token for token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sft_research.config import ConfigError
from sft_research.dataset import Row
from sft_research.dataset_format import BadRow, Conversation, Text, require_template

Turns = Conversation | Text
IGNORED = -100  # torch's ignore_index: no loss here


@dataclass(frozen=True)
class Example:
    """One row as tokens. `prompt` is what comes before its last trained turn that starts within
    max_length, `answer` that turn's text."""

    input_ids: list[int]
    labels: list[int]  # same length; IGNORED where there is no loss
    prompt: list[int]
    answer: str

    @property
    def loss_tokens(self) -> int:
        """Labels with loss; the first token predicts nothing before it."""
        return sum(label != IGNORED for label in self.labels[1:])


@dataclass(frozen=True)
class Encoded:
    """All examples of a split that have something to learn, and what was lost on the way."""

    examples: list[Example]
    truncated: int  # cut at max_length, with some labels left
    dropped: int  # no label left within max_length


@dataclass(frozen=True)
class Data:
    """All that training and evaluation read: two splits as tokens, and the tokenizer that made them."""

    tokenizer: Any
    train: Encoded
    held_out: Encoded
    added_tokens: list[int]  # ids that a chat template brought, to be trained
    checkable: bool  # whether an answer has one right text


def formatted(rows: Sequence[Row], to_example: Callable[[Row], Turns], name: str) -> list[Turns]:
    """Each row in the format of the run; raises ConfigError naming the first row that it cannot take."""
    made: list[Turns] = []
    for index, row in enumerate(rows):
        try:
            example = to_example(row)
            if not isinstance(example, Conversation | Text):
                raise BadRow(f"the format made a {type(example).__name__} of it, no Conversation and no Text")
            made.append(example)
        except (BadRow, LookupError, TypeError, AttributeError) as error:  # a format may be the user's own
            what = error if isinstance(error, BadRow) else f"{type(error).__name__}: {error}"
            raise ConfigError(
                f"row {index + 1} of the {name} rows: {what}. "
                "Fix: dataset_format=... for these columns, or its keys that rename them"
            ) from error
    return made


def encode(rows: Sequence[Turns], tokenizer: Any, max_length: int, name: str) -> Encoded:
    """Tokens and labels of formatted rows; raises ConfigError where none keeps an answer."""
    examples, truncated, dropped = [], 0, 0
    for row in rows:
        example = (
            _conversation(row, tokenizer, max_length)
            if isinstance(row, Conversation)
            else _text(row, tokenizer)
        )
        cut = len(example.input_ids) > max_length
        example = Example(
            example.input_ids[:max_length], example.labels[:max_length], example.prompt, example.answer
        )
        if example.loss_tokens == 0:
            dropped += 1
        else:
            truncated += cut
            examples.append(example)
    if rows and not examples:
        raise ConfigError(
            f"none of the {len(rows)} {name} rows has an answer within model.max_length={max_length} tokens. "
            f"Fix: model.max_length={2 * max_length}"
        )
    return Encoded(examples, truncated, dropped)


def _text(text: Text, tokenizer: Any) -> Example:
    """Prompt, completion and end of text; the beginning-of-text token where the tokenizer sets one."""
    begins = tokenizer("a").input_ids[0] == tokenizer.bos_token_id
    prompt = _ids(text.prompt, tokenizer)
    if begins and prompt[:1] != [tokenizer.bos_token_id]:
        prompt = [tokenizer.bos_token_id, *prompt]
    completion = [*_ids(text.completion, tokenizer), tokenizer.eos_token_id]
    labels = [IGNORED] * len(prompt) + completion
    return Example([*prompt, *completion], labels, prompt, text.completion)


def _conversation(conversation: Conversation, tokenizer: Any, max_length: int) -> Example:
    require_template(bool(tokenizer.chat_template), tokenizer.name_or_path)
    input_ids: list[int] = []
    labels: list[int] = []
    prompt: list[int] = []
    last = conversation.trained[0]
    for index, (context, answer) in zip(conversation.trained, turns(conversation, tokenizer), strict=True):
        context_ids, answer_ids = _ids(context, tokenizer), _ids(answer, tokenizer)
        if not prompt or len(input_ids) + len(context_ids) < max_length:
            prompt, last = [*input_ids, *context_ids], index
        input_ids += [*context_ids, *answer_ids]
        labels += [*[IGNORED] * len(context_ids), *answer_ids]
    return Example(input_ids, labels, prompt, conversation.messages[last]["content"])


def turns(conversation: Conversation, tokenizer: Any) -> Iterator[tuple[str, str]]:
    """(text before, text of the answer with its end of turn) of each trained turn, to be joined in order.

    Raises ConfigError where the template shows an earlier turn otherwise later on (Qwen3 drops its
    thoughts): then training on it would teach what generation never sees.
    """
    done = ""
    for index in conversation.trained:
        before = conversation.messages[:index]
        prompt = _render(tokenizer, before, add_generation_prompt=True)
        if not prompt.startswith(done):
            at = next((i for i, (a, b) in enumerate(zip(done, prompt, strict=False)) if a != b), len(prompt))
            raise ConfigError(
                f"the chat template shows earlier turns otherwise later on: {done[at : at + 40]!r} becomes "
                f"{prompt[at : at + 40]!r}. Fix: dataset_format.train_on=last_turn"
            )
        answer = _answer(tokenizer, before, conversation.messages[index], prompt)
        yield prompt[len(done) :], answer
        done = prompt + answer


def _answer(tokenizer: Any, before: list[Any], turn: dict[str, Any], prompt: str) -> str:
    """What the model is to say after `prompt`: the template's own rendering where it holds the whole
    turn, else (DeepSeek drops thoughts) the turn itself between the opened tag and the end of turn."""
    content = turn["content"].strip()
    shown = _render(tokenizer, [*before, turn])
    if shown.startswith(prompt) and content in shown:
        return shown[len(prompt) :].rstrip()
    probe = _render(tokenizer, [*before, {"role": "assistant", "content": "PROBE"}])
    end = probe.rpartition("PROBE")[2].rstrip()
    opened = _opened(prompt, content)
    return content[len(opened) :] + end


def _opened(prompt: str, content: str) -> str:
    """The start of `content` that the prompt has already said, such as `<think>\\n`."""
    for length in range(min(len(content), 64), 0, -1):
        if prompt.endswith(content[:length]):
            return content[:length]
    return ""


def _render(tokenizer: Any, messages: list[Any], add_generation_prompt: bool = False) -> str:
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=add_generation_prompt
    )


def _ids(text: str, tokenizer: Any) -> list[int]:
    return tokenizer(text, add_special_tokens=False).input_ids
