"""What is proven of a model and an optimizer fails where the thing that it guards is broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer

from sft_research import proofs_of_training
from sft_research.config import ConfigError, build
from sft_research.preflight import Preflight
from tests.trainers import Made, made

SHORT = ("training.max_steps=1", "training.eval_strategy=no")


def fly(run: Made, **instead: Any) -> dict[str, str]:
    """Begin training under preflight, and what it proved."""
    flight = Preflight(run.run, run.data, instead.get("adapter", build(run.run.cfg.lora)))
    flight.before(run.trainer)
    run.trainer.train()
    return flight.held


# Isolation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("packing", ["none", "padding_free", "bfd", "bfd_split", "wrapped"])
def test_rows_have_the_loss_that_each_has_alone(tmp_path: Path, packing: str, attention: str) -> None:
    held = fly(made(tmp_path, f"packing={packing}", f"backend.attn_implementation={attention}", *SHORT))
    kind = "padded" if packing == "none" else "packed"
    assert held["isolation"].startswith(f"4 {kind} examples have the loss of each alone, within ")


def without_positions(make_batch: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    """A collator after which attention cannot tell one example from the next."""

    def collate(rows: Any) -> dict[str, Any]:
        batch = make_batch(rows)
        batch["position_ids"] = torch.arange(batch["input_ids"].shape[1])[None]
        return batch

    return collate


def test_packed_rows_that_see_each_other_are_refused(tmp_path: Path) -> None:
    run = made(tmp_path, "packing=bfd", *SHORT)
    run.trainer.data_collator = without_positions(run.trainer.data_collator)
    with pytest.raises(
        ConfigError,
        match=r"preflight, isolation: packed rows change each other's loss: example [234] of 4 has \d\.\d{4} in "
        r"the batch and \d\.\d{4} alone. Fix: packing=none \(preflight=off goes on without proof\)",
    ):
        fly(run)


def test_an_attention_that_reads_a_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one measured trap: with use_cache=True sdpa reads across packed rows."""
    run = made(tmp_path, "packing=bfd", *SHORT)
    forward = run.trainer.model.forward
    monkeypatch.setattr(
        run.trainer.model, "forward", lambda **inputs: forward(**inputs | {"use_cache": True})
    )
    with pytest.raises(ConfigError, match="packed rows change each other's loss"):
        fly(run)


def test_padding_that_changes_a_loss_is_refused(tmp_path: Path) -> None:
    run = made(tmp_path, *SHORT)
    collate = run.trainer.data_collator

    def pad_on_the_left_without_a_mask(rows: Any) -> dict[str, Any]:
        batch = collate(rows)
        for name in ("input_ids", "labels"):
            batch[name] = torch.stack(
                [
                    row.roll(len(row) - int(kept.sum()))
                    for row, kept in zip(batch[name], batch["attention_mask"], strict=True)
                ]
            )
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        return batch

    run.trainer.data_collator = pad_on_the_left_without_a_mask
    with pytest.raises(ConfigError, match="padded rows change each other's loss"):
        fly(run)


def test_a_collator_that_takes_labels_away_is_refused(tmp_path: Path) -> None:
    run = made(tmp_path, *SHORT)
    collate = run.trainer.data_collator

    def forgetful(rows: Any) -> dict[str, Any]:
        batch = collate(rows)
        batch["labels"][0, batch["attention_mask"][0].sum() - 1] = -100
        return batch

    run.trainer.data_collator = forgetful
    with pytest.raises(ConfigError, match=r"4 examples train (\d+) tokens alone, and \d+ in one batch"):
        fly(run)


def test_a_row_of_the_batch_without_loss_is_refused() -> None:
    labels = torch.tensor([[-100, 5, -100], [7, -100, -100]])  # the first token predicts nothing before it
    with pytest.raises(ConfigError, match="row 2 of the 2 in the first batch has no label with loss"):
        proofs_of_training.labels_in_every_row({"labels": labels})


# LoRA ---------------------------------------------------------------------------------------------


def test_lora_that_is_not_the_identity_is_refused(tmp_path: Path) -> None:
    run = made(tmp_path, "lora.init_lora_weights=false", *SHORT)
    with pytest.raises(
        ConfigError,
        match=r"preflight, lora: LoRA does not start as the identity: the first loss is \d\.\d+ with its adapters "
        r"and \d\.\d+ without. Fix: lora.init_lora_weights=true",
    ):
        fly(run)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((), "first loss 5.5"),
        (("lora=dora",), "first loss 5.5"),
        (("lora=rslora",), "first loss 5.5"),
        (("lora.init_lora_weights=gaussian",), "first loss 5.5"),
        (
            ("lora.init_lora_weights=pissa",),
            "not asked of lora.init_lora_weights=pissa, which moves the base",
        ),
        (("lora=none",), "no adapter: the model is the base model"),
    ],
)
def test_every_kind_of_lora_starts_as_it_says(tmp_path: Path, overrides: tuple[str, ...], said: str) -> None:
    held = fly(made(tmp_path, *overrides, *SHORT))
    assert held["lora"].partition("; ")[2].startswith(said)


def layer(run: Made) -> tuple[str, Any]:
    return next((n, m) for n, m in run.trainer.model.named_modules() if isinstance(m, LoraLayer))


