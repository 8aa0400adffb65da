"""A random two-layer OPT over bytes without a chat template, as facebook/opt-350m has none."""

from __future__ import annotations

from pathlib import Path

from sft_research import tiny


def make(folder: Path, tied: bool = True) -> None:
    import torch
    from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM

    config = OPTConfig(
        vocab_size=259,
        hidden_size=64,
        ffn_dim=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        word_embed_proj_dim=64,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=2,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(0)
    OPTForCausalLM(config).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(tiny.folder())
    # Other names than ChatML's, so that its two tokens are new.
    text = tokenizer.backend_tokenizer.to_str().replace("<|im_start|>", "<s>").replace("<|im_end|>", "</s>")
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(text),
        pad_token="<|endoftext|>",
        bos_token="</s>",
        eos_token="</s>",
    ).save_pretrained(folder)
