"""Tokenizers with the chat templates of seven models, and the conversations they are tried on.

DeepSeek's, Llama 3's and Gemma 3's run on Qwen3's vocabulary with their own marks added, as a tuned model has them.
"""

# ruff: noqa: RUF001  (DeepSeek writes its marks with a wide bar)
from copy import copy, deepcopy
from itertools import groupby
from pathlib import Path

from transformers import AutoTokenizer

from sft_research.dataset_format import Thinking
from sft_research.tokens import IGNORED, encode
from tests.qwen3 import chat_template

# Qwen3-Thinking-2507's generation prompt opens the thought; the rest is Qwen3's.
OPENS_THE_THOUGHT = (
    chat_template("qwen3").partition("{%- if add_generation_prompt %}")[0]
    + "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"
)
DEEPSEEK_MARKS = ["<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"]


LLAMA3_MARKS = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
GEMMA3_MARKS = ["<bos>", "<start_of_turn>", "<end_of_turn>"]

MODELS = ["smollm2", "qwen3", "qwen3_thinking", "deepseek", "llama3", "gemma3", "tiny"]
ASK, SAY = {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}
ASK_AGAIN, SAY_AGAIN = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}
TWO_TURNS = {"messages": [ASK, SAY, ASK_AGAIN, SAY_AGAIN]}
THOUGHT = Thinking(["<think>", "</think>"])({"instruction": "1+1?", "thinking": "1+1=2", "response": "2"})
TWO_THOUGHTS = {
    "messages": [
        ASK,
        {"role": "assistant", "content": "<think>\nadd\n</think>\n\n2"},
        ASK_AGAIN,
        {"role": "assistant", "content": "<think>\nsum\n</think>\n\n4"},
    ]
}


def make(smollm2_folder: Path, qwen3_folder: Path, tiny_folder: Path):
    """{name: tokenizer}"""
    qwen3 = AutoTokenizer.from_pretrained(qwen3_folder)  # takes seconds: loaded once
    made = {"qwen3": qwen3, "qwen3_thinking": copy(qwen3)}
    made["smollm2"] = AutoTokenizer.from_pretrained(smollm2_folder)
    made["tiny"] = AutoTokenizer.from_pretrained(tiny_folder)
    made["qwen3_thinking"].chat_template = OPENS_THE_THOUGHT
    for name, template, marks in (
        ("deepseek", "deepseek_r1_distill", DEEPSEEK_MARKS),
        ("llama3", "llama3", LLAMA3_MARKS),
        ("gemma3", "gemma3", GEMMA3_MARKS),
    ):
        made[name] = deepcopy(qwen3)
        made[name].chat_template = chat_template(template)
        made[name].add_special_tokens({"additional_special_tokens": marks})
        made[name].bos_token, made[name].eos_token = marks[0], marks[-1]
    return made


def one(row, tokenizer, max_length=512):
    (example,) = encode([row], lambda row: row, tokenizer, max_length, "training").examples
    return example


def parts(example):
    """[("context" | "trained", token ids), ...] in order; a label is the token itself or none."""
    pairs = list(zip(example.input_ids, example.labels, strict=True))
    assert all(label in (IGNORED, token) for token, label in pairs)
    runs = groupby(pairs, lambda pair: "context" if pair[1] == IGNORED else "trained")
    return [(name, [token for token, _ in run]) for name, run in runs]


def trained_text(example, tokenizer):
    return [tokenizer.decode(ids) for name, ids in parts(example) if name == "trained"]
