"""Tokens of rows, kept by content: the same rows, format and tokenizer give the same tokens, read from disk.

<cache>/tokens/<key>/   train.arrow  held_out.arrow  counts.json (last; with the hash of the other two)
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from sft_research.files import hashed
from sft_research.readers import Broken
from sft_research.smollm2 import cache_dir
from sft_research.tokens import Encoded, Example

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)
CHUNK = 1000  # rows written and read at a time
SPLITS = ("train", "held_out")


class Examples(Sequence[Example]):
    """Examples in a memory-mapped table: a million rows take no memory until they are looked at."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return list(_examples(self.table.slice(start, max(stop - start, 0))))
            return [self[i] for i in range(start, stop, step)]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return next(_examples(self.table.slice(index % len(self), 1)))

    def __iter__(self) -> Iterator[Example]:
        for start in range(0, len(self), CHUNK):
            yield from _examples(self.table.slice(start, CHUNK))


@dataclass(frozen=True)
class Tokens:
    """What a run's rows became; `checkable` says whether an answer has one right text."""

    train: Encoded
    held_out: Encoded
    checkable: bool


def read(key: str) -> Tokens | None:
    """What was kept, or None where it is not there, or not as it was written."""
    place = _place(key)
    if not place.is_dir():
        return None
    try:
        counts = json.loads((place / "counts.json").read_text())
        train, held_out = (_read(place / f"{name}.arrow", counts[name]) for name in SPLITS)
        return Tokens(train, held_out, counts["checkable"])
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        shutil.rmtree(place, ignore_errors=True)  # half of an entry would keep a whole one out
        return None
    except OSError:
        return None


def write(key: str, tokens: Tokens) -> Tokens:
    """Keep them, and give them back as they are read; whole or not at all, however many write at once."""
    place = _place(key)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{key}-") as made:
            beside = Path(made) / key
            beside.mkdir()
            counts = {name: _write(getattr(tokens, name), beside / f"{name}.arrow") for name in SPLITS}
            (beside / "counts.json").write_text(json.dumps({**counts, "checkable": tokens.checkable}))
            with suppress(OSError):  # another process was faster: its tokens are the same
                os.rename(beside, place)
    except OSError as error:  # a full disk, or a folder that cannot be written: the run needs no cache
        log.warning("The tokens are not kept for the next run: %s", error)
    return read(key) or tokens


def _place(key: str) -> Path:
    return cache_dir() / "tokens" / key


def _schema() -> pa.Schema:
    import pyarrow as pa

    ids = pa.list_(pa.int32())
    return pa.schema(
        {
            "input_ids": ids,
            "labels": ids,
            "prompt": pa.int32(),
            "answer": pa.string(),
            "in_template": pa.bool_(),
        }
    )


def _write(split: Encoded, file: Path) -> dict[str, Any]:
    import pyarrow as pa

    schema = _schema()
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        for start in range(0, len(split.examples), CHUNK):
            rows = [vars(e) | {"prompt": len(e.prompt)} for e in split.examples[start : start + CHUNK]]
            stream.write_batch(pa.RecordBatch.from_pylist(rows, schema))
    lost = {"truncated": split.truncated, "dropped": split.dropped, "answers_cut": split.answers_cut}
    return {**lost, "bad": [asdict(row) for row in split.bad], "hash": hashed(file).hexdigest()}


def _read(file: Path, counts: dict[str, Any]) -> Encoded:
    import pyarrow as pa

    if hashed(file).hexdigest() != counts["hash"]:
        raise ValueError(f"{file} is not what was written")
    with pa.memory_map(str(file)) as source:
        table = pa.ipc.open_stream(source).read_all()
    lost = {name: counts[name] for name in ("truncated", "dropped", "answers_cut")}
    return Encoded(Examples(table), **lost, bad=[Broken(**row) for row in counts["bad"]])


def _examples(table: pa.Table) -> Iterator[Example]:
    columns = (table[name].to_pylist() for name in table.schema.names)
    for ids, labels, prompt, answer, in_template in zip(*columns, strict=True):
        yield Example(ids, labels, ids[:prompt], answer, in_template)
