"""The tables of what a value may be, and of who decides each setting that TRL also has."""

from __future__ import annotations

from math import inf

# key: (lowest, highest, what it is)
RANGES: dict[str, tuple[float, float, str]] = {
    "lora.r": (1, 4096, "a rank"),
    "lora.dropout": (0, 0.99, "a probability"),
    "optimizer.lr": (1e-12, 10, "a learning rate"),
    "optimizer.weight_decay": (0, 1, "a share a step, times the learning rate"),
    "model.max_length": (8, 10_000_000, "tokens"),
    "dataset.rows": (1, 100_000_000, "rows"),
    "dataset.seed": (0, 2**32 - 1, "a seed"),
    "dataset.held_out": (0, 100_000_000, "rows, or a share below 1"),
    "dataset.limit": (1, inf, "rows"),
    "dataset.held_out_limit": (1, inf, "rows"),
    "training.per_device_train_batch_size": (1, 65_536, "rows a device"),
    "training.gradient_accumulation_steps": (1, 65_536, "batches a step"),
    "training.num_train_epochs": (0.000001, 10_000, "passes over the rows"),
    "training.max_steps": (1, inf, "optimizer steps, -1 for whole epochs"),
    "training.warmup_steps": (0, inf, "steps, or a share below 1"),
    "training.max_grad_norm": (0, inf, "a gradient norm, 0 for no clipping"),
    "training.logging_steps": (1, inf, "steps"),
    "evaluation.questions": (0, 1_000_000, "held-out questions"),
    "evaluation.max_new_tokens": (1, 1_000_000, "tokens"),
    "evaluation.batch_size": (1, 65_536, "rows"),
    "pause_at": (1e-9, inf, "loss tokens, or a share of the steps below 1"),
    "seed": (0, 2**32 - 1, "a seed"),
    "devices": (1, 1024, "GPUs of this machine"),
}
# A value outside of its range that has a meaning.
ALSO: dict[str, float] = {"training.max_steps": -1}

STRATEGIES = ("no", "steps", "epoch")

# Words that transformers compares with its enums only once the model is loaded.
CHOICES: dict[str, tuple[str, ...]] = {
    "training.eval_strategy": STRATEGIES,
    "training.logging_strategy": STRATEGIES,
    "training.save_strategy": (*STRATEGIES, "best"),
    "training.lr_scheduler_type": (
        "linear",
        "cosine",
        "cosine_with_restarts",
        "polynomial",
        "constant",
        "constant_with_warmup",
        "inverse_sqrt",
        "reduce_lr_on_plateau",
        "cosine_with_min_lr",
        "cosine_warmup_with_min_lr",
        "warmup_stable_decay",
        "greedy",
    ),
}

# Parts without a signature: what they are.
SETTINGS: dict[str, str] = {
    "seed": "int",
    "devices": "int",
    "runs_dir": "str",
    "rerun": "bool",
    "plan": "bool",
    "pause_at": "float | None",
    "deterministic": "bool",
    "preflight": "bool | Literal['on', 'off']",
    "on_overlap": "Literal['error', 'drop']",
}

# Keys of the training group that are our trainer's, and no fields of trl.SFTConfig.
TRAINING_OWN: dict[str, str] = {"on_oom": "Literal['error', 'halve']"}

# Fields of trl.SFTConfig that another part of the config decides: field -> what to set instead.
TRAINING_IS_SET_BY: dict[str, str] = {
    "learning_rate": "optimizer.lr=...",
    "weight_decay": "optimizer.weight_decay=...",
    "adam_beta1": "optimizer.betas=[...]",
    "adam_beta2": "optimizer.betas=[...]",
    "adam_epsilon": "optimizer.eps=...",
    "optim": "optimizer=adamw_8bit, or another option of the group",
    "optim_args": "keys of optimizer",
    "packing": "packing=bfd, or another option of the group",
    "packing_strategy": "packing=bfd, or another option of the group",
    "eval_packing": "leave it out: evaluation is never packed",
    "padding_free": "packing=padding_free, or another option of the group",
    "train_sampling_strategy": "packing=grouped",
    "length_column_name": "packing=grouped",
    "max_length": "model.max_length=...",
    "truncation_mode": "model.max_length=...",
    "seed": "seed=...",
    "data_seed": "seed=...",
    "bf16": "model.dtype=bfloat16",
    "fp16": "model.dtype=float16",
    "bf16_full_eval": "model.dtype=bfloat16",
    "fp16_full_eval": "model.dtype=float16",
    "gradient_checkpointing": "backend.gradient_checkpointing=...",
    "output_dir": "runs_dir=...",
    "run_name": "leave it out: a run is named by its overrides",
    "report_to": "tracking=wandb, or another option of the group",
    "disable_tqdm": "leave it out: the run shows its own progress bar",
    "per_device_eval_batch_size": "evaluation.batch_size=...",
    "assistant_only_loss": "dataset_format.train_on=...",
    "completion_only_loss": "dataset_format=prompt_completion or text",
    "dataset_text_field": "dataset_format=text",
    "dataset_kwargs": "dataset=...",
    "dataset_num_proc": "leave it out: rows are tokens before the trainer",
    "chat_template_path": "model.chat_template=...",
    "model_init_kwargs": "model=... and backend=...",
    "trust_remote_code": "leave it out: code of a checkpoint is never run",
    "eos_token": "model.chat_template=...",
    "pad_token": "leave it out: the tokenizer has one",
    "hub_token": "HF_TOKEN in the environment or a .env file",
    "auto_find_batch_size": "training.per_device_train_batch_size=... (it changes the effective batch)",
    "resume_from_checkpoint": "leave it out: the same command goes on from the last checkpoint",
    "restore_callback_states_from_checkpoint": "leave it out: a checkpoint holds all counts, and they are restored",
    "eval_on_start": "leave it out: a run is evaluated before training already",
    "push_to_hub": "leave it out: a run uploads nothing; hf upload takes its adapter/",
    "remove_unused_columns": "leave it out: rows are tokens before the trainer",
    "save_only_model": "leave it out: checkpoints hold the optimizer too",
    "dataloader_pin_memory": "leave it out: it is on where there is a GPU",
    "use_cpu": "CUDA_VISIBLE_DEVICES= in the environment",
}
