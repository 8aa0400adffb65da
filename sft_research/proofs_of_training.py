"""What is proven of a run's model and optimizer on its first batch: isolation, LoRA, and the settings held.

A proof returns what it found, in a line, or raises ConfigError: the fact, the numbers, the override.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

from sft_research.config import ConfigError
from sft_research.first_batch import Piece, losses, losses_alone
from sft_research.lora import FullFineTuning, Lora
from sft_research.tokens import IGNORED

# Mean distance in nats a token. Measured on SmolLM2-135M with sdpa, apart and mixed: float32 1e-6 and 0.6,
# bfloat16 0.03 and 0.6; float16 has 3 bits more than bfloat16.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.03, torch.bfloat16: 0.15}
# Adapters that are nothing at first; the others (pissa, olora, loftq, ...) move the base weights.
IDENTITY = (True, False, "gaussian", "orthogonal")


def labels_in_every_row(batch: Mapping[str, Any]) -> None:
    """A row without loss would be trained on as nothing, at the cost of a row."""
    kept = (batch["labels"][:, 1:] != IGNORED).sum(dim=1).tolist()
    if 0 in kept:
        raise ConfigError(
            f"row {kept.index(0) + 1} of the {len(kept)} in the first batch has no label with loss. "
            "Fix: packing=bfd, or model.max_length=... that holds an answer"
        )


def isolation(model: Any, chosen: Sequence[Piece], batch: Mapping[str, Any], packed: bool) -> str:
    """Examples have the loss in the batch that each has alone."""
    together = losses(model, dict(batch))
    alone = [losses_alone(model, piece) for piece in chosen]
    tokens = sum(len(nll) for nll in alone)
    fix = "packing=none" if packed else "backend.attn_implementation=eager with backend=transformers"
    if len(together) != tokens:
        raise ConfigError(
            f"{len(chosen)} examples train {tokens} tokens alone, and {len(together)} in one batch. Fix: {fix}"
        )
    difference = _distance(together, torch.cat(alone))
    if not difference <= TOLERANCE[model.dtype]:
        parts = zip(together.split([len(nll) for nll in alone]), alone, strict=True)
        worst, (mixed, by_itself) = max(enumerate(parts, start=1), key=lambda p: _distance(*p[1]))
        raise ConfigError(
            f"{'packed' if packed else 'padded'} rows change each other's loss: example {worst} of "
            f"{len(chosen)} has {mixed.mean():.4f} in the batch and {by_itself.mean():.4f} alone. Fix: {fix}"
        )
    kind = "packed" if packed else "padded"
    return f"{len(chosen)} {kind} examples have the loss of each alone, within {difference:.1e} nats a token"


def identity(model: Any, adapter: Lora | FullFineTuning, batch: Mapping[str, Any]) -> str:
    """The first loss is the base model's."""
    if isinstance(adapter, FullFineTuning):
        return "no adapter: the model is the base model"
    if adapter.init_lora_weights not in IDENTITY:
        return (
            f"not asked of lora.init_lora_weights={adapter.init_lora_weights}, which moves the base weights"
        )
    with_adapters = losses(model, dict(batch))
    with model.disable_adapter():
        base = losses(model, dict(batch))
    rounding = 1 if adapter.use_dora else 10  # DoRA divides by the weights' norms and multiplies by them
    if not _distance(with_adapters, base) <= TOLERANCE[model.dtype] / rounding:
        raise ConfigError(
            f"LoRA does not start as the identity: the first loss is {with_adapters.mean():.6f} with its "
            f"adapters and {base.mean():.6f} without. Fix: lora.init_lora_weights=true"
        )
    return f"first loss {with_adapters.mean():.4f} with adapters, {base.mean():.4f} without"


def trainable(model: Any, adapter: Lora | FullFineTuning, added_tokens: Sequence[int]) -> str:
    """What requires a gradient is what the config asks for: no more, no less."""
    if isinstance(adapter, FullFineTuning):
        wanted = {name for name, _ in model.named_parameters()}
    else:
        wanted = _adapter_parameters(model, adapter)
        wanted |= {n for n, _ in model.named_parameters() if added_tokens and "trainable_tokens_delta" in n}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for names, said in ((wanted - trained, "is frozen"), (trained - wanted, "is trained, unasked")):
        if names:
            raise ConfigError(
                f"{sorted(names)[0]} {said}, as are {len(names) - 1} more; {len(wanted)} parameters are "
                "to be trained. Fix: backend=transformers, or lora=none to train every weight"
            )
    return f"{sum(p.numel() for p in model.parameters() if p.requires_grad):,} weights trained as asked"


def _adapter_parameters(model: Any, adapter: Lora) -> set[str]:
    """Names of the adapters' parameters; raises where a module has none, or one of another rank or scale."""
    wanted: set[str] = set()
    bare: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            (rank,), (scale,) = set(module.r.values()), set(module.scaling.values())
            if rank != adapter.r or abs(scale - adapter.scale) > 1e-9 * adapter.scale:
                raise ConfigError(
                    f"{name} has an adapter of rank {rank} and scale {scale:g}, where lora.r={adapter.r} and "
                    f"lora.alpha={adapter.alpha} are rank {adapter.r} and scale {adapter.scale:g}. "
                    "Fix: backend=transformers"
                )
            inside = (own for own, _ in module.named_parameters() if not own.startswith("base_layer"))
            wanted |= {f"{name}.{own}" for own in inside}
        elif isinstance(module, torch.nn.Linear) and name.rpartition(".")[2] in adapter.target_modules:
            bare.append(name)
    if bare or not wanted:
        raise ConfigError(
            f"{len(bare)} modules of lora.target_modules have no adapter{', such as ' + bare[0] if bare else ''}. "
            "Fix: lora.target_modules=[...] of modules that can have one, or backend=transformers"
        )
    return wanted


def _distance(one: Any, other: Any) -> float:
    return float((one - other).abs().mean())
