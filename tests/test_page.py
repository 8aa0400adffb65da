"""A preview as a page: one file, nothing fetched, nothing of a row taken for markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from sft_research.page import page
from sft_research.readers import Broken
from sft_research.visible import Piece
from tests.previews import TRAINING, toy

VOID = {"meta"}
SELF_CLOSED = {"rect", "line"}


class Read(HTMLParser):
    """The elements of a page, each with its attributes and the text inside; fails on one left open."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "text": "", **dict(attributes)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        assert tag in SELF_CLOSED
        self.elements.append({"tag": tag, "text": "", **dict(attributes)})

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def of(self, tag, **attributes):
        return [
            e for e in self.elements if e["tag"] == tag and all(e.get(k) == v for k, v in attributes.items())
        ]


def test_a_row_is_shown_token_by_token_with_its_mask_and_numbers():
    read = Read(page(toy()))
    (row,) = read.of("div", **{"class": "row"})
    assert row["text"] == "<|user|><1&1>↵²\n 2<|end|>"
    tokens = [(e.get("class"), e["title"], e["text"]) for e in read.of("i") if "title" in e]
    assert tokens == [
        ("s", "token 0: 1", "<|user|>"),
        (None, "token 1: 7, 8", "<1&1>↵²"),
        ("t", "token 3: 20", " 2"),
        ("t s", "token 4: 2", "<|end|>"),
    ]
    assert read.of("sub") == []
    assert [e["text"] for e in Read(page(toy(with_ids=True))).of("sub")] == ["1", "7,8", "20", "2"]


@pytest.mark.parametrize("field", ["title", "source", "model", "command"])
def test_nothing_is_taken_for_markup(field):
    evil = "</style><script>alert(1)</script><img src=x onerror='a'>\"&amp;"
    read = Read(page(toy(**{field: evil})))
    assert read.of("script") == read.of("img") == []
    assert any(evil in element["text"] for element in read.elements)


def test_a_row_of_markup_is_text():
    example = replace(
        toy().examples[0], pieces=[Piece("</i><script>&lt;", (5,), 0, trained=True, special=False)]
    )
    read = Read(page(toy(examples=[example])))
    assert [e["text"] for e in read.of("i") if "title" in e] == ["</i><script>&lt;"]
    assert read.of("script") == []


@pytest.mark.parametrize(
    "evil",
    [
        "</style><style>*{display:none}</style>",
        "</i></div></body><script>alert(1)</script>",
        "\" onmouseover=alert(1) x='",
        "<img src=x onerror=alert(1)>\n",
        "&lt;script&gt;<!-- ]]>",
    ],
)
def test_rows_and_their_faults_can_hold_anything(evil):
    shown = replace(toy().examples[0], pieces=[Piece(evil, (5,), 0, trained=True, special=False)])
    harmless = replace(shown, pieces=[Piece("x", (5,), 0, trained=True, special=False)])
    bad = [Broken(f"rows.jsonl:1 {evil}", evil)]
    read = Read(page(toy(examples=[shown], bad=bad, splits=[replace(TRAINING, name=evil)])))
    plain = Read(page(toy(examples=[harmless], bad=bad, splits=[TRAINING])))
    # The same elements with the same attributes as of a harmless row: no text of a row became one.
    assert [(e["tag"], sorted(e)) for e in read.elements] == [(e["tag"], sorted(e)) for e in plain.elements]
    (token,) = [e for e in read.of("i") if "title" in e]
    assert token["text"].replace("↵", "") == evil.rstrip("\n").replace("\n", "")


def test_the_page_fetches_nothing_and_knows_the_dark():
    made = page(toy())
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    assert re.findall(r"(?:src|href|url|import|http)[=(:\s]", made.replace(policy, "", 1)) == []
    assert "color-scheme: light dark;" in made
    assert "--paper: light-dark(#fff, #14181c);" in made
    assert '<meta charset="utf-8">' in made


def test_the_page_names_the_run_and_the_command_that_made_it():
    read = Read(page(toy()))
    assert read.of("title")[0]["text"] == "demo / lora.r=8: preview"
    assert read.of("h1")[0]["text"] == "Preview of demo / lora.r=8"
    assert [e["text"] for e in read.of("pre")] == ["python -m sft_research.preview lora.r=8"]


def test_the_tables_and_the_key_numbers_are_those_of_the_preview():
    read = Read(page(toy()))
    rows = ["|".join(re.findall(r"<td>(.*?)</td>", row)) for row in re.findall(r"<tr.*?</tr>", page(toy()))]
    assert "tokens|43|5" in rows
    assert "none|3|1|43|36.8%|60|0" in rows
    assert [row["text"] for row in read.of("tr", **{"class": "marked"})] == ["bfd21430.0%430"]
    (facts,) = read.of("div", **{"class": "facts"})
    assert facts["text"] == (
        "3training examples43tokens an epoch27.9%of them trained8tokens, the median row0.0%padding, packing=bfd"
    )


def test_a_bar_is_as_tall_as_its_rows_and_stands_where_its_tokens_are():
    # 5, 5 and 7 tokens in bars of 1, from 8 to 472 pixels: 464 / 3 each, 130 - 18 - 16 = 96 for two rows.
    split = replace(TRAINING, lengths=np.array([5, 5, 7]))
    bars = Read(page(toy(splits=[split]))).of("rect")
    assert [(bar["x"], bar["y"], bar["width"], bar["height"]) for bar in bars] == [
        ("8.0", "16.0", "153.7", "96.0"),
        ("162.7", "112.0", "153.7", "0.0"),
        ("317.3", "64.0", "153.7", "48.0"),
    ]


def test_max_length_is_marked_where_rows_come_near_it():
    assert [
        e["x1"] for e in Read(page(toy(max_length=31, splits=[TRAINING]))).of("line", **{"class": "mark"})
    ] == ["472.0"]
    assert Read(page(toy(max_length=320))).of("line", **{"class": "mark"}) == []


def test_warnings_are_there_where_there_is_something_to_warn_of():
    assert Read(page(toy())).of("li") == []
    warned = Read(page(toy(overlap=2))).of("li")
    assert [e["text"] for e in warned] == [
        "2 held-out rows are training rows too: preflight refuses a run. Fix: on_overlap=drop"
    ]


def test_a_long_row_is_shown_without_its_middle():
    pieces = [Piece("a", (i,), i, trained=False, special=False) for i in range(2500)]
    row = replace(toy().examples[0], pieces=pieces)
    (shown,) = Read(page(toy(examples=[row]))).of("div", **{"class": "row"})
    assert shown["text"] == "a" * 1000 + "… 500 tokens …" + "a" * 1000
