"""Who loads and patches the model: Unsloth first, or plain Transformers + PEFT.

A backend has two verbs. `activate` comes before anything imports trl, transformers or peft, since
Unsloth patches them as they load; `load` gives the model with its adapter.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sft_research import ranks
from sft_research.config import ConfigError
from sft_research.lora import FullFineTuning, Lora
from sft_research.model import Model

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Unsloth:
    """`FastLanguageModel`, on a GPU or on its CPU backend (unsloth >= 2026.10.9)."""

    gradient_checkpointing: bool | Literal["auto", "unsloth"] = "auto"

    def activate(self) -> None:
        os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")  # no call home, no wait without a network
        import unsloth  # noqa: F401

    def load(
        self,
        model: Model,
        adapter: Lora | FullFineTuning,
        added_tokens: list[int],
        vocabulary: int,
        seed: int,
    ) -> PreTrainedModel:
        from unsloth import FastLanguageModel

        checkpointing = self.gradient_checkpointing
        if checkpointing == "auto":
            checkpointing = "unsloth" if _on_gpu() else False
        full = isinstance(adapter, FullFineTuning)
        loaded, _ = FastLanguageModel.from_pretrained(
            model.source,
            max_seq_length=model.max_length,
            dtype=model.torch_dtype(full),
            load_in_4bit=model.load_in_4bit,
            full_finetuning=full,
            revision=model.revision,
            use_gradient_checkpointing=checkpointing,
            trust_remote_code=False,
            use_exact_model_name=True,  # else Unsloth swaps in another repository of its own
        )
        _require_4bit(loaded, model)
        _grow(loaded, vocabulary)
        if isinstance(adapter, Lora):
            adapter.require_modules(_linear_names(loaded))
            loaded = FastLanguageModel.get_peft_model(
                loaded,
                random_state=seed,
                use_gradient_checkpointing=checkpointing,
                **adapter.arguments(_new_rows(loaded, added_tokens)),
            )
        return loaded


@dataclass(frozen=True)
class Transformers:
    """`AutoModelForCausalLM` and `peft.get_peft_model`."""

    gradient_checkpointing: bool | Literal["auto"] = "auto"
    attn_implementation: str = "sdpa"

    def activate(self) -> None:
        import transformers  # noqa: F401

    def load(
        self,
        model: Model,
        adapter: Lora | FullFineTuning,
        added_tokens: list[int],
        vocabulary: int,
        seed: int,
    ) -> PreTrainedModel:
        import torch
        from peft import get_peft_model
        from transformers import AutoModelForCausalLM

        loaded = AutoModelForCausalLM.from_pretrained(
            model.source,
            dtype=model.torch_dtype(isinstance(adapter, FullFineTuning)),
            device_map=_device(),
            attn_implementation=self.attn_implementation,
            revision=model.revision,
            trust_remote_code=False,  # said, or a terminal would be asked
            **_quantization(model),
        )
        _require_4bit(loaded, model)
        _keep_4bit_trainable(loaded)
        _grow(loaded, vocabulary)
        loaded.config.use_cache = False
        checkpointing = _on_gpu() if self.gradient_checkpointing == "auto" else self.gradient_checkpointing
        if checkpointing:
            loaded.gradient_checkpointing_enable({"use_reentrant": False})
            loaded.enable_input_require_grads()
        if isinstance(adapter, Lora):
            adapter.require_modules(_linear_names(loaded))
            torch.manual_seed(seed)  # of A: the trainer seeds itself only later
            loaded = get_peft_model(loaded, adapter.peft_config(_new_rows(loaded, added_tokens)))
        return loaded


def _on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _device() -> str:
    """Of this rank; Unsloth finds its own by the same variables."""
    if not _on_gpu():
        return "cpu"
    return f"cuda:{ranks.rank()}" if ranks.count() > 1 else "cuda"


def _quantization(model: Model) -> dict[str, Any]:
    """NF4 with double quantisation (Dettmers et al. 2023); a folder quantised already brings its own."""
    from transformers import BitsAndBytesConfig, PretrainedConfig

    config, _ = PretrainedConfig.get_config_dict(model.source, revision=model.revision)
    if not model.load_in_4bit or "quantization_config" in config:
        return {}
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=model.torch_dtype(),
        )
    }


def _require_4bit(loaded: Any, model: Model) -> None:
    """Refuse what Unsloth would do with a line of text: load 16 bits where 4 do not work."""
    is_4bit = any(type(module).__name__ == "Linear4bit" for module in loaded.modules())
    if is_4bit != model.load_in_4bit:
        raise ConfigError(
            f"model.load_in_4bit={str(model.load_in_4bit).lower()}, but {model.name} was loaded in "
            f"{'4' if is_4bit else '16 or 32'} bits: bitsandbytes cannot pack it here, or it was saved so. "
            f"Fix: model.load_in_4bit={str(is_4bit).lower()}"
        )


def _keep_4bit_trainable(loaded: Any) -> None:
    """bitsandbytes 0.50 repacks 4-bit weights on the first no-grad forward where the CPU has
    AVX512-BF16, and backward through them is then wrong: one evaluation would stall the run."""
    for module in loaded.modules():
        if type(module).__name__ == "Linear4bit":
            module.support_avx512bf16_for_cpu = False


def _grow(loaded: Any, vocabulary: int) -> None:
    """Rows for added tokens; never fewer than the model has (some pad their vocabulary)."""
    if vocabulary > loaded.get_input_embeddings().num_embeddings:
        loaded.resize_token_embeddings(vocabulary, mean_resizing=False)


def _new_rows(loaded: Any, added_tokens: list[int]) -> dict[str, list[int]]:
    """Where added tokens have a row of their own: the head too, unless it is the embedding again."""
    modules = ["embed_tokens"] if loaded.config.tie_word_embeddings else ["embed_tokens", "lm_head"]
    return {module: added_tokens for module in modules if added_tokens}


def _linear_names(loaded: Any) -> set[str]:
    import torch

    return {name.rsplit(".", 1)[-1] for name, m in loaded.named_modules() if isinstance(m, torch.nn.Linear)}
