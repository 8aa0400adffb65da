"""What a packing option makes of lengths is what TRL's packer, collator and loader make of the rows."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import set_seed
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl import pack_dataset
from trl.data_utils import _pack_bfd

from sft_research import padding
from sft_research.config import build, compose
from sft_research.counts import count
from sft_research.padding import Batches, Packed, best_fit, grouped_order, packings, wrap
from sft_research.prepare import prepare
from sft_research.training import build_trainer
from tests.runs import TINY

LENGTHS = np.random.default_rng(0).integers(1, 51, size=2500)  # more rows than TRL packs at once


def packed_by_trl(lengths, max_length, strategy):
    rows = Dataset.from_dict({"input_ids": [[0] * int(length) for length in lengths]})
    return [len(ids) for ids in pack_dataset(rows, max_length, strategy)["input_ids"]]


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_best_fit_makes_the_rows_of_trl(lengths):
    column = pa.array([[0] * length for length in lengths], pa.list_(pa.int32()))
    rows = _pack_bfd(pa.table({"input_ids": column}), 40)["input_ids"]
    assert best_fit(np.array(lengths), 40).tolist() == [len(ids) for ids in rows.to_pylist()]


def test_best_fit_by_hand():
    # 5 opens a row of 8, 4 another; 3 fits the first exactly, 2 and 1 the second.
    assert best_fit(np.array([1, 2, 3, 4, 5]), 8).tolist() == [8, 7]


def test_rows_are_packed_a_thousand_at_a_time_as_trl_packs_them():
    for strategy in ("bfd", "bfd_split"):
        assert best_fit(LENGTHS, 64).tolist() == packed_by_trl(LENGTHS, 64, strategy)
    assert wrap(LENGTHS, 64)[0].tolist() == packed_by_trl(LENGTHS, 64, "wrapped")


def test_a_stream_cut_in_fours_by_hand():
    # aaa b|bb cc: b is cut apart. Then dddd dd: d is.
    rows, cut = wrap(np.array([3, 3, 2]), 4)
    assert (rows.tolist(), cut) == ([4, 4], 1)
    rows, cut = wrap(np.array([4, 6]), 4)
    assert (rows.tolist(), cut) == ([4, 4, 2], 1)


@pytest.mark.parametrize("size", [1, 8, 40])
@pytest.mark.parametrize("rows", [1, 7, 100, 2500])
def test_rows_of_like_length_come_together_as_the_library_groups_them(rows, size):
    theirs = get_length_grouped_indices(
        LENGTHS[:rows].tolist(), size, generator=torch.Generator().manual_seed(3)
    )
    assert grouped_order(LENGTHS[:rows], size, 3).tolist() == theirs


def test_padding_by_hand(monkeypatch):
    monkeypatch.setattr(padding, "shuffled", lambda rows, seed: np.arange(rows))
    made = {p.option: p for p in packings(np.array([1, 5, 4, 2, 3]), Batches(2, 2, 6, seed=0))}
    # Batches (1 5) (4 2) (3): 2 x 5 + 2 x 4 + 3 = 21 positions for 15 tokens, in 2 steps.
    assert made["none"] == Packed("none", 5, 2, 15, 21, 10, 0)
    assert made["none"].padding == 6 / 21
    assert made["none"].tokens_a_step == 7.5
    # Five rows in groups of four, sorted: (5 4) (2 1) (3): 10 + 4 + 3.
    assert made["grouped"] == Packed("grouped", 5, 2, 15, 17, 10, 0)
    assert made["padding_free"] == Packed("padding_free", 5, 2, 15, 15, 6, 0)
    # 5+1, 4+2 and 3, two rows a batch.
    assert made["bfd"].rows == 3
    assert (made["bfd"].positions, made["bfd"].largest) == (15, 12)
    assert made["bfd_split"].positions == 15
    # 1 5 | 4 2 | 3: nothing crosses a six.
    assert made["wrapped"] == Packed("wrapped", 3, 1, 15, 15, 12, 0)


def test_widths_are_rounded_up_where_the_run_says_so(monkeypatch):
    monkeypatch.setattr(padding, "shuffled", lambda rows, seed: np.arange(rows))
    made = {p.option: p for p in packings(np.array([1, 5, 4]), Batches(2, 1, 6, seed=0, multiple=4))}
    assert made["none"].positions == 2 * 8 + 4
    assert made["padding_free"].positions == 8 + 4


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("option", ["none", "bfd", "bfd_split", "wrapped"])
def test_the_trainer_computes_as_many_positions_as_are_foretold(option, seed, tmp_path):
    overrides = ("backend=transformers", "tracking=none", f"packing={option}", f"seed={seed}")
    run = compose([*TINY, *overrides, "training.per_device_train_batch_size=3"])
    set_seed(run.cfg.seed)
    model = build(run.cfg.model)
    tokenizer, added = model.tokenizer()
    data = prepare(run.cfg, tokenizer, added).data
    weights = build(run.cfg.backend).load(model, build(run.cfg.lora), added, len(tokenizer), seed)
    loaded = build_trainer(run, weights, data, str(tmp_path)).get_train_dataloader()
    positions = [batch["input_ids"].numel() for batch in loaded]

    batches = Batches(3, 1, model.max_length, seed)
    foretold = {p.option: p for p in packings(count("training", data.train).lengths, batches)}[option]
    assert (foretold.steps, foretold.positions) == (len(positions), sum(positions))
    assert foretold.largest == max(positions)
