"""Files of strangers: whatever they hold, what comes back is plain, bounded, or empty."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sft_research import untrusted
from sft_research.untrusted import flat, line, number, parsed, read_json, read_text, read_yaml

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"a"', "[" * 100_000, "1" * 5000])
def test_what_is_no_object_is_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert read_json(tmp_path / "a.json") == {}


def test_an_object_comes_back(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, "b"]}')
    assert read_json(tmp_path / "a.json") == {"a": [1, "b"]}
    assert parsed('{"a": 1}') == {"a": 1}


def test_only_ordinary_files_of_a_bearable_size_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    (tmp_path / "text").write_bytes(b"caf\xe9")
    assert (read_text(tmp_path / "pipe"), read_text(tmp_path), read_text(tmp_path / "none")) == ("", "", "")
    assert read_text(tmp_path / "text") == "caf�"
    monkeypatch.setattr(untrusted, "LARGEST", 3)
    assert read_text(tmp_path / "text") == ""


@pytest.mark.parametrize(
    "text",
    ["!!python/object/apply:os.system ['true']", "a: [", "- 1", "a: " + "9" * 5000, "[" * 20_000, "\x00"],
)
def test_a_config_that_is_none_is_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    assert flat(read_yaml(tmp_path / "config.yaml")) == {}


def test_a_config_is_flat_and_bounded(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "lora: {r: 8, dora: true, none: null, modules: [q, v]}\nempty: {}\nnan: .nan\n"
    )
    assert flat(read_yaml(tmp_path / "config.yaml")) == {
        "lora.r": 8,
        "lora.dora": True,
        "lora.none": None,
        "lora.modules": "['q', 'v']",
        "empty": "{}",
        "nan": "nan",
    }
    (tmp_path / "config.yaml").write_text(BOMB)  # 9^9 words when written out
    assert flat(read_yaml(tmp_path / "config.yaml"))["i"] == "..."
    assert flat({str(i): i for i in range(11)}, most=10) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1.0),
        (2.5, 2.5),
        (True, None),
        ("1", None),
        (float("nan"), None),
        (float("inf"), None),
        (10**400, None),
    ],
)
def test_a_number_is_finite(value: object, expected: float | None) -> None:
    assert number(value) == expected


def test_a_line_moves_no_cursor_and_is_not_long() -> None:
    assert line("a\x1b[2J\n\tb") == "a [2J b"
    assert line("abcdef", 4) == "abc…"


def test_a_key_of_a_stranger_holds_no_control_characters() -> None:
    (key,) = flat({"lora": {"\x1b]0;own\x07": 4}})
    assert key.isprintable()
