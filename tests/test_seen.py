"""A checkpoint says how many tokens were seen, and training goes on counting from there."""

from __future__ import annotations

import json
from pathlib import Path

from tests.trainers import make

EVERY_STEP = ("training.save_strategy=steps", "+training.save_steps=1", "training.eval_strategy=no")


def test_a_checkpoint_holds_the_tokens_seen_and_training_goes_on_from_them(tmp_path: Path) -> None:
    whole = make(tmp_path, "training.max_steps=3", *EVERY_STEP)
    whole.train()
    counts = []
    for step in (1, 2, 3):
        state = json.loads((tmp_path / f"checkpoint-{step}" / "trainer_state.json").read_text())
        counts.append(state["stateful_callbacks"]["Seen"]["attributes"])
    assert counts[2] == {"tokens": int(whole.tokens), "loss_tokens": int(whole.loss_tokens)}
    assert 0 < counts[0]["loss_tokens"] < counts[1]["loss_tokens"] < counts[2]["loss_tokens"]

    rest = make(tmp_path / "rest", "training.max_steps=3", *EVERY_STEP)
    rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert {"tokens": int(rest.tokens), "loss_tokens": int(rest.loss_tokens)} == counts[2]
