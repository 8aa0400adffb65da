"""LoRA (Hu et al. 2021) as a config group: rank, alpha or a policy for it, and which modules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf, sqrt
from typing import TYPE_CHECKING, Any

from sft_research.config import ConfigError

if TYPE_CHECKING:
    from peft import LoraConfig


def effective_alpha(alpha: float | str, r: int) -> float:
    """The number that a policy stands for: `r` -> r, `2r` -> 2 * r, `0.5r` -> r / 2, and 16 -> 16."""
    policy = re.fullmatch(r"(\d+(?:\.\d+)?)?r", alpha) if isinstance(alpha, str) else None
    value = float(policy[1] or 1) * r if policy else alpha
    if isinstance(value, (str, bool)) or not 0 < value < inf:
        raise ConfigError(
            f"lora.alpha={alpha!r} is neither a number above 0 nor a policy. "
            "Fix: lora.alpha=16, lora.alpha=r (the rank), or lora.alpha=2r (twice it)"
        )
    return int(value) if value == int(value) else value


@dataclass(frozen=True)
class Lora:
    """Adapters B A on `target_modules`: W x + scale * B A x, with A (r, in) and B (out, r).

    Raises ConfigError for an alpha that is neither a number nor a policy.
    """

    r: int
    alpha: int | float | str
    dropout: float
    target_modules: list[str]
    use_rslora: bool = False
    use_dora: bool = False
    init_lora_weights: bool | str = True

    @property
    def scale(self) -> float:
        """The factor of the update: alpha / r, or alpha / sqrt(r) with rsLoRA."""
        return self.scaled_by / (sqrt(self.r) if self.use_rslora else self.r)

    @property
    def scaled_by(self) -> float:
        """Alpha as a number, where it is a policy: 16 of `2r` and a rank of 8."""
        return effective_alpha(self.alpha, self.r)

    def arguments(self, new_rows: dict[str, list[int]]) -> dict[str, Any]:
        """What `peft.LoraConfig` and Unsloth's `get_peft_model` both take.

        `new_rows`: module -> ids of tokens whose row there is new and must be trained beside the adapters.
        """
        optional: dict[str, Any] = {}
        if self.use_dora:
            optional["use_dora"] = True
        if new_rows:
            optional["trainable_token_indices"] = new_rows
        return {
            "r": self.r,
            "lora_alpha": self.scaled_by,
            "lora_dropout": self.dropout,
            "target_modules": self.target_modules,
            "use_rslora": self.use_rslora,
            "init_lora_weights": self.init_lora_weights,
            "bias": "none",
            **optional,
        }

    def peft_config(self, new_rows: dict[str, list[int]]) -> LoraConfig:
        from peft import LoraConfig

        return LoraConfig(task_type="CAUSAL_LM", **self.arguments(new_rows))

    def require_modules(self, present: set[str]) -> None:
        """Raise ConfigError for a target that the model lacks: PEFT adapts the others and says nothing."""
        absent = [module for module in self.target_modules if module not in present]
        if absent:
            raise ConfigError(
                f"lora.target_modules names {', '.join(absent)}, which this model does not have. "
                f"Its linear modules are {', '.join(sorted(present))}. "
                f"Fix: lora.target_modules=[{','.join(sorted(present - {'lm_head'}))}]"
            )


@dataclass(frozen=True)
class FullFineTuning:
    """No adapter: every weight of the model is trained."""
