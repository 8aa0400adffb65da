"""Keys reach the libraries through the environment, and are struck out of what we write, log and track."""

from __future__ import annotations

import os
import re
from typing import IO, Any

from dotenv import dotenv_values, find_dotenv, load_dotenv

NAMES = re.compile(r"TOKEN|API_?KEY|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
# A password in an address, and what the keys of well-known services begin with.
LOOKS = re.compile(r"://[^/\s:]*:[^/\s]+@|^(hf_|sk-|gh[oprsu]_|github_pat_|glpat-|xox[abp]-|AKIA|wandb_v1_)")
SHORTEST = 6  # characters; a shorter value would be struck out of ordinary words

_from_file: set[str] = set()


def load() -> None:
    """Read `.env` of the working folder or one above it; what the environment has already wins."""
    file = find_dotenv(usecwd=True)
    if file:
        found = {name: value for name, value in dotenv_values(file).items() if value}
        _from_file.update(v for name, v in found.items() if NAMES.search(name) or LOOKS.search(v))
        load_dotenv(file)


def redact(value: Any) -> Any:
    """The same text, list or dict with every secret in it replaced by `***`."""
    if isinstance(value, dict):
        return {key: redact(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(item) for item in value]
    if not isinstance(value, str):
        return value
    for secret in _values():
        value = value.replace(secret, "***")
    return value


def spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of every secret in a text."""
    return [found.span() for value in _values() for found in re.finditer(re.escape(value), text)]


def _values() -> list[str]:
    named = {value for name, value in os.environ.items() if NAMES.search(name)}
    return sorted((v for v in named | _from_file if len(v) >= SHORTEST), key=len, reverse=True)


class Redacted:
    """A text stream that strikes secrets out of what is written to it; `fileno` is the file beneath."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(redact(text))

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return False

    @property
    def encoding(self) -> str:
        return "utf-8"

    def fileno(self) -> int:
        return self._stream.fileno()
