"""Rows become tokens once: the same data, format and tokenizer are read from the cache, any other is not."""

import json
import logging
import re
import time

import pytest

from sft_research import cache, prepare
from sft_research.config import ConfigError, build, compose
from tests import runs

FORMAT = """
from dataclasses import dataclass
from sft_research.dataset_format import Text

@dataclass(frozen=True)
class Mine:
    def __call__(self, row):
        return Text(row["q"], row["a"])
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, tiny_folder):
    """A folder with rows, and a cache of its own."""
    monkeypatch.setattr(cache, "cache_dir", lambda: tmp_path / "cache")
    rows = [{"q": f"{n}+1=", "a": str(n + 1)} for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


FORMAT_OF_CONF = (
    "dataset_format=prompt_completion",
    "dataset_format.prompt='{q}'",
    "dataset_format.completion='{a}'",
)


def prepared(place, *overrides, template=None, file="rows.jsonl", model="tiny", formats=FORMAT_OF_CONF):
    source = ("dataset=file", f"dataset.path={place / file}", "dataset.held_out=0.2", "tracking=none")
    run = compose([f"model={model}", *source, *formats, *overrides])
    tokenizer, added = build(run.cfg.model).tokenizer()
    if template:
        tokenizer.chat_template = template
    return prepare.prepare(run.cfg, tokenizer, added)


def test_the_same_rows_are_read_from_the_cache_and_the_message_says_so(place, caplog):
    caplog.set_level(logging.INFO, "sft_research")
    first, again = prepared(place), prepared(place)
    assert (first.from_cache, again.from_cache) == (False, True)
    assert list(again.data.train.examples) == list(first.data.train.examples)
    assert first.fingerprint == again.fingerprint
    assert [re.sub(r"\d\.\d s", "TIME", message) for message in caplog.messages] == [
        "20 rows as tokens in TIME",
        "20 rows as tokens in TIME, from the cache",
    ]


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.max_length=64"],
        ["dataset_format.prompt='{q} '"],
        ["dataset.seed=1"],
        ["dataset.limit=3"],
        ["dataset.on_bad_row=skip"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_what_changes_tokens_misses_the_cache(place, overrides):
    prepared(place)
    assert prepared(place, *overrides).from_cache is False


def test_another_format_misses_the_cache(place):
    instruction = ("dataset_format=instruction", "dataset_format.instruction=q", "dataset_format.response=a")
    prepared(place)
    assert prepared(place, formats=instruction).from_cache is False


@pytest.mark.parametrize(
    "overrides", [["optimizer=sgd"], ["backend=unsloth"], ["lora.r=4"], ["seed=3"]], ids=lambda o: o[0]
)
def test_what_changes_no_tokens_hits_the_cache(place, overrides):
    prepared(place)
    assert prepared(place, *overrides).from_cache is True


def test_a_changed_row_misses_and_a_moved_file_hits(place):
    prepared(place)
    (place / "moved").mkdir()
    moved = (place / "rows.jsonl").rename(place / "moved" / "sums.jsonl")
    assert prepared(place, file="moved/sums.jsonl").from_cache is True
    moved.write_text(moved.read_text().replace("19+1", "19+2"))
    assert prepared(place, file="moved/sums.jsonl").from_cache is False


def test_a_moved_held_out_file_hits(place):
    (place / "test.jsonl").write_text('{"q": "1+1=", "a": "2"}\n')
    prepared(place, f"dataset.held_out={place}/test.jsonl")
    (place / "test.jsonl").rename(place / "other.jsonl")
    assert prepared(place, f"dataset.held_out={place}/other.jsonl").from_cache is True


def test_another_template_or_another_vocabulary_misses(place):
    prepared(place)
    assert prepared(place, template="{{ messages }}").from_cache is False
    assert prepared(place, model="smollm2").from_cache is False


def test_a_template_that_says_the_date_is_kept_for_a_day(place, monkeypatch):
    dated = "{{ strftime_now('%d %b %Y') }}"
    monkeypatch.setattr(time, "strftime", lambda _: "2026-11-22")
    prepared(place, template=dated)
    assert prepared(place, template=dated).from_cache is True
    monkeypatch.setattr(time, "strftime", lambda _: "2026-11-23")
    assert prepared(place, template=dated).from_cache is False


def test_a_change_in_the_source_of_our_modules_or_of_ones_own_format_misses(place, monkeypatch):
    (place / "my_format.py").write_text(FORMAT)
    monkeypatch.syspath_prepend(str(place))
    own = ("dataset_format=prompt_completion", "dataset_format._target_=my_format.Mine")

    def again():
        keys = ("~dataset_format.prompt", "~dataset_format.completion")
        return prepared(place, formats=(*own, *keys)).from_cache

    assert (again(), again()) == (False, True)
    (place / "my_format.py").write_text(FORMAT + "# another answer\n")
    assert (again(), again()) == (False, True)
    source = prepare._source
    monkeypatch.setattr(prepare, "_source", lambda name: source(name) + "#" * (name == "sft_research.turns"))
    assert again() is False


def test_a_damaged_cache_is_made_again(place):
    prepared(place)
    (file,) = (place / "cache" / "tokens").glob("*/train.arrow")
    file.write_bytes(file.read_bytes()[:-9])
    assert [prepared(place).from_cache for _ in range(2)] == [False, True]


# Bad rows -----------------------------------------------------------------------------------------


NOTHING_HELD_OUT = ("dataset.held_out=0", "training.eval_strategy=no", "evaluation.questions=0")


def spoil(place, count):
    with (place / "rows.jsonl").open("a") as file:
        file.writelines(f'{{"q": "{n}+1=", "a": null}}\n' for n in range(count))


def test_bad_rows_are_all_counted_and_the_first_ten_listed(place):
    spoil(place, 12)
    with pytest.raises(ConfigError) as error:
        prepared(place, *NOTHING_HELD_OUT)
    listed = "".join(f"  {place}/rows.jsonl:{line}: column 'a' is null\n" for line in range(21, 31))
    assert str(error.value) == (
        f"12 bad rows, the first ten:\n{listed}Fix: mend them, or dataset.on_bad_row=skip to leave them out"
    )


def test_skipped_rows_are_listed_again_where_the_tokens_come_from_the_cache(place):
    spoil(place, 1)
    made = [prepared(place, *NOTHING_HELD_OUT, "dataset.on_bad_row=skip") for _ in range(2)]
    assert [one.from_cache for one in made] == [False, True]
    for one in made:
        assert len(one.data.train.examples) == 20
        assert [row.where for row in one.data.train.bad] == [f"{place}/rows.jsonl:21"]


def test_skipped_rows_of_a_moved_file_are_listed_where_they_are_now(place):
    spoil(place, 1)
    for name in ("rows.jsonl", "moved.jsonl"):
        (place / "rows.jsonl").replace(place / name)
        made = prepared(place, *NOTHING_HELD_OUT, "dataset.on_bad_row=skip", file=name)
        assert [row.where for row in made.data.train.bad] == [f"{place}/{name}:21"]


def test_a_run_without_a_training_row_is_refused(place):
    (place / "rows.jsonl").write_text('{"q": "1+1=", "a": ""}\n')
    with pytest.raises(ConfigError) as error:
        prepared(place, *NOTHING_HELD_OUT, "dataset.on_bad_row=skip")
    assert str(error.value) == (
        f"1 bad row:\n  {place}/rows.jsonl:1: column 'a' is empty\n"
        "No training row is left. Fix: dataset_format=... for these columns"
    )


def test_a_run_without_a_held_out_row_to_evaluate_on_is_refused(place):
    (place / "held_out.jsonl").write_text('{"q": "1+1=", "a": ""}\n')
    with pytest.raises(ConfigError) as error:
        prepared(place, f"dataset.held_out={place}/held_out.jsonl", "dataset.on_bad_row=skip")
    assert str(error.value) == (
        f"1 bad row:\n  {place}/held_out.jsonl:1: column 'a' is empty\n"
        "No held-out row is left. Fix: mend them, or training.eval_strategy=no evaluation.questions=0"
    )


OWN = (
    "dataset=file", "dataset_format=prompt_completion", "dataset_format.prompt='{q}'",
    "dataset_format.completion='{a}'", "dataset.held_out=0.2", "tracking=none", "backend=transformers",
    "model=tiny", "model.dtype=float32", "training.max_steps=1", "evaluation.questions=0", "training.eval_strategy=no",
)  # fmt: skip


def test_a_run_stops_at_a_bad_row_with_2_before_it_loads_weights(place):
    spoil(place, 1)
    done = runs.train([*OWN, f"dataset.path={place}/rows.jsonl"], place)
    assert done.status == 2
    assert f"1 bad row:\n  {place}/rows.jsonl:21: column 'a' is null\nFix: mend them" in done.out + done.err
    assert not (done.folder / "environment.json").exists()  # written right before the weights


def test_a_run_leaves_skipped_rows_out_and_lists_them_in_its_folder(place):
    spoil(place, 2)
    done = runs.train([*OWN, f"dataset.path={place}/rows.jsonl", "dataset.on_bad_row=skip"], place)
    assert done.status == 0, done.out + done.err
    listed = [json.loads(line) for line in (done.folder / "bad_rows.jsonl").read_text().splitlines()]
    assert listed == [
        {"where": f"{place}/rows.jsonl:{line}", "reason": "column 'a' is null"} for line in (21, 22)
    ]
