"""The held-out loss is the sum over tokens divided by their number, whatever the batches."""

import json
import os
import subprocess
import sys
from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from sft_research import loss, ranks
from sft_research.config import ROOT
from sft_research.first_batch import losses
from sft_research.loss import batches, evaluating, held_out_loss
from sft_research.tokens import IGNORED
from tests.toys import Bigram, example

# Token 0 is followed by 0, 1 or 2 with 1/2, 1/4, 1/4; and so on.
TABLE = [[1 / 2, 1 / 4, 1 / 4], [1 / 8, 3 / 4, 1 / 8], [1 / 4, 1 / 4, 1 / 2]]
# 1/2, 1/2, 1/2 and 1/8: 3 ln 2 over 3 tokens, and 3 ln 2 over 1
LONG, SHORT = example([0], [0, 0, 0]), example([0, 0, 1], [0])


@pytest.mark.parametrize(
    ("examples", "value"),
    [
        ([LONG], log(2)),
        ([SHORT], 3 * log(2)),
        ([LONG, SHORT], 6 / 4 * log(2)),  # a mean of the two means would be 2 ln 2
        ([example([], [0, 1, 2])], (2 + 3) / 2 * log(2)),  # the first token has nothing before it
        ([example([0, 1], [2, 0, 1])], (3 + 2 + 2) / 3 * log(2)),
    ],
    ids=["long", "short", "both", "no-prompt", "three-rows-of-the-table"],
)
@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_the_loss_is_the_mean_over_tokens(examples, value, batch_size):
    assert held_out_loss(Bigram(TABLE), examples, batch_size) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("vocabulary", [2, 10, 1000])
def test_a_model_that_knows_nothing_has_the_logarithm_of_its_vocabulary(vocabulary):
    uniform = Bigram([[1 / vocabulary] * vocabulary] * vocabulary)
    rows = [example([0], [1, 1]), example([1, 1, 1], [0, 0, 0, 0, 1])]
    assert held_out_loss(uniform, rows, batch_size=2) == pytest.approx(log(vocabulary), rel=1e-6)


@pytest.fixture(scope="module")
def tiny_model(tiny_folder):
    return AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)


ROWS = [
    example(range(10, 10 + asked), range(50, 50 + said))
    for asked, said in [(1, 1), (3, 200), (150, 2), (2, 9), (60, 60), (5, 5), (190, 1), (20, 90)]
]


def test_the_loss_of_a_real_model_does_not_move_with_the_batch_size(tiny_model):
    one, two, seven = (held_out_loss(tiny_model, ROWS, batch_size) for batch_size in (1, 2, 7))
    assert two == pytest.approx(one, rel=1e-6)
    assert seven == pytest.approx(one, rel=1e-6)
    assert one == pytest.approx(log(259), abs=0.1)  # random weights know next to nothing


def test_the_loss_is_that_of_transformers_on_a_row_by_itself(tiny_model):
    row = ROWS[3]
    theirs = tiny_model(torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss.item()
    assert held_out_loss(tiny_model, [row], batch_size=1) == pytest.approx(theirs, rel=1e-6)


# What may not move it ------------------------------------------------------------------------------

rows_of_the_table = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=1), st.lists(st.integers(0, 2), min_size=1)),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(rows_of_the_table, st.integers(1, 5), st.integers(1, 13))
def test_neither_batch_size_nor_processes_nor_order_move_the_loss(rows, processes, batch_size):
    examples = [example(asked, said) for asked, said in rows]
    nll = [
        -log(TABLE[before][token])
        for asked, said in rows
        for before, token in zip([asked[-1], *said], said, strict=False)
    ]
    by_hand = sum(nll) / len(nll)
    assert held_out_loss(Bigram(TABLE), examples, batch_size) == pytest.approx(by_hand, rel=1e-5)
    assert held_out_loss(Bigram(TABLE), examples[::-1], batch_size) == pytest.approx(by_hand, rel=1e-5)
    with pytest.MonkeyPatch.context() as patch:  # as many processes as that, one after the other
        shares = []
        for rank in range(processes):
            patch.setattr(ranks, "rank", lambda rank=rank: rank)
            patch.setattr(ranks, "count", lambda: processes)
            patch.setattr(ranks, "gather", lambda value, rank=rank: _heard(value, rank, processes, len(rows)))
            shares.append(held_out_loss(Bigram(TABLE), examples, batch_size))
    assert sum(shares) == pytest.approx(by_hand, rel=1e-5)


def _heard(value, rank, processes, rows):
    """What a rank would be told if the rows of all others had lost nothing; whether they have more it is not told."""
    if isinstance(value, bool):
        return [value]
    return [
        value if other == rank else [0.0] * len(range(other, rows, processes)) for other in range(processes)
    ]


def padded_on_the_left(rows):
    width = max(len(row.input_ids) for row in rows)
    pad = [width - len(row.input_ids) for row in rows]
    return {
        "input_ids": torch.tensor([[0] * p + r.input_ids for r, p in zip(rows, pad, strict=True)]),
        "attention_mask": torch.tensor([[0] * p + [1] * (width - p) for p in pad]),
        "labels": torch.tensor([[IGNORED] * p + r.labels for r, p in zip(rows, pad, strict=True)]),
    }


