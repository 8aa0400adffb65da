"""What a format takes out of a row: texts, turns and tools. What cannot be taken is named with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Row = Mapping[str, Any]
Message = dict[str, Any]


class BadRow(ValueError):
    """A row that a format cannot take: what is wrong with it."""


def column(row: Row, name: str) -> str:
    """The text of a column; raises BadRow where it is missing, null, empty or no text."""
    if name not in row:
        raise BadRow(f"no column {name!r}; it has {names_of(row)}")
    return _text(row[name], f"column {name!r}")


def names_of(columns: Iterable[Any]) -> str:
    """Names to print: some, and none that a terminal cannot show."""
    names = [str(name) if str(name).isprintable() else ascii(name) for name in columns]
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "") or "none"


def _text(value: Any, what: str) -> str:
    if value is None:
        raise BadRow(f"{what} is null")
    if not isinstance(value, str):
        raise BadRow(f"{what} holds {value!r:.60}, of type {type(value).__name__}, not a text")
    if not value.strip():
        raise BadRow(f"{what} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadRow(
            f"{what} holds half a character ({value[error.start]!a}), which no tokenizer takes"
        ) from None
    return value


def turns_of(row: Row, name: str, role: str, said: str, roles: dict[str, str]) -> Iterator[Message]:
    """Each turn as {role, content} and whatever else it has, such as tool calls."""
    if name not in row:
        raise BadRow(f"no column {name!r}; it has {names_of(row)}")
    if not isinstance(row[name], list) or not row[name]:
        raise BadRow(f"column {name!r} holds {row[name]!r:.60}, not a list of turns")
    for number, turn in enumerate(row[name], 1):
        what = f"turn {number} of {name!r}"
        if not isinstance(turn, dict) or not isinstance(turn.get(role), str):
            raise BadRow(f"{what} has no {role!r}: {turn!r:.80}")
        if turn[role] not in roles:
            raise BadRow(f"{what} has the unknown role {turn[role]!r:.40}; known are {', '.join(roles)}")
        ours = (role, said, "role", "content")  # a turn in two styles says everything twice
        rest = {key: value for key, value in turn.items() if key not in ours and value is not None}
        calls = bool(rest.get("tool_calls"))
        content = "" if calls and not turn.get(said) else _text(turn.get(said), f"{said!r} of {what}")
        yield {"role": roles[turn[role]], "content": content, **rest}


def tools_of(row: Row, name: str | None) -> list[Any] | None:
    """The tools column, a list or its JSON; no tools where there is none."""
    tools = row.get(name) if name else None
    if tools in (None, "", []):
        return None
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError) as error:
            raise BadRow(f"column {name!r} is broken JSON: {error}") from error
    if not isinstance(tools, list):
        raise BadRow(f"column {name!r} holds {tools!r:.60}, not a list of tools")
    return tools
