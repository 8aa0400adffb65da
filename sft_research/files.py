"""A path, a glob or a saved dataset -> its rows, each with its place; and their fingerprint."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from glob import glob
from pathlib import Path
from typing import IO, Any

from sft_research.config import ConfigError
from sft_research.readers import READERS, Broken, Read, placed

NO_ROWS = "it holds no rows"
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)


def read(pattern: str, key: str) -> list[Read]:
    """The rows of a file, of all files of a glob in the order of their names, or of a saved dataset.

    Raises ConfigError, naming `dataset.{key}`, for a place that holds nothing to read.
    """
    if _is_saved(Path(os.path.expanduser(pattern))):
        return list(_saved(pattern, key))
    files = matching(pattern)
    if not files:
        raise ConfigError(
            f"dataset.{key}={pattern} names no file, and no folder of save_to_disk. Fix: dataset.{key}=FILE"
        )
    rows = [row for file in files for row in rows_of(file, key)]
    if all(isinstance(row, Broken) and row.reason == NO_ROWS for row in rows):
        raise ConfigError(f"dataset.{key}={pattern} holds no rows. Fix: dataset.{key}=FILE")
    return rows


def fingerprint(pattern: str) -> str:
    """Hash of all that `read` would read, in its order: a file's kind and content, names only inside a folder."""
    import xxhash

    place = Path(os.path.expanduser(pattern))
    whole = xxhash.xxh3_128()
    for file in inside(pattern):
        name = str(file.relative_to(place)) if place.is_dir() else kind_of(file)
        whole.update(hashed(file, name.encode(errors="surrogateescape") + b"\0").digest())
    return whole.hexdigest()


def hashed(file: Path, begin: bytes = b"") -> Any:
    """The xxh3_128 of `begin` and a file's bytes, which are never all in memory."""
    import xxhash

    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: xxhash.xxh3_128(begin))


def inside(pattern: str) -> list[Path]:
    """Every file of a folder, or what `matching` finds."""
    place = Path(os.path.expanduser(pattern))
    return sorted(f for f in place.rglob("*") if f.is_file()) if place.is_dir() else matching(pattern)


def matching(pattern: str) -> list[Path]:
    """The file of this name, or the files of a glob in the order of their names."""
    place = Path(os.path.expanduser(pattern))
    if place.is_file():  # a name may hold brackets and stars of its own
        return [place]
    return [Path(name) for name in sorted(glob(str(place), recursive=True)) if Path(name).is_file()]


def rows_of(file: Path, key: str) -> Iterator[Read]:
    """The rows of one file; raises ConfigError for a kind that is not read."""
    kind = kind_of(file)
    if kind not in READERS:
        raise ConfigError(
            f"dataset.{key}: {file} is not of a kind that is read. Fix: dataset.{key}=FILE, one of "
            f"{', '.join(READERS)}, compressed or not ({', '.join(OPENERS)})"
        )
    opened = OPENERS.get(file.suffix.lower(), open)
    count = 0
    try:
        with opened(file, "rb") as stream:
            for row in READERS[kind](stream, str(file)):
                count += 1
                yield row
            if not count:
                yield Broken(str(file), NO_ROWS)
    except DAMAGE as error:
        yield Broken(
            str(file), f"it cannot be read to its end, after {count} rows: {error}; what follows is lost"
        )


def kind_of(file: Path) -> str:
    """`.jsonl` of rows.jsonl.gz"""
    return next((s for s in reversed([s.lower() for s in file.suffixes]) if s not in OPENERS), "")


def ending_of(file: Path) -> str:
    """`.jsonl.gz` of rows.jsonl.gz"""
    last = file.suffix.lower()
    return kind_of(file) + (last if last in OPENERS else "")


def _zstd(file: Path, mode: str) -> IO[bytes]:
    import pyarrow as pa  # which says so where a file ends too early; the zstandard package does not

    return io.BufferedReader(pa.input_stream(str(file), compression="zstd"))


OPENERS: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _zstd,
}


def _is_saved(place: Path) -> bool:
    return (place / "dataset_info.json").is_file() or (place / "dataset_dict.json").is_file()


def _saved(folder: str, key: str) -> Iterator[Read]:
    """A folder of `Dataset.save_to_disk`; of several splits, the one that `key` is about."""
    import datasets

    found = datasets.load_from_disk(os.path.expanduser(folder))
    if isinstance(found, datasets.DatasetDict):
        split = {"path": "train", "held_out": "test"}[key]
        if split not in found:
            raise ConfigError(
                f"dataset.{key}={folder} has no split {split}, but {', '.join(found)}. "
                f"Fix: dataset.{key}={folder}/{next(iter(found))}"
            )
        found = found[split]
    for number, value in enumerate(found, start=1):
        yield placed(value, f"{folder}, row {number}")