def test_a_module_without_its_adapter_is_refused(tmp_path: Path) -> None:
    run = made(tmp_path, *SHORT)
    name, module = layer(run)
    parent, _, own = name.rpartition(".")
    setattr(run.trainer.model.get_submodule(parent), own, module.base_layer)
    with pytest.raises(
        ConfigError, match=rf"1 modules of lora.target_modules have no adapter, such as {name}"
    ):
        fly(run)


def test_an_adapter_of_another_rank_or_scale_is_refused(tmp_path: Path) -> None:
    run = made(tmp_path, *SHORT)  # rank 16, alpha 16
    for override, wanted in (("lora.r=8", "rank 8 and scale 2"), ("lora.alpha=4", "rank 16 and scale 0.25")):
        other = build(made(tmp_path, override, *SHORT).run.cfg.lora)
        with pytest.raises(
            ConfigError, match=rf"has an adapter of rank 16 and scale 1, where .* are {wanted}"
        ):
            fly(run, adapter=other)
        run.trainer.callback_handler.pop_callback(Preflight)


def test_a_weight_that_is_trained_unasked_or_frozen_is_refused(tmp_path: Path) -> None:
    run = made(tmp_path, *SHORT)
    name, module = layer(run)
    module.base_layer.weight.requires_grad_(True)
    with pytest.raises(
        ConfigError, match=rf"{name}.base_layer.weight is trained, unasked, as are 0 more; 28 "
    ):
        fly(run)
    module.base_layer.weight.requires_grad_(False)
    module.lora_A["default"].weight.requires_grad_(False)
    run.trainer.callback_handler.pop_callback(Preflight)
    with pytest.raises(ConfigError, match=rf"{name}.lora_A.default.weight is frozen, as are 0 more; 28 "):
        fly(run)


def test_full_fine_tuning_trains_every_weight(tmp_path: Path) -> None:
    run = made(tmp_path, "lora=none", *SHORT)
    count = sum(parameter.numel() for parameter in run.trainer.model.parameters())
    assert fly(run)["lora"].startswith(f"{count:,} weights trained as asked")
    run = made(tmp_path, "lora=none", *SHORT)
    run.trainer.model.get_input_embeddings().weight.requires_grad_(False)
    with pytest.raises(ConfigError, match=r"embed_tokens.weight is frozen, as are 0 more"):
        fly(run)


# The optimizer --------------------------------------------------------------------------------------


class Deaf(torch.optim.SGD):
    """Takes a learning rate and steps with its own."""

    def __init__(self, params: Any, lr: float, **rest: Any) -> None:
        super().__init__(params, lr=1e-3, **rest)


class Forgetful(torch.optim.AdamW):
    """Leaves out the weights of the first group's end."""

    def __init__(self, params: Any, **rest: Any) -> None:
        groups = [group | {"params": group["params"][:-1]} for group in params]
        super().__init__(groups, **rest)


@pytest.mark.parametrize("option", ["adamw", "adamw_8bit", "lion", "muon", "sgd"])
def test_every_optimizer_holds_its_settings(tmp_path: Path, option: str) -> None:
    overrides = (f"optimizer={option}", "optimizer.weight_decay=0.07", "lora.r=64", *SHORT)
    assert fly(made(tmp_path, *overrides))["optimizer"] == (
        "holds 28 parameters, learning rate 0.01, weight decay 0.07"
    )


def test_norms_of_a_whole_model_need_not_decay(tmp_path: Path) -> None:
    held = fly(made(tmp_path, "lora=none", "optimizer.weight_decay=0.07", *SHORT))
    assert held["optimizer"].endswith("learning rate 0.01, weight decay 0.07")


def test_an_optimizer_that_ignores_the_learning_rate_is_refused(tmp_path: Path) -> None:
    run = made(tmp_path, "optimizer=sgd", f"optimizer._target_={__name__}.Deaf", *SHORT)
    with pytest.raises(
        ConfigError, match=r"preflight, optimizer: optimizer.lr=0.01, but the optimizer holds 0.001 for "
    ):
        fly(run)


def test_a_weight_decay_that_a_library_drops_is_refused(tmp_path: Path) -> None:
    run = made(tmp_path, "optimizer.weight_decay=0.07", *SHORT)
    run.trainer.args.weight_decay = 0.0  # what transformers regroups with
    with pytest.raises(ConfigError, match=r"optimizer.weight_decay=0.07, but the optimizer holds 0.0 for "):
        fly(run)


def test_betas_that_are_not_those_asked_for_are_refused(tmp_path: Path) -> None:
    run = made(tmp_path, *SHORT)
    run.trainer.optimizer_cls_and_kwargs[1]["betas"] = [0.5, 0.5]
    with pytest.raises(
        ConfigError, match=r"optimizer.betas=\[0.9, 0.999\], but the optimizer holds \[0.5, 0.5\]"
    ):
        fly(run)


def test_an_optimizer_that_leaves_weights_out_is_refused(tmp_path: Path) -> None:
    run = made(tmp_path, f"optimizer._target_={__name__}.Forgetful", *SHORT)
    with pytest.raises(ConfigError, match="the optimizer holds 27 parameters, 27 of the 28 that are trained"):
        fly(run)