def packed(rows):
    return {
        "input_ids": torch.tensor([[token for row in rows for token in row.input_ids]]),
        "position_ids": torch.tensor([[at for row in rows for at in range(len(row.input_ids))]]),
        "labels": torch.tensor([[label for row in rows for label in [IGNORED, *row.labels[1:]]]]),
    }


@pytest.mark.parametrize("batch", [padded_on_the_left, packed])
def test_neither_padding_side_nor_packing_moves_the_loss(tiny_model, batch):
    with evaluating(tiny_model):
        nll = losses(tiny_model, batch(ROWS))
    assert len(nll) == 1 + 200 + 2 + 9 + 60 + 5 + 1 + 90
    assert nll.mean().item() == pytest.approx(held_out_loss(tiny_model, ROWS, batch_size=3), rel=1e-6)


PROCESS = """
import json, os, sys
import torch
from pathlib import Path
from transformers import AutoModelForCausalLM
from sft_research import ranks
from sft_research.loss import held_out_loss
from tests.test_loss import ROWS
with ranks.joined(2):
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
    file = Path(f"{ranks.rank()}.jsonl")
    losses = [held_out_loss(model, ROWS[:count], 3, file if count == 8 else None) for count in (8, 3, 1)]
Path(os.environ["RANK"]).write_text(json.dumps(losses))
"""


def test_two_processes_are_given_the_number_of_one(tiny_folder, tiny_model, tmp_path):
    """Of a single row too, which leaves the second process none."""
    (tmp_path / "process.py").write_text(PROCESS)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "process.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command, str(tiny_folder)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / rank).read_text()) for rank in "01")
    assert first == second
    assert first == pytest.approx([held_out_loss(tiny_model, ROWS[:n], 3) for n in (8, 3, 1)], rel=1e-6)
    # One file, of all rows, in the order of one process.
    assert not (tmp_path / "1.jsonl").exists()
    held_out_loss(tiny_model, ROWS, 3, tmp_path / "alone.jsonl")
    whole, alone = ([json.loads(line) for line in (tmp_path / f"{n}.jsonl").open()] for n in ("0", "alone"))
    assert [row["tokens"] for row in whole] == [row["tokens"] for row in alone]
    assert [row["nll"] for row in whole] == pytest.approx([row["nll"] for row in alone], rel=1e-5)


# The training state -------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_dropout_and_gradients_are_off_and_the_training_state_is_back_afterwards(training):
    model = Bigram(TABLE).train(training)
    held_out_loss(model, [LONG, SHORT], batch_size=1)
    assert model.trained_while_called == [(False, False), (False, False)]
    assert (model.training, torch.is_grad_enabled()) == (training, True)


def test_the_training_state_is_back_after_an_error_too():
    model = Bigram(TABLE).train()
    with pytest.raises(KeyboardInterrupt), evaluating(model):
        raise KeyboardInterrupt
    assert (model.training, torch.is_grad_enabled()) == (True, True)


# Batches ------------------------------------------------------------------------------------------


def test_short_rows_come_first_and_are_padded_on_the_right():
    rows = [example([1, 1, 1], [2]), example([3], [4]), example([5, 5], [6])]
    made = [[part.tolist() for part in batch] for batch in batches(rows, 2, vocabulary=7, device="cpu")]
    x = IGNORED
    assert made == [
        [[[3, 4, 0], [5, 5, 6]], [[1, 1, 0], [1, 1, 1]], [[x, 4, x], [x, x, 6]]],
        [[[1, 1, 1, 2]], [[1, 1, 1, 1]], [[x, x, x, 2]]],
    ]


def test_a_batch_is_smaller_where_its_logits_would_not_fit(monkeypatch):
    # 4 bytes a logit and 3 logits a token: 12 tokens fit
    monkeypatch.setattr(loss, "LOGIT_BYTES", 4 * 3 * 12)
    model = Bigram(TABLE)
    rows = [example([0], [0] * said) for said in (3, 3, 3, 3, 5, 5, 5, 19)]
    assert held_out_loss(model, rows, batch_size=100) == pytest.approx(log(2), rel=1e-6)
    # 3 x 4 tokens fit, 2 x 6 do, and the row of 20 is measured by itself
    assert model.widths == [(3, 4), (2, 6), (2, 6), (1, 20)]


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1), st.integers(1, 9))
def test_every_row_is_in_one_batch(lengths, batch_size):
    rows = [example([length], [0] * length) for length in lengths]
    made = [(ids, mask) for ids, mask, _ in batches(rows, batch_size, vocabulary=3, device="cpu")]
    assert max(len(ids) for ids, _ in made) <= batch_size
    seen = [
        (row[0], sum(kept))
        for ids, mask in made
        for row, kept in zip(ids.tolist(), mask.tolist(), strict=True)
    ]
    assert seen == sorted((length, length + 1) for length in lengths)
