"""What a packing option is said to make of the rows is what the trainer's batches hold."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import set_seed
from transformers.trainer_pt_utils import get_length_grouped_indices

from sft_research import padding
from sft_research.config import build, compose
from sft_research.counts import Tokens, tokens_of
from sft_research.padding import Batches, Packed, grouped_order, packings
from sft_research.prepare import prepare
from sft_research.training import build_trainer
from tests.runs import TINY

LENGTHS = np.random.default_rng(0).integers(1, 51, size=2500)  # more rows than TRL packs at once


def all_trained(*lengths: int) -> Tokens:
    return Tokens(np.array(lengths), np.ones(sum(lengths), dtype=np.int64))


@pytest.mark.parametrize("size", [1, 8, 40])
@pytest.mark.parametrize("rows", [1, 7, 100, 2500])
def test_rows_of_like_length_come_together_as_the_library_groups_them(rows, size):
    theirs = get_length_grouped_indices(
        LENGTHS[:rows].tolist(), size, generator=torch.Generator().manual_seed(3)
    )
    assert grouped_order(LENGTHS[:rows], size, 3).tolist() == theirs


def test_padding_by_hand(monkeypatch):
    monkeypatch.setattr(padding, "shuffled", lambda rows, seed: np.arange(rows))
    within = all_trained(2, 5, 4, 2, 2)
    made = {p.option: p for p in packings(within, within, Batches(2, 2, 6, seed=0))}
    # Batches (2 5) (4 2) (2): 2 x 5 + 2 x 4 + 2 = 20 positions for 15 tokens, in 2 steps.
    assert made["none"] == Packed("none", 5, 2, 15, 20, 10, 0)
    assert made["none"].padding == 5 / 20
    assert made["none"].tokens_a_step == 7.5
    # Five rows in groups of four, sorted: (5 4) (2 2) (2): 10 + 4 + 2.
    assert made["grouped"] == Packed("grouped", 5, 2, 15, 16, 10, 0)
    assert made["padding_free"] == Packed("padding_free", 5, 2, 15, 15, 7, 0)
    # 5, 4+2 and 2+2; two rows a batch.
    assert made["bfd"] == replace(made["bfd_split"], option="bfd") == Packed("bfd", 3, 1, 15, 15, 11, 0)
    # 2 4|1 4 1|1 2: the second and the fourth are cut, and a piece of one token has no loss: 2 4, 4, 2.
    assert made["wrapped"] == Packed("wrapped", 3, 1, 12, 12, 10, 2)


def test_a_step_takes_the_batches_of_all_devices(monkeypatch):
    monkeypatch.setattr(padding, "shuffled", lambda rows, seed: np.arange(rows))
    rows = all_trained(2, 5, 4, 2, 2)  # three batches
    for accumulation, devices, steps in [(1, 1, 3), (1, 2, 2), (1, 3, 1), (2, 2, 1)]:
        batches = Batches(2, accumulation, 6, seed=0, devices=devices)
        assert packings(rows, rows, batches)[0].steps == steps


def test_an_example_longer_than_a_row_goes_on_only_where_the_option_lets_it(monkeypatch):
    monkeypatch.setattr(padding, "shuffled", lambda rows, seed: np.arange(rows))
    made = {p.option: p for p in packings(all_trained(4, 3), all_trained(6, 3), Batches(2, 1, 4, seed=0))}
    assert made["bfd"] == Packed("bfd", 2, 1, 7, 7, 7, 0)
    # 4, 3 and the 2 that are left of six.
    assert made["bfd_split"] == Packed("bfd_split", 3, 2, 9, 9, 7, 1)


def test_widths_are_rounded_up_where_the_run_says_so(monkeypatch):
    monkeypatch.setattr(padding, "shuffled", lambda rows, seed: np.arange(rows))
    rows = all_trained(2, 5, 4)
    made = {p.option: p for p in packings(rows, rows, Batches(2, 1, 6, seed=0, multiple=4))}
    assert made["none"].positions == 2 * 8 + 4


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("option", ["none", "padding_free", "bfd", "bfd_split", "wrapped"])
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
    tokens = tokens_of(data.train.examples)
    foretold = {p.option: p for p in packings(tokens, tokens, batches)}[option]
    assert (foretold.steps, foretold.positions) == (len(positions), sum(positions))
    assert foretold.largest == max(positions)
