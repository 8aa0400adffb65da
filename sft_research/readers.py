"""Bytes of a file -> rows that know their line; a line that is no row says so in its place, as no library does.

train.jsonl   {"question": "1+1?"}\\n{"question": \\n
-> Row({"question": "1+1?"}) of train.jsonl:1, Broken("train.jsonl:2", "broken JSON: Expecting value ...")
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from sft_research.columns import names_of

MAX_ROW_BYTES = 10 * 2**20  # a longer row is no training example, and keeps a tokenizer busy for minutes
BOM = b"\xef\xbb\xbf"
BROKEN_JSON = (ValueError, RecursionError)


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
    except BROKEN_JSON as error:
        if getattr(error, "msg", "") == "Extra data" and content.lstrip().startswith(b"{"):
            yield from jsonl(io.BytesIO(content), name)
        elif content.strip():
            line = content.count(b"\n", 0, error.start) + 1 if isinstance(error, UnicodeDecodeError) else 0
            line = getattr(error, "lineno", line)
            yield Broken(f"{name}:{line}" if line else name, _why(error))
    else:
        for number, value in enumerate(values if isinstance(values, list) else [values], start=1):
            yield placed(value, f"{name}, item {number}")


def csv_table(stream: IO[bytes], name: str) -> Iterator[Read]:
    """Every cell as text: a csv has no types, and a guess makes 2 a 2.0 and the word NA a null."""
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    before = csv.field_size_limit(MAX_ROW_BYTES)
    try:
        lines = _csv_lines(csv.reader(text, strict=True), name)
        where, columns = next(((where, cells) for where, cells in lines if cells), ("", []))
        flaw = columns if isinstance(columns, str) else _flaw_of_header(columns)
        if flaw:
            yield Broken(where, flaw)  # without its columns no row can be read
            return
        for where, cells in lines:
            if isinstance(cells, str):
                yield Broken(where, cells)
            elif cells:
                yield _cells(cells, list(columns), where)
    finally:
        csv.field_size_limit(before)


def _csv_lines(table: Any, name: str) -> Iterator[tuple[str, list[str] | str]]:
    """(place, its cells or what is wrong with it); after a broken row the reader goes on with the next line."""
    while True:
        began = table.line_num + 1
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:  # such as a quote that is never closed
            lines = f", in lines {began} to {table.line_num}" if table.line_num > began else ""
            yield f"{name}:{began}", f"broken CSV: {error}{lines}"
        else:
            yield f"{name}:{began}", cells


def _flaw_of_header(columns: list[str]) -> str | None:
    twice = ", ".join(repr(name) for name in dict.fromkeys(columns) if columns.count(name) > 1)
    return f"the header names {twice} twice" if twice else _not_text(columns)


def parquet(stream: IO[bytes], name: str) -> Iterator[Read]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        for batch in ParquetFile(io.BytesIO(stream.read())).iter_batches(1000):
            for value in _plain(batch):
                number += 1
                where = f"{name}, row {number}"
                yield Broken(where, value) if isinstance(value, str) else placed(value, where)
    except (pyarrow.ArrowException, OSError) as error:
        yield Broken(name, f"broken parquet, after {number} rows: {str(error).partition(chr(10))[0]}")


def _plain(batch: Any) -> list[Any]:
    """The rows of a batch; in the place of one that Python cannot hold, why not."""
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError) as error:
        if batch.num_rows == 1:
            return [f"{type(error).__name__}: {error}"]
        return [row for index in range(batch.num_rows) for row in _plain(batch.slice(index, 1))]


Reader = Callable[[IO[bytes], str], Iterable[Read]]
READERS: dict[str, Reader] = {".jsonl": jsonl, ".json": json_list, ".csv": csv_table, ".parquet": parquet}


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
        return placed(json.loads(line.decode().rstrip("\r\n")), where)
    except BROKEN_JSON as error:
        return Broken(where, _why(error))


def _cells(cells: list[str], columns: list[str], where: str) -> Read:
    if len(cells) != len(columns):
        return Broken(where, f"{len(cells)} cells, where the header has {len(columns)}: {names_of(columns)}")
    size = sum(map(len, cells))
    flaw = _too_long(size) if size > MAX_ROW_BYTES else _not_text(cells)
    return Broken(where, flaw) if flaw else placed(dict(zip(columns, cells, strict=True)), where)


def _not_text(cells: list[str]) -> str | None:
    text = "".join(cells)
    if "\0" in text:
        return "it holds a NUL byte, which no text does"
    try:
        text.encode()  # bytes that are not UTF-8 came in as lone surrogates
    except UnicodeEncodeError as error:
        return f"not UTF-8: byte {ord(error.object[error.start]) - 0xDC00:#04x}"
    return None


def _why(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: byte {error.object[error.start]:#04x}"
    if isinstance(error, json.JSONDecodeError):
        return f"broken JSON: {error.msg} in column {error.colno}"
    deep = isinstance(error, RecursionError)
    return (
        f"broken JSON: {'it is nested too deeply' if deep else 'a number of more digits than Python reads'}"
    )


def _too_long(size: int) -> str:
    return f"a row of {size / 2**20:.1f} MiB, where the most is {MAX_ROW_BYTES / 2**20:.0f} MiB"
