"""TRL's trainer holds what the config says, and counts what was really learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from sft_research import hardware
from sft_research.config import ConfigError
from sft_research.loss import held_out_loss
from tests.trainers import make


def test_the_optimizer_holds_the_weight_decay_and_learning_rate_of_the_config(tmp_path: Path) -> None:
    """transformers regroups parameters and drops the decay of `optimizer_cls_and_kwargs`; ours survives."""
    trainer = make(tmp_path, "optimizer.weight_decay=0.07", "optimizer.lr=0.003", "training.warmup_steps=0")
    trainer.create_optimizer()
    decays = {group["weight_decay"] for group in trainer.optimizer.param_groups if group["params"]}
    rates = {group["lr"] for group in trainer.optimizer.param_groups}
    assert (decays, rates) == ({0.07}, {0.003})


@pytest.mark.parametrize(
    ("option", "state"),
    [
        ("adamw", {"exp_avg": torch.float32}),
        ("adamw_8bit", {"state1": torch.uint8, "state2": torch.uint8}),
        ("paged_adamw_8bit", {"state1": torch.uint8, "state2": torch.uint8}),
        ("lion", {"state1": torch.float32}),
        ("muon", {"momentum_buffer": torch.float32}),
        ("sgd", {"momentum_buffer": torch.float32}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*[Pp]aged.*")  # bitsandbytes on a CPU: paged state falls back to unpaged
def test_every_optimizer_steps_and_keeps_its_kind_of_state(
    option: str, state: dict[str, torch.dtype], tmp_path: Path
) -> None:
    # r=64 on a width of 64 is 4,096 numbers a matrix: the fewest that bitsandbytes keeps in 8 bits.
    trainer = make(
        tmp_path, f"optimizer={option}", "lora.r=64", "training.max_steps=1", "training.eval_strategy=no"
    )
    name, weight = next(
        (n, p) for n, p in trainer.model.named_parameters() if n.endswith("lora_B.default.weight")
    )
    trainer.args.warmup_steps = 0
    trainer.train()
    held = trainer.optimizer.state[weight]
    assert {key: held[key].dtype for key in state} == state
    assert weight.abs().max() > 0, f"{name} is still 0, where LoRA begins"


def test_real_and_loss_tokens_are_counted_without_padding(tmp_path: Path) -> None:
    trainer = make(tmp_path, "training.max_steps=1", "training.eval_strategy=no", "dataset.rows=8")
    trainer.train()
    rows = trainer.train_dataset
    assert int(trainer.tokens) == sum(len(ids) for ids in rows["input_ids"])
    assert int(trainer.loss_tokens) == sum(label != -100 for labels in rows["labels"] for label in labels)


def test_eight_rows_at_once_and_two_at_a_time_take_the_same_step(tmp_path: Path) -> None:
    def step(batch: int, accumulation: int) -> tuple[float, torch.Tensor]:
        trainer = make(
            tmp_path,
            f"training.per_device_train_batch_size={batch}",
            f"training.gradient_accumulation_steps={accumulation}",
            "training.max_steps=1",
            "training.eval_strategy=no",
            "training.warmup_steps=0",
            "optimizer=sgd",
        )
        loss = trainer.train().training_loss
        return loss, torch.cat([p.flatten() for p in trainer.model.parameters() if p.requires_grad])

    (whole, weights), (parts, same_weights) = step(8, 1), step(2, 4)
    assert parts == pytest.approx(whole, rel=1e-6)
    torch.testing.assert_close(same_weights, weights, rtol=1e-5, atol=1e-7)


LENGTHS = [1, 200, 3, 90, 2, 40, 7, 150]  # bytes of the answers: batches of 2 hold 3 to 200 of 493 tokens


@pytest.mark.parametrize("loss_type", ["chunked_nll", "nll"])
@pytest.mark.parametrize("packing", ["none", "bfd"])
def test_accumulation_changes_neither_gradient_nor_loss_of_rows_of_all_lengths(
    tmp_path: Path, packing: str, loss_type: str
) -> None:
    """A mean of batch means would weigh a token of a short row a hundred times."""
    rows = [{"instruction": "?", "response": "x" * n} for n in LENGTHS]

    def first_step(batch: int, accumulation: int) -> tuple[float, torch.Tensor]:
        trainer = make(
            tmp_path,
            *("dataset_format=instruction", "training.eval_strategy=no", "training.max_steps=1"),
            *(f"packing={packing}", f"+training.loss_type={loss_type}", "training.max_grad_norm=0"),
            f"training.per_device_train_batch_size={batch}",
            f"training.gradient_accumulation_steps={accumulation}",
            rows=rows,
        )
        gradient = []

        class Look(TrainerCallback):
            def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
                gradient.extend(p.grad.flatten().clone() for p in model.parameters() if p.requires_grad)

        trainer.add_callback(Look())
        return trainer.train().training_loss, torch.cat(gradient)

    (whole, gradient), (parts, same_gradient) = first_step(8, 1), first_step(2, 4)
    assert parts == pytest.approx(whole, rel=1e-6)
    torch.testing.assert_close(same_gradient, gradient, rtol=1e-4, atol=1e-4 * gradient.abs().max().item())
    assert gradient.abs().max() > 1e-3


def test_the_trainer_evaluates_with_the_held_out_loss(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    alone = held_out_loss(trainer.model, trainer.held_out, batch_size=1)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(alone, rel=1e-6)


def test_a_setting_that_a_library_changes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl import SFTConfig

    before = SFTConfig.__post_init__

    def quietly(self: SFTConfig) -> None:
        before(self)
        self.max_grad_norm = 0.5

    monkeypatch.setattr(SFTConfig, "__post_init__", quietly)
    with pytest.raises(ConfigError, match=r"max_grad_norm=1.0, but a library changed it to 0.5. Fix: "):
        make(tmp_path)


def test_the_trainer_stays_on_the_cpu_where_the_model_is_though_the_machine_has_another_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a Mac it would go to mps; a GPU that torch cannot use has a device file all the same."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr("accelerate.state.is_mps_available", lambda: True)
    monkeypatch.setattr("transformers.training_args.is_torch_mps_available", lambda: True)
    monkeypatch.setattr(hardware, "gpu", lambda: True)
    args = make(tmp_path).args
    assert (args.device.type, args.dataloader_pin_memory) == ("cpu", False)
