"""Packed rows attended to apart, where there is no kernel for several lengths in one row.

A packed row of T tokens is several segments. transformers isolates them with a (T, T) mask, so that sdpa
works on T x T pairs; here each segment is a causal triangle by itself, and no (T, T) mask is made.

    segments of 2, 3    sdpa: 25 pairs    apart: 4 + 9
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask

APART = "sdpa_apart"


def attend_apart(model: Any) -> None:
    """Let a model that attends with sdpa on a CPU attend to packed rows apart; the rest is as before.

    A GPU keeps what it has: flash attention takes several lengths in one row by itself.
    """
    if model.config._attn_implementation == "sdpa" and model.device.type != "cuda":
        AttentionMaskInterface.register(APART, segments_or_mask)
        AttentionInterface.register(APART, attend)
        model.set_attn_implementation(APART)


def segments_or_mask(
    *,
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: Any = 0,
    kv_offset: Any = 0,
    mask_function: Callable[..., Any] = causal_mask_function,
    attention_mask: Any = None,
    allow_is_causal_skip: bool = True,
    use_vmap: bool = False,
    device: Any = "cpu",
    **rest: Any,
) -> Any:
    """The lengths of a packed row's segments, (n,), once a forward; else the mask that sdpa would have.

    transformers hands over a function of indices, made of causality, segments and whatever else a layer
    wants. Only where it is nothing but causal triangles are lengths given: a sliding window that is
    shorter than a segment is none.
    """
    one_row = batch_size == 1 and attention_mask is None and q_length == kv_length and not use_vmap
    if one_row and not allow_is_causal_skip and q_offset == 0 and kv_offset == 0:
        lengths = triangles(mask_function, q_length, device)
        if lengths is not None:
            return lengths
    return sdpa_mask(
        batch_size=batch_size,
        q_length=q_length,
        kv_length=kv_length,
        q_offset=q_offset,
        kv_offset=kv_offset,
        mask_function=mask_function,
        attention_mask=attention_mask,
        allow_is_causal_skip=allow_is_causal_skip,
        use_vmap=use_vmap,
        device=device,
        **rest,
    )


def triangles(mask_function: Callable[..., Any], length: int, device: Any) -> torch.Tensor | None:
    """Lengths of the causal triangles that a mask is made of, or None where it is made of something else.

    A segment begins where a token does not see the one before it. Then each token must see the first of
    its segment, none of the segment before and not the next token: 4 T pairs looked at instead of T x T.
    """
    at = torch.arange(length, device=device)
    zero = torch.zeros_like(at)

    def sees(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        # Keys outside the row are looked up inside it, and count as not seen.
        inside = (key >= 0) & (key < length)
        return mask_function(zero, zero, query, key.clamp(0, length - 1)) & inside

    first = torch.where(sees(at, at - 1), zero, at).cummax(0).values
    if not (sees(at, at) & sees(at, first)).all() or (sees(at, first - 1) | sees(at, at + 1)).any():
        return None
    return torch.unique_consecutive(first, return_counts=True)[1].cpu()


def attend(
    module: Any,
    query: torch.Tensor,  # (B, heads, T, head size)
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """sdpa, a segment at a time where `attention_mask` holds lengths; (B, T, heads, head size)."""
    if attention_mask is None or attention_mask.ndim != 1:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **rest
        )
    lengths = attention_mask.tolist()
    # One split and one cat: the backward of a slice a segment would write T gradients for each of them.
    parts = zip(*(whole.split(lengths, dim=2) for whole in (query, key, value)), strict=True)
    made = [
        sdpa_attention_forward(module, *part, None, dropout, scaling, is_causal=True, **rest)[0]
        for part in parts
    ]
    return torch.cat(made, dim=1), None
