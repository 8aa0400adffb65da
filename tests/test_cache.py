"""What is kept comes back as it was written, whole or not at all, however many write it."""

import subprocess
import sys

import pytest

from sft_research import cache
from sft_research.cache import Examples, Tokens
from sft_research.readers import Broken
from sft_research.tokens import IGNORED, Encoded, Example
from tests.toys import example

KEY = "0123"
MADE = [example([5, number], [7, number + 1], f"answer {number}") for number in range(2500)]  # three chunks
BAD = [Broken("rows.jsonl:3", "column 'a' is null")]


def tokens(examples=MADE):
    return Tokens(Encoded(examples, 3, 2, 5, BAD), Encoded(examples[:1]), checkable=True)


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))


def entries():
    return sorted(file.name for file in (cache.cache_dir() / "tokens").iterdir())


@pytest.mark.parametrize("again", [False, True], ids=["written", "read"])
def test_what_was_written_comes_back(again):
    written = cache.write(KEY, tokens())
    found = cache.read(KEY) if again else written
    assert list(found.train.examples) == MADE
    assert (found.train.truncated, found.train.dropped, found.train.answers_cut, found.train.bad) == (
        3,
        2,
        5,
        BAD,
    )
    assert list(found.held_out.examples) == MADE[:1]
    assert found.held_out.bad == []
    assert found.checkable is True


def test_nothing_is_found_under_another_key_or_in_an_empty_cache():
    assert cache.read(KEY) is None
    cache.write(KEY, tokens())
    assert cache.read("4567") is None


@pytest.mark.parametrize(
    "index",
    [0, 999, 1000, 2499, -1, slice(0, 3), slice(998, 1003), slice(2400, 9999), slice(9, 2, -3), slice(5, 2)],
    ids=str,
)
def test_kept_examples_are_looked_up_as_in_a_list(index):
    kept = cache.write(KEY, tokens()).train.examples
    assert isinstance(kept, Examples)
    assert len(kept) == 2500
    assert kept[index] == MADE[index]


def test_an_index_past_the_end_is_refused():
    with pytest.raises(IndexError):
        cache.write(KEY, tokens(MADE[:2])).train.examples[2]


def test_labels_and_prompts_come_back_as_they_were():
    kept = cache.write(KEY, tokens(MADE[:1])).train.examples[0]
    assert kept == Example([5, 0, 7, 1], [IGNORED, IGNORED, 7, 1], [5, 0], "answer 0")


# Damage -------------------------------------------------------------------------------------------


def truncate(file):
    file.write_bytes(file.read_bytes()[:-100])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE = {
    "cut": ("train.arrow", truncate),
    "one bit": ("held_out.arrow", flip),
    "file missing": ("train.arrow", lambda file: file.unlink()),
    "counts missing": ("counts.json", lambda file: file.unlink()),
    "counts cut": ("counts.json", truncate),
    "counts a list": ("counts.json", lambda file: file.write_text("[]")),
    "counts of another split": ("counts.json", lambda file: file.write_text('{"train": {"hash": 1}}')),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_not_read_and_is_written_again(damage):
    cache.write(KEY, tokens())
    name, harm = DAMAGE[damage]
    harm(cache.cache_dir() / "tokens" / KEY / name)
    assert cache.read(KEY) is None
    cache.write(KEY, tokens())
    assert list(cache.read(KEY).train.examples) == MADE
    assert entries() == [KEY]


def test_tokens_are_used_where_they_cannot_be_kept(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    assert cache.write(KEY, tokens()).train.examples == MADE
    assert caplog.messages[0].startswith("The tokens are not kept for the next run: ")


# Two at once --------------------------------------------------------------------------------------

WRITER = """
import sys, time
from sft_research import cache
from tests.test_cache import KEY, MADE, tokens
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    found = cache.write(KEY, tokens())
    assert list(found.train.examples) == MADE
    assert list(cache.read(KEY).train.examples) == MADE
"""


def test_two_processes_that_write_at_once_leave_one_whole_entry(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:  # both have everything loaded by now
        writer.stdin.write("\n")
        writer.stdin.close()
    assert [writer.wait() for writer in writers] == [0, 0]
    assert [writer.stderr.read() for writer in writers] == ["", ""]  # the slower one has nothing to warn of
    assert entries() == [KEY]
    assert list(cache.read(KEY).train.examples) == MADE
