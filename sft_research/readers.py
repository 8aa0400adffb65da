"""Bytes of a file -> rows that know their line; a line that is no row says so in its place.

    train.jsonl   {"question": "1+1?"}\\n{"question": \\n
    -> Row({"question": "1+1?"}) of train.jsonl:1, Broken("train.jsonl:2", "broken JSON: Expecting value ...")
Read here and not by a library: what theirs say of a bad row has no line.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

MAX_ROW_BYTES = 10 * 2**20  # a longer row is no training example, and keeps a tokenizer busy for minutes
BOM = b"\xef\xbb\xbf"


class Row(dict[str, Any]):
    """A row, where it was read (`train.jsonl:17`, or `train.parquet, row 17`), and its own format, if it has one."""

    where: str = ""
    format: Any = None  # a mixture's rows come in several


@dataclass(frozen=True)
class Broken:
    """What stands in the place of a row that cannot be read."""

    where: str
    reason: str


Read = Row | Broken


def placed(value: Any, where: str) -> Read:
    """What was parsed as a row of that place."""
    if not isinstance(value, dict):
        return Broken(where, f"it is a {type(value).__name__}, where a row is an object with columns")
    row = Row(value)
    row.where = where
    return row


def jsonl(stream: IO[bytes], name: str) -> Iterator[Read]:
    """An object a line; empty lines are no rows."""
    for number, (line, size) in enumerate(_lines(stream), start=1):
        where = f"{name}:{number}"
        if size > MAX_ROW_BYTES:
            yield Broken(where, _too_long(size))
        elif line.strip():
            yield _parsed(line, where)


def json_list(stream: IO[bytes], name: str) -> Iterator[Read]:
    """One list of objects, one object, or, as some write it, an object a line."""
    content = stream.read().removeprefix(BOM)
    try:
        values = json.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        yield Broken(f"{name}:{line}", _not_utf8(error))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and content.lstrip().startswith(b"{"):
            yield from jsonl(io.BytesIO(content), name)
        elif content.strip():
            yield Broken(f"{name}:{error.lineno}", f"broken JSON: {error.msg} in column {error.colno}")
    except RecursionError:
        yield Broken(name, "broken JSON: it is nested too deeply")
    else:
        for number, value in enumerate(values if isinstance(values, list) else [values], start=1):
            yield placed(value, f"{name}, item {number}")


def csv_table(stream: IO[bytes], name: str) -> Iterator[Read]:
    """Every cell as text: a csv has no types, and a guess makes 2 a 2.0 and the word NA a null."""
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    before = csv.field_size_limit(MAX_ROW_BYTES)
    table = csv.reader(text, strict=True)
    columns: list[str] = []
    began = 1
    try:
        for cells in table:
            if not columns:
                columns = cells
                twice = [column for column in dict.fromkeys(columns) if columns.count(column) > 1]
                if twice:
                    yield Broken(f"{name}:1", f"the header names {', '.join(twice)} twice")
                    return
            elif cells:
                yield _cells(cells, columns, f"{name}:{began}")
            began = table.line_num + 1
    except csv.Error as error:  # such as a quote that is never closed: nothing behind it can be read
        yield Broken(f"{name}:{began}", f"broken CSV: {error}")
    finally:
        csv.field_size_limit(before)


def parquet(stream: IO[bytes], name: str) -> Iterator[Read]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        batches = ParquetFile(io.BytesIO(stream.read())).iter_batches()
        number = 0
        for batch in batches:
            for value in batch.to_pylist():
                number += 1
                yield placed(value, f"{name}, row {number}")
    except (pyarrow.ArrowException, OSError) as error:
        yield Broken(name, f"broken parquet: {str(error).splitlines()[0]}")


READERS: dict[str, Callable[[IO[bytes], str], Iterable[Read]]] = {
    ".jsonl": jsonl,
    ".json": json_list,
    ".csv": csv_table,
    ".parquet": parquet,
}


def _lines(stream: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """(line, its bytes), no more of a line in memory than a row may have."""
    first = True
    while line := stream.readline(MAX_ROW_BYTES + 1):
        size = len(line)
        while size > MAX_ROW_BYTES and not line.endswith(b"\n") and (rest := stream.readline(MAX_ROW_BYTES)):
            size += len(rest)
            line = rest
        yield (line.removeprefix(BOM) if first else line), size
        first = False


def _parsed(line: bytes, where: str) -> Read:
    try:
        return placed(json.loads(line.decode()), where)
    except UnicodeDecodeError as error:
        return Broken(where, _not_utf8(error))
    except json.JSONDecodeError as error:
        return Broken(where, f"broken JSON: {error.msg} in column {error.colno}")
    except RecursionError:
        return Broken(where, "broken JSON: it is nested too deeply")


def _cells(cells: list[str], columns: list[str], where: str) -> Read:
    if len(cells) != len(columns):
        return Broken(where, f"{len(cells)} cells, where the header has {len(columns)}: {', '.join(columns)}")
    size = sum(map(len, cells))
    if size > MAX_ROW_BYTES:
        return Broken(where, _too_long(size))
    try:
        "".join(cells).encode()  # bytes that are not UTF-8 came in as lone surrogates
    except UnicodeEncodeError as error:
        return Broken(where, f"not UTF-8: byte {ord(error.object[error.start]) - 0xDC00:#04x}")
    return placed(dict(zip(columns, cells, strict=True)), where)


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"not UTF-8: byte {error.object[error.start]:#04x}"


def _too_long(size: int) -> str:
    return f"a row of {size / 2**20:.1f} MiB, where the most is {MAX_ROW_BYTES / 2**20:.0f} MiB"
