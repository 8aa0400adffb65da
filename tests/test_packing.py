"""Packing may change speed; it must never change what a row is worth."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer
from trl import pack_dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from sft_research.check import settings_another_group_decides
from sft_research.config import ROOT, ConfigError, build, compose
from sft_research.dataset_format import Text
from sft_research.packing import Packing, best_fit, plan_rows
from sft_research.prepare import prepare
from sft_research.tokens import IGNORED, Encoded, encode
from sft_research.training import _dataset
from tests.per_example import STRATEGIES
from tests.runs import TINY, Done
from tests.trainers import make

FLAT = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)

# What a row becomes ---------------------------------------------------------------------------------

# Of 8, 3 and 3 tokens with the end of the answer ($), where max_length is 6.
TEXTS = [Text("a", "bcdefg"), Text("h", "i"), Text("j", "k")]
CUT = ["abcdef", "hi$", "jk$"]


@pytest.fixture(scope="module")
def letters(tiny_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_folder)


def encoded(letters: Any, strategy: str | None) -> Encoded:
    cut = not Packing(strategy).keeps_long_rows
    return encode(TEXTS, lambda text: text, letters, 6, "training", cut=cut)


def read(letters: Any, ids: list[int]) -> str:
    return letters.decode(ids).replace(letters.eos_token, "$")


@pytest.mark.parametrize(
    ("strategy", "rows", "lengths"),
    [
        (None, CUT, None),
        ("grouped", CUT, None),
        ("padding_free", CUT, None),
        ("bfd", ["abcdef", "hi$jk$"], [[6], [3, 3]]),
        ("bfd_split", ["abcdef", "hi$jk$", "g$"], [[6], [3, 3], [2]]),
        # The stream is cut behind f and behind j, and j alone has nothing to learn.
        ("wrapped", ["abcdef", "g$hi$", "k$"], [[6], [2, 3], [2]]),
    ],
)
def test_an_example_longer_than_a_row_is_cut_or_goes_on(
    letters: Any, strategy: Any, rows: list[str], lengths: list[list[int]] | None
) -> None:
    made = Packing(strategy).rows(_dataset(encoded(letters, strategy).examples), 6)
    assert [read(letters, ids) for ids in made["input_ids"]] == rows
    assert made.to_dict().get("seq_lengths") == lengths


@pytest.mark.parametrize(
    ("strategy", "truncated"),
    [(None, 1), ("grouped", 1), ("padding_free", 1), ("bfd", 1), ("bfd_split", 0), ("wrapped", 0)],
)
def test_rows_that_lose_their_end_are_counted_with_the_tokens(
    letters: Any, strategy: Any, truncated: int
) -> None:
    found = encoded(letters, strategy)
    assert (found.truncated, found.answers_cut, found.dropped) == (truncated, truncated, 0)


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ("bfd", "3 examples in 2 rows of up to 6 tokens (1.5 a row, 100% full)"),
        (
            "bfd_split",
            "3 examples in 3 rows of up to 6 tokens (1.0 a row, 78% full); 1 examples are cut, and a piece "
            "does not see the one before it",
        ),
        (
            "wrapped",
            "3 examples in 3 rows of up to 6 tokens (1.0 a row, 72% full); 2 examples are cut, and a piece "
            "does not see the one before it; 1 pieces without loss are left out",
        ),
    ],
)
def test_what_packing_cuts_is_said(
    letters: Any, strategy: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "sft_research.packing"):
        Packing(strategy).rows(_dataset(encoded(letters, strategy).examples), 6)
    assert caplog.messages == [f"packing={strategy}: {said}"]


@pytest.mark.parametrize(
    ("strategy", "labels", "positions"),
    [
        ("padding_free", "-bcdef -i$ -k$", [0, 1, 2, 3, 4, 5, 0, 1, 2, 0, 1, 2]),
        ("bfd", "-bcdef -i$ -k$", [0, 1, 2, 3, 4, 5, 0, 1, 2, 0, 1, 2]),
        ("bfd_split", "-bcdef -i$ -k$ -$", [0, 1, 2, 3, 4, 5, 0, 1, 2, 0, 1, 2, 0, 1]),
        ("wrapped", "-bcdef -$ -i$ -$", [0, 1, 2, 3, 4, 5, 0, 1, 0, 1, 2, 0, 1]),
    ],
)
def test_no_label_is_asked_of_the_example_before(
    letters: Any, strategy: Any, labels: str, positions: list[int]
) -> None:
    batch = FLAT(list(Packing(strategy).rows(_dataset(encoded(letters, strategy).examples), 6)))
    found = ["-" if one == IGNORED else read(letters, [one]) for one in batch["labels"][0].tolist()]
    assert "".join(found) == labels.replace(" ", "")
    assert batch["position_ids"][0].tolist() == positions


def test_a_row_that_is_only_prompt_within_max_length_is_kept_where_it_goes_on(letters: Any) -> None:
    row = [Text("abcdefgh", "i")]
    (whole,) = encode(row, lambda text: text, letters, 6, "training", cut=False).examples
    made = Packing("bfd_split").rows(_dataset([whole]), 6)
    assert [read(letters, ids) for ids in made["input_ids"]] == ["ghi$"]  # abcdef has nothing to learn


# Best fit -------------------------------------------------------------------------------------------


def test_a_length_goes_where_the_least_room_is_left() -> None:
    assert best_fit([5, 3, 6, 2], room=8) == [[2, 3], [0, 1]]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_every_length_is_in_one_row_and_rows_are_as_trl_packs_them(lengths: list[int]) -> None:
    rows = best_fit(lengths, room=20)
    assert sorted(chain(*rows)) == list(range(len(lengths)))
    assert max(sum(lengths[i] for i in row) for row in rows) <= 20
    trl = pack_dataset(Dataset.from_dict({"input_ids": [[0] * n for n in lengths]}), 20, "bfd")
    ours = Counter(tuple(sorted(lengths[i] for i in row)) for row in rows)
    assert ours == Counter(tuple(sorted(row)) for row in trl["seq_lengths"])


@settings(deadline=None)
@given(st.lists(st.integers(2, 40), min_size=1, max_size=30), st.sampled_from(["bfd_split", "wrapped"]))
def test_what_is_split_loses_no_token(lengths: list[int], strategy: str) -> None:
    tokens = np.arange(sum(lengths))
    plan = plan_rows(np.array(lengths), tokens, 8, strategy)  # every token has a label
    made = pa.table(plan.fill({"input_ids": tokens})).to_pydict()
    alone = {int(s) for s, n in zip(plan.start, plan.length, strict=True) if n == 1}  # nothing to learn
    assert sorted(chain(*made["input_ids"])) == [t for t in tokens if t not in alone]
    assert [sum(n) for n in made["seq_lengths"]] == [len(ids) for ids in made["input_ids"]]
    assert max(map(len, made["input_ids"])) <= 8


# The same loss --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def per_example(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Any]:
    def measure(backend: str, model: str) -> Any:
        command = [sys.executable, "-m", "tests.per_example", backend, model]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return measure


@pytest.mark.parametrize("model", ["tiny", pytest.param("smollm2", marks=pytest.mark.long)])
@pytest.mark.parametrize("backend", ["transformers", "unsloth"])
def test_every_example_has_the_same_loss_however_it_is_packed(
    per_example: Callable[[str, str], Any], backend: str, model: str
) -> None:
    found = per_example(backend, model)
    assert set(found) == set(STRATEGIES)
    alone = found.pop("none")
    assert len(alone) == 8
    whole = {strategy: set(losses) & set(alone) for strategy, losses in found.items()}
    assert len(whole.pop("wrapped")) >= 5  # the others are cut
    assert set(map(len, whole.values())) == {8}
    for losses in found.values():
        for tokens in set(losses) & set(alone):
            assert losses[tokens] == pytest.approx(alone[tokens], rel=1e-4)


# Eight rows of 110 to 150 bytes: two rows of 512 when packed, and all of them in the first step.
EIGHT = ("dataset.rows=8", "training.max_steps=1", "training.eval_strategy=no", "tracking=none")


@pytest.mark.parametrize("backend", ["unsloth", "transformers"])
@pytest.mark.parametrize("strategy", ["bfd", "padding_free"])
def test_packed_rows_have_the_loss_of_unpacked_rows(
    trained: Callable[..., Done], backend: str, strategy: str
) -> None:
    plain = trained(f"backend={backend}", "packing=none", *EIGHT)
    packed = trained(f"backend={backend}", f"packing={strategy}", *EIGHT)
    assert packed.result["loss_first"] == pytest.approx(plain.result["loss_first"], rel=1e-5)
    assert packed.result["tokens"] == plain.result["tokens"]
    assert packed.result["loss_tokens"] == plain.result["loss_tokens"]
    # Evaluation is never packed: on the same weights it has the same value to the last digit.
    assert packed.series("eval/loss")[0] == plain.series("eval/loss")[0]


def test_packing_really_packs(trained: Callable[..., Done]) -> None:
    # Eight rows of 110 to 150 bytes, one row a step: eight steps, or the two that hold them all.
    one_a_step = ("dataset.rows=8", "training.per_device_train_batch_size=1", "training.num_train_epochs=1")
    run = trained("packing=bfd", "training.eval_strategy=no", "tracking=none", *one_a_step)
    assert (run.result["steps"], run.result["rows"]) == (2, 8)


# Batches --------------------------------------------------------------------------------------------


def test_a_packing_that_leaves_nothing_to_train_on_is_refused() -> None:
    rows = Dataset.from_dict({"input_ids": [[1, 2, 3, 4]], "labels": [[-100, -100, 5, -100]]})
    with pytest.raises(
        ConfigError, match=r"model.max_length=2 leaves no piece of the 1 training examples .*bfd"
    ):
        Packing("wrapped").rows(rows, 2)  # 3 begins a piece, and the first token of one has no loss


def test_the_share_of_real_tokens_is_logged(trained: Callable[..., Done], tmp_path: Path) -> None:
    lengths = [len(ids) for ids in make(tmp_path, *EIGHT).train_dataset["input_ids"]]
    padded = trained("backend=transformers", "packing=none", *EIGHT)
    packed = trained("backend=transformers", "packing=bfd", *EIGHT)
    assert padded.series("packing/real_tokens") == [pytest.approx(sum(lengths) / (8 * max(lengths)))]
    assert packed.series("packing/real_tokens") == [1.0]
    assert padded.series("packing/examples") == packed.series("packing/examples") == [8.0]


def test_grouped_batches_hold_examples_of_like_length(tmp_path: Path) -> None:
    def spread(strategy: str) -> float:
        trainer = make(tmp_path, f"packing={strategy}", "dataset.rows=256", "training.eval_strategy=no")
        masks = [batch["attention_mask"] for batch in trainer.get_train_dataloader()]
        assert sum(map(len, masks)) == 256
        return sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)

    assert spread("none") < 0.85
    assert spread("grouped") > 0.95


@pytest.mark.parametrize("key", ["train_sampling_strategy", "padding_free", "packing_strategy"])
def test_what_packing_decides_is_refused_in_the_training_group(key: str) -> None:
    cfg = compose([f"+training.{key}=true"]).cfg
    (message,) = settings_another_group_decides(cfg)
    assert message.startswith(f"training.{key} is decided elsewhere and would be ignored here. Fix: packing=")


def test_tokens_of_rows_that_are_cut_are_not_those_of_rows_that_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))

    def prepared(strategy: str) -> tuple[bool, int]:
        cfg = compose([*TINY, "model.max_length=64", f"packing={strategy}"]).cfg
        found = prepare(cfg, build(cfg.model).tokenizer()[0], [])
        held_out = max(len(e.input_ids) for e in found.data.held_out.examples)
        assert held_out <= 64  # held-out rows are cut whatever the packing
        return found.from_cache, max(len(e.input_ids) for e in found.data.train.examples) > 64

    assert prepared("none") == (False, False)
    assert prepared("bfd") == (True, False)
    assert prepared("wrapped") == (False, True)
    assert prepared("bfd_split") == (True, True)
