"""Each row is read with its place, and what is no row says so there."""

import io
import json
import tracemalloc
from array import array

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_research.readers import READERS, Broken, Row, csv_table, json_list, jsonl, parquet

MIB = 2**20


def read(reader, content):
    return list(reader(io.BytesIO(content), "rows"))


def places(read_rows):
    """Rows as (place, columns), broken ones as (place, reason)."""
    return [(r.where, r.reason) if isinstance(r, Broken) else (r.where, dict(r)) for r in read_rows]


# One object a line --------------------------------------------------------------------------------

DEEP = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": ', "broken JSON: Expecting value in column 7"),
        (b'{"a": 1} {"a": 2}', "broken JSON: Extra data in column 10"),
        (b'{"a": "x\0"}', "broken JSON: Invalid control character at in column 9"),
        (b'{"a": "\xff"}', "not UTF-8: byte 0xff"),
        (b"\xff\xfe{\0", "not UTF-8: byte 0xff"),
        (b"[1, 2]", "it is a list, where a row is an object with columns"),
        (b'"text"', "it is a str, where a row is an object with columns"),
        (b"null", "it is a NoneType, where a row is an object with columns"),
        (DEEP, "broken JSON: it is nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "broken JSON: a number of more digits than Python reads"),
    ],
    ids=["cut", "two", "nul", "latin", "utf-16", "list", "text", "null", "deep", "digits"],
)
def test_a_line_that_is_no_row_is_named_and_the_rows_around_it_are_read(line, reason):
    found = read(jsonl, b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    assert places(found) == [("rows:1", {"a": 1}), ("rows:2", reason), ("rows:3", {"a": 3})]


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": 1}\n{"a": 2}\n',
        b'{"a": 1}\n{"a": 2}',
        b'{"a": 1}\r\n{"a": 2}\r\n',
        b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n',
        b'{"a": 1}\n{"a": 2}\n\n  \n',
    ],
    ids=["plain", "no-last-line-break", "crlf", "bom", "blank-last-line"],
)
@pytest.mark.parametrize("reader", [jsonl, json_list])
def test_line_breaks_a_byte_order_mark_and_blank_last_lines_are_no_part_of_a_row(reader, content):
    assert places(read(reader, content)) == [("rows:1", {"a": 1}), ("rows:2", {"a": 2})]


def test_blank_lines_are_counted_as_lines():
    assert places(read(jsonl, b'\n\n{"a": 1}\n')) == [("rows:3", {"a": 1})]


def test_half_a_character_is_read_and_left_to_the_format_to_refuse():
    assert read(jsonl, rb'{"a": "\ud83d"}') == [Row({"a": "\ud83d"})]


def test_a_row_of_50_mb_is_named_with_its_size_and_never_held_in_memory():
    class Long(io.RawIOBase):
        """50 MB of one line, made as it is read, then a short row."""

        left = 50 * MIB
        end = b'\n{"a": 1}\n'

        def readable(self):
            return True

        def readinto(self, buffer):
            size = min(len(buffer), self.left)
            if size:
                buffer[:size] = b"x" * size
                self.left -= size
                return size
            end, self.end = self.end, b""
            buffer[: len(end)] = end
            return len(end)

    tracemalloc.start()
    found = list(jsonl(io.BufferedReader(Long()), "rows"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert places(found) == [
        ("rows:1", "a row of 50.0 MiB, where the most is 10 MiB"),
        ("rows:2", {"a": 1}),
    ]
    assert peak < 45 * MIB


@pytest.mark.parametrize("reader", [jsonl, json_list, csv_table])
def test_an_empty_file_has_no_rows(reader):
    assert read(reader, b"") == []


# A JSON document ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b'[{"a": 1}, 2]', [("rows, item 1", {"a": 1}), ("rows, item 2", "it is a int")]),
        (b'{"a": 1}', [("rows, item 1", {"a": 1})]),
        (b'[\n{"a": 1},\n]', [("rows:3", "broken JSON: Expecting value in column 1")]),
        (b'[{"a": 1},\n{"a": "\xff"}]', [("rows:2", "not UTF-8: byte 0xff")]),
        (DEEP, [("rows", "broken JSON: it is nested too deeply")]),
        (b'{"a": 1}\n{"a": ', [("rows:1", {"a": 1}), ("rows:2", "broken JSON: Expecting value in column 7")]),
    ],
    ids=["list", "object", "cut", "latin", "deep", "lines"],
)
def test_a_document_is_read_whole_or_named_with_the_line_that_breaks_it(content, found):
    found = [
        (place, f"{said}, where a row is an object with columns" if said == "it is a int" else said)
        for place, said in found
    ]
    assert places(read(json_list, content)) == found


