"""The script a person would write with TRL alone: what `overhead.py` and `sweep.py` measure us against.

python benchmarks/plain_trl.py MODEL_FOLDER ROWS.jsonl OUT_FOLDER STEPS {transformers,unsloth} [RANK LR BATCH]
"""

import json
import sys
import time

model_folder, rows_file, out, steps, backend, *point = sys.argv[1:]
r, lr, batch = (int(point[0]), float(point[1]), int(point[2])) if point else (16, 2e-4, 8)
if backend == "unsloth":
    from unsloth import FastLanguageModel

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

set_seed(0)
peft_config = None
if backend == "unsloth":
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_folder,
        max_seq_length=512,
        dtype=torch.float32,
        load_in_4bit=False,
        use_gradient_checkpointing=False,
    )
    model = FastLanguageModel.get_peft_model(
        model, r=r, lora_alpha=16, target_modules=MODULES, random_state=0, use_gradient_checkpointing=False
    )
else:
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    peft_config = LoraConfig(r=r, lora_alpha=16, target_modules=MODULES, task_type="CAUSAL_LM")


def to_prompt_completion(row: dict) -> dict:
    user = [{"role": "user", "content": row["instruction"]}]
    prompt = tokenizer.apply_chat_template(user, tokenize=False, add_generation_prompt=True)
    return {
        "prompt": prompt,
        "completion": f"<think>\n{row['thinking']}\n</think>\n\n{row['response']}<|im_end|>",
    }


rows = load_dataset("json", data_files=rows_file, split="train")
rows = rows.map(to_prompt_completion, remove_columns=rows.column_names)
logged = []


class Log(TrainerCallback):
    def on_log(self, args, state, control, logs=None, **_):
        if "loss" in logs:
            logged.append({"time": time.time(), "train/loss": logs["loss"], "step": state.global_step})


trainer = SFTTrainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=rows,
    peft_config=peft_config,
    callbacks=[Log()],
    args=SFTConfig(
        output_dir=out,
        max_steps=int(steps),
        per_device_train_batch_size=batch,
        learning_rate=lr,
        lr_scheduler_type="linear",
        warmup_steps=0.05,
        max_length=512,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        gradient_checkpointing=False,
        bf16=False,
        seed=0,
    ),
)
trainer.train()
trainer.save_model(f"{out}/adapter")
with open(f"{out}/metrics.jsonl", "w") as file:
    file.writelines(json.dumps(row) + "\n" for row in logged)
