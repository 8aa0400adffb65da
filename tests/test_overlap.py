"""Rows that are held out and trained on leave the training rows, never the held-out ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft_research import cache
from sft_research.config import ConfigError
from sft_research.overlap import duplicates, overlap, trained_on
from sft_research.tokens import Data, Encoded
from tests.toys import example

A, B, C, D = (example([n], [n, n + 1]) for n in (1, 3, 5, 7))


def test_rows_are_compared_token_for_token() -> None:
    assert duplicates([A, B, A, A]) == 2
    assert overlap([A, B], [C, B, D, A]) == [1, 3]


def test_drop_leaves_the_held_out_rows_whole() -> None:
    data = Data(None, Encoded([A, B, C, B], truncated=3), Encoded([B, D]), [], True)
    dropped = trained_on("drop", data)
    assert dropped.train.examples == [A, C]
    assert (dropped.train.truncated, dropped.held_out) == (3, data.held_out)
    assert trained_on("error", data) is data


def test_rows_of_the_cache_are_dropped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "cache_dir", lambda: tmp_path)
    kept = cache.write("k", cache.Tokens(Encoded([A, B, C, B]), Encoded([B, D]), True))
    dropped = trained_on("drop", Data(None, kept.train, kept.held_out, [], True))
    assert isinstance(dropped.train.examples, cache.Examples)
    assert list(dropped.train.examples) == [A, C]


def test_a_drop_that_leaves_nothing_is_refused() -> None:
    data = Data(None, Encoded([A, B]), Encoded([B, A]), [], True)
    with pytest.raises(ConfigError, match="all 2 training rows are held-out rows too"):
        trained_on("drop", data)
