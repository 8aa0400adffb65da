"""How examples share a row: one each, or several up to `model.max_length` tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sft_research.config import ConfigError

if TYPE_CHECKING:
    from trl import SFTConfig


@dataclass(frozen=True)
class Packing:
    """A strategy of `trl.pack_dataset`, or None for one example a row."""

    strategy: Literal["bfd", "bfd_split", "wrapped"] | None

    def apply(self, args: SFTConfig) -> None:
        """Set it on TRL's arguments.

        After they are built, since Unsloth's CPU backend turns packing off while they are, in words
        alone. Packed rows stay apart there too: TRL restarts position ids, and its forward passes
        use_cache=False, without which they would see each other.
        """
        args.packing = self.strategy is not None
        args.packing_strategy = self.strategy or "bfd"
        args.eval_packing = False

    def require(self, attention: str) -> None:
        """Raise ConfigError where `attention` is not known to keep packed rows apart."""
        known = ("sdpa", "eager", "flash_attention_2", "flash_attention_3")
        if self.strategy and attention not in known:
            raise ConfigError(
                f"packing={self.strategy} with {attention} attention: packed rows may read each other. "
                f"Fix: packing=none, or backend.attn_implementation={known[0]}"
            )
