"""TRL's trainer, given tokens, an optimizer that keeps its settings, and a loss that can be compared.

Imported only after `backend.activate()`: with Unsloth, `trl` holds Unsloth's trainer by then.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from datasets.table import InMemoryTable
from omegaconf import DictConfig, OmegaConf

from sft_research import held_out, ranks
from sft_research.attention import attend_apart
from sft_research.cache import Examples
from sft_research.config import ConfigError, Run, build
from sft_research.divergence import Divergence
from sft_research.failure import locate
from sft_research.isolation import require_isolation
from sft_research.loss import held_out_loss
from sft_research.on_oom import InParts
from sft_research.packing import Packing
from sft_research.ranges import TRAINING_OWN
from sft_research.resume import Resumable
from sft_research.tokens import IGNORED, Data, Example


class Trainer(Resumable):
    """One that counts real and loss tokens, evaluates with `held_out_loss`, and may halve its batches."""

    def __init__(
        self, *, held_out: Sequence[Example], eval_batch_size: int, on_oom: str = "error", **rest: Any
    ) -> None:
        super().__init__(**rest)
        self.held_out = held_out
        self.eval_batch_size = eval_batch_size
        self.in_parts = InParts(self, halve=on_oom == "halve")
        self.norm: Any = None  # of the gradient, in the latest step
        # Counted on the device: no step waits for a number.
        counts = torch.zeros(3, dtype=torch.long, device=self.args.device)
        self.tokens, self.loss_tokens, self.examples = counts  # of a cut example each piece
        # Of the first step and of the latest, however seldom a loss is logged.
        self.loss_first = self.loss_last = torch.zeros((), device=self.args.device)
        self._loss_step, self.places = -1, 0  # places: tokens and padding

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        self._count(inputs)
        if self.state.global_step != self._loss_step:
            self.in_parts.begin_step()
        loss = ranks.mean(self.in_parts(super().training_step, model, inputs, num_items_in_batch))
        self._keep(loss)
        return loss

    def _count(self, inputs: dict[str, Any]) -> None:
        """What all ranks have in this batch: logs and checkpoints are then the same, whoever writes them."""
        ids = inputs["input_ids"]
        real = inputs["attention_mask"].sum() if "attention_mask" in inputs else ids.numel()
        examples = (inputs["position_ids"] == 0).sum() if self.padding_free else len(ids)
        trained = (inputs["labels"][..., 1:] != IGNORED).sum()
        real, examples, trained = ranks.added([real, examples, trained], self.args.device)
        self.tokens += real
        self.places += ranks.total(ids.numel())
        self.examples += examples
        self.loss_tokens += trained

    def _get_grad_norm(self, *given: Any, **named: Any) -> Any:
        self.norm = super()._get_grad_norm(*given, **named)
        return self.norm

    def train(self, *given: Any, **named: Any) -> Any:
        with locate(lambda: (self.begun, self.in_parts.batches[-1:])):
            return super().train(*given, **named)

    def _keep(self, loss: torch.Tensor) -> None:
        """The loss of a step is the sum over its batches, each divided by the step's tokens already."""
        step = self.state.global_step
        self.loss_last = loss if step != self._loss_step else self.loss_last + loss
        self._loss_step = step
        if step == 0:
            self.loss_first = self.loss_last

    def held_out_loss(self, file: Path | None = None) -> float:
        """Of the present weights, in nats a completion token; that of each row goes to `file`."""
        return held_out_loss(self.model, self.held_out, self.eval_batch_size, file)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        metrics = {"eval_loss": self.held_out_loss(self.checkpoints.with_name(held_out.NAME))}
        # Past SFTTrainer.log, which would mix the training averages in.
        transformers.Trainer.log(self, metrics)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def build_trainer(run: Run, model: Any, data: Data, output: str) -> Trainer:
    """The trainer of a run; raises ConfigError where a library changed what the config asked for."""
    cfg = run.cfg
    packing: Packing = build(cfg.packing)
    optimizer = build(cfg.optimizer)  # a partial: the trainer owns the parameters
    args = _arguments(cfg, model.dtype, output)
    args._n_gpu = min(
        args.n_gpu, 1
    )  # else transformers copies the model to all GPUs that it sees (DataParallel)
    if data.added_tokens and args.loss_type == "chunked_nll":
        # TRL 1.14's chunked loss reads lm_head.bias, which PEFT's trained token rows do not have; same math.
        args.loss_type = "nll"
    packing.apply(args)
    if packing.flattens:
        attend_apart(model)
    rows = data.held_out.examples
    full_precision = {n: p.data for n, p in model.named_parameters() if p.requires_grad}
    logging.getLogger("trl.trainer.sft_trainer").addFilter(_not_of_flash_attention)
    trainer = Trainer(
        model=model,
        args=args,
        processing_class=data.tokenizer,
        train_dataset=packing.rows(_dataset(data.train.examples), cfg.model.max_length),
        eval_dataset=_dataset(rows) if rows else None,
        optimizer_cls_and_kwargs=(optimizer.func, optimizer.keywords),
        held_out=rows,
        eval_batch_size=cfg.evaluation.batch_size,
        on_oom=cfg.training.get("on_oom", "error"),
    )
    if model.dtype == torch.float32 and model.device.type == "cpu":
        # TRL casts the adapters of a 4-bit model to bfloat16, which a CPU emulates: undone.
        for name, parameter in trainer.model.named_parameters():
            parameter.data = full_precision.get(name, parameter.data)
    _require_unchanged(cfg, trainer, packing)
    trainer.add_callback(Divergence(trainer, data.train.examples))
    # The run has a bar of its own, in a terminal and in a notebook.
    for callback in (transformers.ProgressCallback, transformers.PrinterCallback):
        trainer.remove_callback(callback)
    return trainer


