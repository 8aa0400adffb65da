"""A random two-layer Llama over bytes, in the user's cache: every path of a run in a second.

    vocabulary: 0 <|endoftext|> (pad), 1 <|im_start|>, 2 <|im_end|> (eos), 3 .. 258 the 256 bytes
Hidden size 64 is the narrowest that bitsandbytes packs into 4 bits on a CPU.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def folder() -> Path:
    """The model as an ordinary Hugging Face folder, made on first use: 0.1 M parameters, seed 0."""
    from sft_research.smollm2 import cache_dir

    place = cache_dir() / "tiny-llama-1"
    if not (place / "config.json").is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=place.parent, prefix="tiny-"))
        _make(made)
        try:
            os.rename(made, place)
        except OSError:  # another run was faster
            shutil.rmtree(made)
    return place


def _make(place: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=259,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(place)
    _tokenizer().save_pretrained(place)


def _tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from sft_research.model import CHATML

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[2],
        additional_special_tokens=SPECIAL,
        chat_template=CHATML,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
