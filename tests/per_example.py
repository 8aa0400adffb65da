"""The loss of each example of a small data set, by how the examples share a batch.

python -m tests.per_example {transformers,unsloth} MODEL_OPTION -> {"none": {"tokens": nll, ...}, "bfd": ...}
In a process of its own: Unsloth has to be imported before trl.
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

from sft_research.config import build, compose
from tests.runs import TINY

STRATEGIES = ("none", "grouped", "padding_free", "bfd", "bfd_split", "wrapped")


def losses(trainer: Any) -> dict[str, float]:
    """{tokens: sum of the negative log-likelihood of its labels}, through the trainer's own batches."""
    import torch

    found: dict[str, float] = {}
    for batch in trainer.get_train_dataloader():
        batch = {key: part for key, part in batch.items() if torch.is_tensor(part)}
        labels = batch.pop("labels")
        with torch.no_grad():
            logits = trainer.model(**batch, use_cache=False).logits
        nll = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), reduction="none"
        ).view(len(labels), -1)
        nll = torch.nn.functional.pad(nll, (1, 0))  # of the token that is predicted
        for row, (ids, values) in enumerate(zip(batch["input_ids"], nll, strict=True)):
            if "position_ids" in batch:
                ends = (batch["position_ids"][row] == 0).nonzero().flatten().tolist()[1:]
            else:
                ends = [int(batch["attention_mask"][row].sum())]
            parts = zip(ids.tensor_split(ends), values.tensor_split(ends), strict=True)
            for tokens, value in list(parts)[: None if "position_ids" in batch else 1]:
                found[str(tokens.tolist())] = float(value.sum())
    return found


def main(backend_name: str, option: str) -> None:
    common = [f"backend={backend_name}", f"model={option}", "tracking=none", "dataset.rows=8"]
    run = compose([*TINY, f"model={option}", *common])
    backend, model = build(run.cfg.backend), build(run.cfg.model)
    backend.activate()
    from transformers import set_seed

    from sft_research.tokens import Data, encode
    from sft_research.training import build_trainer

    set_seed(0)
    tokenizer, added = model.tokenizer()
    rows, form = build(run.cfg.dataset).load(), build(run.cfg.dataset_format)
    encoded = encode(rows.train, form, tokenizer, model.max_length, "training")
    data = Data(tokenizer, encoded, encode([], form, tokenizer, 512, "held-out"), added, True)
    weights = backend.load(model, build(run.cfg.lora), added, len(tokenizer), 0)
    made = {}
    for strategy in STRATEGIES:  # those that attend apart last: that stays with the model
        run = compose([*TINY, *common, f"packing={strategy}", "training.eval_strategy=no"])
        with tempfile.TemporaryDirectory() as place:
            trainer = build_trainer(run, weights, data, place)
            trainer.model.eval()
            made[strategy] = losses(trainer)
    print(json.dumps(made))


if __name__ == "__main__":
    main(*sys.argv[1:])
