"""A model whose packed rows read each other is refused, whatever its name."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MambaConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from sft_research.attention import attend_apart
from sft_research.config import ConfigError
from sft_research.isolation import require_isolation
from tests import opt
from tests.trainers import make

FLAT = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
CONFIGS = {
    "llama": LlamaConfig(
        vocab_size=99, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4
    ),
    "gpt2": GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=4),
    "mamba": MambaConfig(vocab_size=99, hidden_size=32, num_hidden_layers=2),
}


def ask(name: str, collate: Callable[..., Any] = FLAT, attention: str = "sdpa", dtype: Any = None) -> None:
    torch.manual_seed(0)
    # Mamba attends to nothing: it carries a state along the row.
    chosen = {} if name == "mamba" else {"attn_implementation": attention}
    model = AutoModelForCausalLM.from_config(deepcopy(CONFIGS[name]), **chosen, dtype=dtype or torch.float32)
    attend_apart(model)
    require_isolation(model.train(), collate, "bfd")
    assert model.training


def positions_run_on(rows: Any) -> dict[str, Any]:
    batch = FLAT(rows)
    return batch | {"position_ids": torch.arange(batch["input_ids"].shape[1])[None]}


def positions_begin_at_five(rows: Any) -> dict[str, Any]:
    batch = FLAT(rows)
    return batch | {"position_ids": batch["position_ids"] + 5 * (len(rows) - 1)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_attention_that_follows_position_ids_is_taken(name: str, attention: str, dtype: Any) -> None:
    ask(name, attention=attention, dtype=dtype)


@pytest.mark.parametrize(
    ("name", "collate"),
    [("mamba", FLAT), ("llama", positions_run_on), ("gpt2", positions_begin_at_five)],
    ids=["a-state-along-the-row", "positions-that-run-on", "positions-that-begin-late"],
)
def test_rows_that_are_not_what_they_are_alone_are_refused(name: str, collate: Any) -> None:
    with pytest.raises(ConfigError, match=rf"packing=bfd: on {name} with .* Fix: packing=none, or packing=g"):
        ask(name, collate)


@pytest.mark.parametrize("packing", ["bfd", "wrapped", "padding_free"])
def test_opt_which_looks_at_no_position_ids_is_refused(packing: str, tmp_path: Path) -> None:
    opt.make(str(tmp_path / "opt"))
    options = (f"model.name={tmp_path / 'opt'}", "model.chat_template=chatml", "lora=opt")
    with pytest.raises(ConfigError, match=rf"packing={packing}: on opt with sdpa_apart attention a row "):
        make(tmp_path / "run", *options, f"packing={packing}")
    make(tmp_path / "run", *options, "packing=grouped")
