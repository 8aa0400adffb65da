"""Rank, alpha and scale by hand, and no target that PEFT would leave out in silence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_research.config import ConfigError, build
from sft_research.lora import FullFineTuning, Lora, effective_alpha
from tests.command_line import composed

LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"}


def lora(**changes: Any) -> Lora:
    return Lora(**{"r": 8, "alpha": 16, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]} | changes)


@pytest.mark.parametrize(
    ("alpha", "r", "number"),
    [
        (16, 8, 16),
        (0.5, 8, 0.5),
        (16.0, 8, 16),
        ("r", 8, 8),
        ("1r", 8, 8),
        ("2r", 8, 16),
        ("0.5r", 8, 4),
        ("1.5r", 3, 4.5),
    ],
)
def test_alpha_is_a_number_or_follows_the_rank(alpha: float | str, r: int, number: float) -> None:
    assert effective_alpha(alpha, r) == number


def test_a_whole_alpha_is_an_int_since_it_is_written_to_json() -> None:
    assert [type(effective_alpha(alpha, 8)) for alpha in (16.0, "0.5r", 0.5)] == [int, int, float]


@pytest.mark.parametrize(
    "alpha",
    [
        "x",
        "",
        "16",
        "r2",
        "2 r",
        "-2r",
        "0r",
        "2R",
        "r\n",
        0,
        -1,
        0.0,
        True,
        False,
        float("nan"),
        float("inf"),
    ],
)
def test_any_other_alpha_is_refused_with_three_that_work(alpha: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        effective_alpha(alpha, 8)
    assert str(refused.value) == (
        f"lora.alpha={alpha!r} is neither a number above 0 nor a policy. "
        "Fix: lora.alpha=16, lora.alpha=r (the rank), or lora.alpha=2r (twice it)"
    )


@pytest.mark.parametrize(
    ("alpha", "r", "use_rslora", "scale"),
    [
        (16, 8, False, 2.0),  # 16 / 8
        (16, 64, False, 0.25),  # 16 / 64
        (16, 64, True, 2.0),  # 16 / sqrt(64)
        ("2r", 16, True, 8.0),  # 32 / sqrt(16)
    ],
)
def test_the_scale_is_alpha_over_r_or_over_its_root(
    alpha: float | str, r: int, use_rslora: bool, scale: float
) -> None:
    assert lora(alpha=alpha, r=r, use_rslora=use_rslora).scale == scale


@given(r=st.integers(1, 4096), times=st.sampled_from([0.25, 0.5, 1, 2, 4]))
def test_a_policy_keeps_the_scale_whatever_the_rank(r: int, times: float) -> None:
    assert lora(r=r, alpha=f"{times}r").scale == times


def test_peft_gets_the_numbers_and_its_scaling_is_ours() -> None:
    import torch
    from peft import get_peft_model

    model = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(6, 5), "v_proj": torch.nn.Linear(6, 5)})
    for adapter in (lora(r=4, alpha="2r"), lora(r=4, alpha=6, use_rslora=True)):
        config = adapter.peft_config({})
        config.task_type = None  # a ModuleDict generates nothing
        assert config.r == 4
        assert config.target_modules == {"q_proj", "v_proj"}
        wrapped: Any = get_peft_model(model, config)
        assert wrapped.base_model.model["q_proj"].scaling["default"] == adapter.scale
        model = wrapped.unload()


def test_the_arguments_are_those_of_the_adapter_and_nothing_that_was_not_asked_for() -> None:
    assert lora(alpha="r", dropout=0.1, init_lora_weights="gaussian").arguments({}) == {
        "r": 8,
        "lora_alpha": 8,
        "lora_dropout": 0.1,
        "target_modules": ["q_proj", "v_proj"],
        "use_rslora": False,
        "init_lora_weights": "gaussian",
        "bias": "none",
    }


def test_dora_and_new_tokens_are_asked_for_where_there_are_any() -> None:
    arguments = lora(use_dora=True).arguments({"embed_tokens": [50265, 50266]})
    assert arguments["use_dora"] is True
    assert arguments["trainable_token_indices"] == {"embed_tokens": [50265, 50266]}


def test_a_target_the_model_lacks_is_refused_with_the_modules_it_has() -> None:
    with pytest.raises(ConfigError) as refused:
        lora(target_modules=["q_proj", "out_proj", "fc1"]).require_modules({"q_proj", "v_proj", "lm_head"})
    assert str(refused.value) == (
        "lora.target_modules names out_proj, fc1, which this model does not have. "
        "Its linear modules are lm_head, q_proj, v_proj. Fix: lora.target_modules=[q_proj,v_proj]"
    )


def test_targets_the_model_has_are_accepted() -> None:
    lora().require_modules(LINEAR)


@pytest.mark.parametrize(
    ("option", "scale"),
    [("default", 1.0), ("attention", 1.0), ("rslora", 4.0), ("dora", 1.0), ("opt", 1.0)],  # r = alpha = 16
)
def test_the_option_has_this_scale(option: str, scale: float) -> None:
    assert build(composed(f"lora={option}").lora).scale == scale


def test_the_options_differ_in_what_their_names_say() -> None:
    built = {name: build(composed(f"lora={name}").lora) for name in ("default", "attention", "dora", "none")}
    assert set(built["default"].target_modules) == LINEAR - {"lm_head"}
    assert built["attention"].target_modules == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert (built["default"].use_dora, built["dora"].use_dora) == (False, True)
    assert built["none"] == FullFineTuning()
