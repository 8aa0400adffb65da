"""The tiny model is the same 0.1 M random weights everywhere, and its tokens are bytes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft_research import tiny


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder as it is made today; the one in the user's cache may be of an earlier day."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        return tiny.folder()


@pytest.fixture(scope="module")
def tokenizer(made):
    return AutoTokenizer.from_pretrained(made)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    return tmp_path / "sft_research"


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()


def test_it_has_two_layers_of_width_64_and_107_200_weights(made):
    # two embeddings 259 x 64, and two layers of q and o (64 x 64 each), k and v (64 x 32 each), three
    # 64 x 128 and two norms, and one norm at the end
    layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64
    assert 2 * 259 * 64 + 2 * layer + 64 == 107_200
    model = AutoModelForCausalLM.from_pretrained(made)
    assert sum(weight.numel() for weight in model.parameters()) == 107_200
    assert (model.config.num_hidden_layers, model.config.max_position_embeddings) == (2, 2048)


def test_the_folder_in_the_users_cache_is_the_one_that_would_be_made_today(made, tiny_folder):
    now, then = weights(made), weights(tiny_folder)
    assert now.keys() == then.keys()
    assert [name for name in now if not torch.equal(now[name], then[name])] == []
    assert (made / "tokenizer.json").read_text() == (tiny_folder / "tokenizer.json").read_text()


def test_it_is_made_once_and_without_a_change_to_the_random_state(cache, monkeypatch):
    torch.manual_seed(1)
    folder = tiny.folder()
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(1)))
    monkeypatch.delattr(tiny, "_make")
    assert tiny.folder() == folder == cache / "tiny-llama-1"


def test_of_two_runs_at_once_the_slower_takes_the_folder_of_the_faster(cache, monkeypatch):
    make = tiny._make

    def make_while_another_run_finishes(place):
        make(place)
        monkeypatch.setattr(tiny, "_make", make)
        (tiny.folder() / "first").touch()

    monkeypatch.setattr(tiny, "_make", make_while_another_run_finishes)
    assert (tiny.folder() / "first").is_file()
    assert [path.name for path in cache.iterdir()] == ["tiny-llama-1"]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("<|endoftext|><|im_start|><|im_end|>", [0, 1, 2]),
        ("!~", [3, 96]),  # the first and the last printable byte
        ("1+1", [19, 13, 19]),
        ("é", [130, 105]),  # the bytes c3 a9
        ("\n ", [201, 223]),  # unprintable bytes come last, in order: 00 - 20, 7f - a0, ad
    ],
)
def test_a_text_is_its_bytes_and_the_three_marks_are_one_token_each(tokenizer, text, ids):
    assert tokenizer(text).input_ids == ids


@settings(deadline=None)
@given(st.text())
def test_every_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_an_answer_ends_with_im_end_and_padding_is_another_token(tokenizer):
    assert len(tokenizer) == 259
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("<|endoftext|>", 0)


def test_its_template_is_chatml(tokenizer):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    )
