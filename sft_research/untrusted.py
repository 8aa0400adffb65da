"""Files and texts that a stranger may have written: read whole or not at all, as plain and bounded values.

What cannot be read is empty, no file can be too large, a terminal is given no control characters, and nothing
of it is ever called.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import yaml

LARGEST = 100 * 2**20  # bytes of a file that is read
MOST_KEYS = 5_000  # of a config: a few lines of YAML can stand for billions
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_text(file: Path) -> str:
    """Of an ordinary file that is not too large; empty for any other."""
    try:
        if not file.is_file() or file.stat().st_size > LARGEST:
            return ""
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_json(file: Path) -> dict[str, Any]:
    """What is in it; empty where it is absent, torn or no object."""
    found = parsed(read_text(file))
    return found if isinstance(found, dict) else {}


def read_yaml(file: Path) -> Any:
    try:
        return yaml.load(read_text(file), Loader)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError):
        return None


def flat(node: Any, most: int = MOST_KEYS) -> dict[str, Any]:
    """{"lora": {"r": 8}} -> {"lora.r": 8}; a list stays one value. Empty where there are more than `most`."""
    found: dict[str, Any] = {}
    waiting = [("", node)] if isinstance(node, dict) else []
    for _ in range(most):
        if not waiting:
            return found
        at, value = waiting.pop()
        if isinstance(value, dict) and (value or not at):
            waiting += [(line(f"{at}.{key}".lstrip(".")), inner) for key, inner in value.items()]
        else:
            found[at] = _plain(value)
    return {}


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        made = float(value)
    except OverflowError:
        return None
    return made if math.isfinite(made) else None


def line(text: Any, most: int = 200) -> str:
    """One line without control characters: a stranger's text could move the cursor of a terminal."""
    clean = "".join(c if c.isprintable() else " " for c in str(text)[: 10 * most])
    clean = re.sub(r" +", " ", clean).strip()
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"


def _plain(value: Any) -> Any:
    """A value of a config as one that JSON and a table can hold."""
    if value is None or isinstance(value, (str, bool)) or number(value) is not None:
        return value
    inside = value if isinstance(value, (list, tuple)) else ()
    is_large = len(inside) > 100 or any(isinstance(one, (list, dict)) for one in inside)
    return "..." if is_large else str(value)[:500]
