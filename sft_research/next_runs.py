"""The command that makes runs which a comparison lacks, from that of a run which is there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sft_research.past_runs import PastRun
from sft_research.points import text

HEAD = ["-m", "sft_research.train"]


def command(run: PastRun, changes: Mapping[str, Sequence[Any]]) -> str:
    """`run` again with other values, a grid where there are several; empty where its command is not one of ours.

    A folder may be a stranger's: every word is checked to be an override and quoted for a shell.
    """
    words = _words(run)
    if words is None:
        return ""
    changed = {f"{key}={','.join(text(value) for value in values)}": key for key, values in changes.items()}
    kept = [
        w
        for w in words
        if _key(w) not in changed.values() and _key(w) not in ("hydra.mode", "-m", "rerun", "pause_at")
    ]
    return shlex.join(["python", *HEAD, "-m", *kept, *changed])


def again(said: Any) -> str:
    """A grid's own command, under the same checks; empty where it is not one of ours."""
    words = _checked(said)
    # With rerun=true it would start over what is finished.
    return "" if words is None else shlex.join(["python", *HEAD, *(w for w in words if _key(w) != "rerun")])


def _words(run: PastRun) -> list[str] | None:
    return _checked(run.result.get("command") or run.environment.get("command"))


def _checked(said: Any) -> list[str] | None:
    try:
        words = shlex.split(said) if isinstance(said, str) else said if isinstance(said, list) else []
    except ValueError:
        return None
    if words[1:3] != HEAD or not all(isinstance(word, str) and word.isprintable() for word in words):
        return None
    words = ["-m" if word == "--multirun" else word for word in words[3:]]
    known = [re.fullmatch(r"-m|--config-dir(=.+)?|[+~]*[\w./@-]+=.*", word) for word in words]
    after_flag = [False, *(word == "--config-dir" for word in words)]
    return words if all(ok or after for ok, after in zip(known, after_flag, strict=False)) else None


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+")