# CSV ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"1", "1 cells, where the header has 2: a, b"),
        (b"1,2,3", "3 cells, where the header has 2: a, b"),
        (b'"1"2,3', "broken CSV: ',' expected after '\"'"),
        (b"1,\xff", "not UTF-8: byte 0xff"),
        (b"1,\0", "it holds a NUL byte, which no text does"),
    ],
    ids=["short", "long", "quote", "latin", "nul"],
)
def test_a_broken_row_is_named_by_its_line_and_the_rows_around_it_are_read(row, reason):
    found = read(csv_table, b'a,b\n"x\ny",1\n' + row + b"\n3,4\n")
    assert places(found) == [
        ("rows:2", {"a": "x\ny", "b": "1"}),  # two lines long
        ("rows:4", reason),
        ("rows:5", {"a": "3", "b": "4"}),
    ]


def test_a_quote_that_is_never_closed_is_named_with_all_the_lines_it_swallows():
    found = read(csv_table, b'a,b\n1,2\n3,"4\n5,6\n7,8\n')
    assert places(found) == [
        ("rows:2", {"a": "1", "b": "2"}),
        ("rows:3", "broken CSV: unexpected end of data, in lines 3 to 5"),
    ]


@pytest.mark.parametrize(
    ("content", "place", "reason"),
    [
        (b"a,b,a,b\n1,2,3,4\n", "rows:1", "the header names 'a', 'b' twice"),
        (b"\na,a\n1,2\n", "rows:2", "the header names 'a' twice"),
        (b"a,\xff\n1,2\n", "rows:1", "not UTF-8: byte 0xff"),
        (b'"a\n1\n', "rows:1", "broken CSV: unexpected end of data, in lines 1 to 2"),
    ],
    ids=["twice", "second-line", "latin", "quote"],
)
def test_a_header_that_cannot_be_read_is_all_that_is_said(content, place, reason):
    assert places(read(csv_table, content)) == [(place, reason)]


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfa,b\r\n1,2\r\n\r\n", b"a,b\n1,2\n\n", b"a,b\r1,2\r"])
def test_a_byte_order_mark_and_other_line_breaks_are_no_part_of_a_cell(content):
    assert read(csv_table, content) == [{"a": "1", "b": "2"}]


def test_a_row_of_11_mb_is_named_and_the_rows_around_it_are_read():
    found = read(csv_table, b"a,b\n1,2\n" + b"x" * 11 * MIB + b",1\n" + b"3,4\n")
    assert places(found) == [
        ("rows:2", {"a": "1", "b": "2"}),
        ("rows:3", "broken CSV: field larger than field limit (10485760)"),
        ("rows:4", {"a": "3", "b": "4"}),
    ]


# Parquet ------------------------------------------------------------------------------------------


def parquet_bytes(table):
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_a_parquet_row_is_named_by_its_number_and_so_is_one_that_is_no_text():
    starts = pa.py_buffer(array("i", [0, 1, 2, 3]).tobytes())
    texts = pa.Array.from_buffers(pa.string(), 3, [None, starts, pa.py_buffer(b"x\xffz")])
    found = places(read(parquet, parquet_bytes(pa.table({"a": texts}))))
    assert (found[0], found[2]) == (("rows, row 1", {"a": "x"}), ("rows, row 3", {"a": "z"}))
    assert found[1][0] == "rows, row 2"
    assert found[1][1].startswith("UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0")


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet_is_named(content):
    (found,) = read(parquet, content)
    assert (found.where, found.reason[:30]) == ("rows", "broken parquet, after 0 rows: ")


# Anything -----------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
FRAGMENTS = st.sampled_from(
    [
        b"\n",
        b"\r\n",
        b'"',
        b",",
        b"{",
        b"}",
        b"[",
        b"]",
        b'{"a": 1}',
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\\ud800",
        b"a,b\n",
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(READERS)), st.binary(max_size=200) | st.lists(FRAGMENTS, max_size=30).map(b"".join)
)
def test_any_bytes_are_rows_or_named_with_a_reason(kind, content):
    for row in read(READERS[kind], content):
        assert row.where.startswith("rows")
        if isinstance(row, Broken):
            assert row.reason.isprintable()
            assert len(row.reason) > 10


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=12))
def test_each_line_that_is_not_blank_is_a_row_or_a_broken_one(lines):
    found = read(jsonl, b"\n".join(lines))
    first, *rest = lines or [b""]
    kept = [first.removeprefix(b"\xef\xbb\xbf"), *rest]
    assert [row.where for row in found] == [f"rows:{n}" for n, line in enumerate(kept, 1) if line.strip()]


@settings(max_examples=60, deadline=None)
@given(st.lists(JSON, max_size=6))
def test_json_values_come_back_as_rows_where_they_are_objects_and_are_named_where_not(values):
    for reader, text in (
        (jsonl, "\n".join(json.dumps(value) for value in values)),
        (json_list, json.dumps(values)),
    ):
        found = read(reader, text.encode())
        assert [isinstance(row, Row) for row in found] == [isinstance(value, dict) for value in values]
        assert repr([row for row in found if isinstance(row, Row)]) == repr(
            [value for value in values if isinstance(value, dict)]
        )