def _arguments(cfg: DictConfig, dtype: torch.dtype, output: str) -> Any:
    """trl.SFTConfig from the training group and from what other groups decide."""
    optimizer = cfg.optimizer
    theirs = [str(key) for key in cfg.training if key not in TRAINING_OWN]
    fields = OmegaConf.masked_copy(cfg.training, theirs)
    return build(
        fields,
        output_dir=output,
        # Where transformers regroups parameters it takes this weight decay, and drops the optimizer's.
        learning_rate=optimizer.get("lr", 0.0),
        weight_decay=optimizer.get("weight_decay", 0.0),
        max_length=cfg.model.max_length,
        per_device_eval_batch_size=cfg.evaluation.batch_size,
        seed=cfg.seed,
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        gradient_checkpointing=False,  # the backend has switched it on, its own way
        completion_only_loss=False,  # labels are made already
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        save_only_model=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),  # else a Mac's trainer would move to mps, away from us
    )


def _dataset(examples: Sequence[Example]) -> Dataset:
    if isinstance(examples, Examples):
        return Dataset(InMemoryTable(examples.table.select(["input_ids", "labels"])))
    return Dataset.from_dict(
        {"input_ids": [e.input_ids for e in examples], "labels": [e.labels for e in examples]}
    )


def _not_of_flash_attention(said: logging.LogRecord) -> bool:
    """TRL warns of every other attention that packed rows may read each other; `require_isolation` asks."""
    return "Flash Attention" not in said.getMessage()


def _require_unchanged(cfg: DictConfig, trainer: Trainer, packing: Packing) -> None:
    """A library that turns a setting off in words alone has changed the experiment; so has a row that reads another."""
    wanted = {k: v for k, v in cfg.training.items() if not str(k).startswith("_") and k not in TRAINING_OWN}
    wanted["learning_rate"] = cfg.optimizer.get("lr", 0.0)
    collates = getattr(trainer.data_collator, "padding_free", None)
    if (trainer.args.packing, collates) != (False, packing.flattens):
        raise ConfigError(
            f"packing={packing.strategy}, but a library changed its batches: packing={trainer.args.packing}, "
            f"padding_free={collates}. Fix: backend=transformers"
        )
    for key, value in wanted.items():
        got = getattr(trainer.args, str(key))
        got = getattr(got, "value", got)
        if got != value and isinstance(value, (int, float, str, bool)):
            raise ConfigError(
                f"training.{key}={value}, but a library changed it to {got}. Fix: training.{key}={got}, "
                "or backend=transformers"
            )
    if packing.flattens:
        require_isolation(trainer.model, trainer.data_collator, str(packing.strategy))
