"""Checkpoints that are whole or known not to be: written aside, listed with their hashes, then renamed.

checkpoints/
  checkpoint-4/   adapter_model.safetensors  optimizer.pt  ...  manifest.json (last)
  .writing/       what is not whole yet
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sft_research.files import hashed

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"


@contextmanager
def writing(place: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `place` when it is whole; nothing is left where writing fails."""
    made = beside(place)
    shutil.rmtree(made.parent, ignore_errors=True)
    made.mkdir(parents=True)
    try:
        yield made
        sync(made)
        sizes = {str(f.relative_to(made)): [f.stat().st_size, hashed(f).hexdigest()] for f in _files(made)}
        (made / MANIFEST).write_text(json.dumps(sizes, indent=2))
        sync(made)
        shutil.rmtree(place, ignore_errors=True)  # one that was found damaged
        made.rename(place)
        _sync_one(place.parent)
    finally:
        shutil.rmtree(made.parent, ignore_errors=True)


def beside(place: Path) -> Path:
    """Where `place` is while it is written."""
    return place.parent / ".writing" / place.name


def flaw(place: Path) -> str | None:
    """What is not as it was written, by size and then by hash; None where all is."""
    try:
        listed = json.loads((place / MANIFEST).read_text())
        for name, (size, content) in listed.items():
            now = (place / name).stat().st_size
            if now != size:
                return f"{name} has {now:,} bytes, not {size:,}"
            if hashed(place / name).hexdigest() != content:
                return f"{name} has another content"
    except OSError as error:
        return f"{Path(str(error.filename)).name}: {error.strerror}"
    except (ValueError, AttributeError, TypeError):
        return f"{MANIFEST} cannot be read"
    return None


def whole(place: Path) -> bool:
    """Whether every file is as it was written."""
    return flaw(place) is None


def newest(folder: Path) -> Path | None:
    """The checkpoint of the highest step that is whole; one that is not is named in the log."""
    for place in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        if (found := flaw(place)) is None:
            return place
        log.warning("%s is damaged, and passed over: %s.", place, found)
    return None


def step_of(place: Path) -> int:
    """12 of checkpoint-12"""
    number = place.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def write_json(file: Path, value: Any, *, kept: bool = True) -> None:
    """Whole or not at all."""
    write_whole(file, json.dumps(value, indent=2) + "\n", kept=kept)


def write_whole(file: Path, text: str, *, kept: bool = True) -> None:
    """Written beside, kept by the disk (`kept`: else a power cut may lose it), then renamed: the older file or this."""
    beside = file.with_name(f".{file.name}.tmp")
    try:
        with beside.open("w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            if kept:
                os.fsync(opened.fileno())
        os.replace(beside, file)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def sync(folder: Path, pattern: str = "**/*") -> None:
    """Have the disk keep files and folders: a name that is there after a power cut has its content."""
    for place in (*folder.glob(pattern), folder):
        if place.is_file() or place.is_dir():
            _sync_one(place)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _sync_one(place: Path) -> None:
    opened = os.open(place, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
