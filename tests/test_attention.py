"""Segments of a packed row are attended to apart, and everything else as sdpa does it."""

from __future__ import annotations

from copy import deepcopy
from itertools import chain
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, MistralConfig, Qwen3Config
from transformers.masking_utils import (
    and_masks,
    bidirectional_mask_function,
    blockwise_overlay,
    causal_mask_function,
    chunked_overlay,
    find_packed_sequence_indices,
    or_masks,
    packed_sequence_mask_function,
    sliding_window_causal_mask_function,
)

from sft_research import attention
from sft_research.attention import APART, attend_apart, triangles

LENGTHS = [3, 2, 1]
POSITIONS = torch.tensor([[0, 1, 2, 0, 1, 0]])
SEGMENTS = packed_sequence_mask_function(find_packed_sequence_indices(POSITIONS))
PACKED = and_masks(causal_mask_function, SEGMENTS)


@pytest.mark.parametrize(
    ("mask", "lengths"),
    [
        (causal_mask_function, [6]),
        (PACKED, [3, 2, 1]),
        (and_masks(PACKED, sliding_window_causal_mask_function(3)), [3, 2, 1]),  # as long as the longest
        (and_masks(PACKED, sliding_window_causal_mask_function(2)), None),  # token 2 does not see token 0
        (and_masks(causal_mask_function, chunked_overlay(4, torch.zeros(1, dtype=torch.long))), [4, 2]),
        (bidirectional_mask_function, None),
        (or_masks(PACKED, blockwise_overlay(torch.tensor([[-1, 0, 0, -1, -1, -1]]))), None),
    ],
    ids=["causal", "packed", "wide-window", "narrow-window", "chunks", "both-ways", "image-block"],
)
def test_lengths_are_given_only_where_the_mask_is_nothing_but_causal_triangles(
    mask: Any, lengths: list[int] | None
) -> None:
    found = triangles(mask, 6, "cpu")
    assert (None if found is None else found.tolist()) == lengths


SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.5,  # so that what a token reads shows in its logits
}
CONFIGS = {
    "llama": LlamaConfig(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE),
    "mistral, window 4": MistralConfig(**SHAPE, sliding_window=4),
    "gemma3, window 4 in every other layer": Gemma3TextConfig(
        **SHAPE, sliding_window=4, layer_types=["sliding_attention", "full_attention"]
    ),
}
ROWS = [[5, 9, 13, 2, 44, 31, 7], [8, 3], [61, 60, 59, 58, 57]]


def model_of(name: str, implementation: str) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        deepcopy(CONFIGS[name]), attn_implementation=implementation
    ).eval()
    attend_apart(model)
    return model


def packed(model: Any, rows: list[list[int]] = ROWS) -> torch.Tensor:
    """Logits (T, V) of rows in one."""
    positions = [torch.arange(len(row)) for row in rows]
    return model(
        input_ids=torch.tensor([[*chain(*rows)]]), position_ids=torch.cat(positions)[None], use_cache=False
    ).logits[0]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_packed_rows_have_the_logits_they_have_alone(name: str, implementation: str) -> None:
    model = model_of(name, implementation)
    alone = [model(input_ids=torch.tensor([row]), use_cache=False).logits[0] for row in ROWS]
    assert model.config._attn_implementation == {"sdpa": APART, "eager": "eager"}[implementation]
    torch.testing.assert_close(packed(model), torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_packed_rows_pull_the_weights_where_padded_rows_pull_them() -> None:
    one, other = model_of("llama", "sdpa"), model_of("llama", "sdpa")
    packed(one).logsumexp(-1).sum().backward()
    for row in ROWS:
        other(input_ids=torch.tensor([row]), use_cache=False).logits.logsumexp(-1).sum().backward()
    for (name, weight), same in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, same.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_no_mask_of_all_pairs_is_made_and_the_segments_are_found_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    seen: list[tuple[int, ...]] = []
    found, attend = attention.triangles, attention.sdpa_attention_forward
    monkeypatch.setattr(attention, "sdpa_mask", lambda **_: pytest.fail("a (T, T) mask"))
    monkeypatch.setattr(attention, "triangles", lambda *of: asked.append(of) or found(*of))
    monkeypatch.setattr(
        attention,
        "sdpa_attention_forward",
        lambda module, query, *rest, **named: (
            seen.append(tuple(query.shape)) or attend(module, query, *rest, **named)
        ),
    )
    packed(model_of("llama", "sdpa"))
    assert len(asked) == 1
    assert seen == [(1, 4, 7, 8), (1, 4, 2, 8), (1, 4, 5, 8)] * 2  # a layer


@pytest.mark.parametrize("name", ["llama", "mistral, window 4"])
def test_padded_rows_and_generation_are_those_of_sdpa(name: str) -> None:
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(deepcopy(CONFIGS[name]), attn_implementation="sdpa").eval()
    apart = model_of(name, "sdpa")
    ids = torch.tensor([[0, 0, 0, 8, 3], [61, 60, 59, 58, 57]])
    mask = torch.tensor([[0, 0, 0, 1, 1], [1, 1, 1, 1, 1]])
    assert (plain.config._attn_implementation, apart.config._attn_implementation) == ("sdpa", APART)
    assert torch.equal(
        apart(input_ids=ids, attention_mask=mask).logits, plain(input_ids=ids, attention_mask=mask).logits
    )
    said = [
        m.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False, pad_token_id=0)
        for m in (apart, plain)
    ]
    assert said[0].tolist() == said[1].tolist()


def test_a_saved_model_loads_where_nobody_knows_this_attention(tmp_path: Any) -> None:
    model_of("llama", "sdpa").save_pretrained(tmp_path)
    assert APART not in (tmp_path / "config.json").read_text()
