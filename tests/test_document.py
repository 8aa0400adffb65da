"""One HTML file that fetches nothing and runs nothing but its own script."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from pathlib import Path

import pytest

from sft_research import document as module
from sft_research.document import document


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "a.css": "p { }\n",
        "b.css": "b { }\n",
        "one.js": "let a = 1;",
        "two.js": "let b = 2;",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(module, "HERE", tmp_path)


def test_a_page_without_a_script_allows_none(files: None) -> None:
    made = document("a < b", "<p>text</p>", ["a.css", "b.css"])
    assert "<title>a &lt; b</title>\n<style>\np { }\n\nb { }\n</style>" in made
    assert made.endswith("<body>\n<p>text</p>\n</body>\n</html>\n")
    assert re.findall('content="(default-src[^"]*)"', made) == [
        "default-src 'none'; style-src 'unsafe-inline'"
    ]
    assert "<script" not in made


def test_the_scripts_are_one_and_are_allowed_by_their_hash(files: None) -> None:
    made = document("t", "", [], ["one.js", "two.js"], {"a": 1})
    allowed = b64encode(hashlib.sha256(b"let a = 1;\nlet b = 2;").digest()).decode()
    assert f"script-src 'sha256-{allowed}'\"" in made
    assert "<script>let a = 1;\nlet b = 2;</script>\n</body>" in made


def test_no_text_ends_the_element_that_holds_the_data(files: None) -> None:
    made = document("t", "", [], ["one.js"], {"a": "</script><b>"})
    (held,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', made)
    assert held == '{"a":"\\u003c/script>\\u003cb>"}'
    assert json.loads(held) == {"a": "</script><b>"}
