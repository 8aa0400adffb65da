"""The folder a run leaves behind. `result.json` comes last and whole: a folder without it is no result.

runs/<experiment>/<overrides>/
  config.yaml  identity.json  environment.json  metrics.jsonl  samples.jsonl  held_out.jsonl  train.log
  curves.png  adapter/  checkpoints/  README.md  result.json     (failure.json where a run failed)
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from omegaconf import OmegaConf

from sft_research import checkpoint, failure, identity, lock, ranks, result, secrets, stopping
from sft_research.answers import Answer
from sft_research.config import Run
from sft_research.console import captured
from sft_research.curves import draw
from sft_research.earlier import take_up
from sft_research.evaluate import Judged, Scores
from sft_research.pausing import Paused
from sft_research.readers import Broken
from sft_research.result import Result
from sft_research.summary import card
from sft_research.tokens import Data
from sft_research.untrusted import read_json

if TYPE_CHECKING:
    from sft_research.metrics import Metrics

log = logging.getLogger(__name__)


class Folder:
    """One run's folder: who may write it, and how."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.path = run.folder
        self.goes_on = False  # whether an earlier process of this run has been here
        self.checkpoint: Path | None = None  # from which it does
        self._log: IO[str] = sys.stderr  # once it is open, its train.log

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def finished(self) -> Result | None:
        """The result of an earlier run of the same identity, unless `rerun=true`."""
        file = self / "result.json"
        found = {} if self.run.cfg.rerun else read_json(file)
        if not found or found.get("id") != self.run.id:  # the id may take reading all data
            return None
        return result.read(file)

    @contextmanager
    def open(self) -> Iterator[Result | None]:
        """Lock the folder, go on in it or keep an earlier one aside, and send what libraries print to train.log.

        Gives the result where another process has finished this run since one looked. A failure leaves failure.json
        and is raised again.
        """
        lock.require_writable(self.path)
        with lock.held(lock.of(self.path), self.path):
            if done := self.finished():
                yield done
                return
            found = take_up(self.run)
            self.goes_on, self.checkpoint = found.goes_on, found.checkpoint
            # Composed again, it keeps nothing aside and does not pause.
            cfg = OmegaConf.merge(self.run.cfg, {"rerun": False, "pause_at": None})
            (self / "config.yaml").write_text(secrets.redact(OmegaConf.to_yaml(cfg, resolve=True)))
            self.note("loading")
            step = checkpoint.step_of(self.checkpoint) if self.checkpoint else None
            with captured(self / "train.log") as stream:
                self._log = stream
                try:
                    with stopping.going_on_from(step):
                        yield None
                except Paused:
                    raise
                except BaseException as error:
                    failure.leave(error, self.run, self.write_json, stream)
                    raise

    def leave(self, error: BaseException) -> None:
        """The same of an error that ends the process where nothing can be raised, and on the screen."""
        failure.leave(error, self.run, self.write_json, self._log)
        notes = getattr(error, "__notes__", [])
        print("\n".join([f"{type(error).__name__}: {error}", *notes]), file=sys.__stderr__, flush=True)

    def note(self, state: str, **numbers: Any) -> None:
        """What the run does now, for a grid that shows it: state.json. Not worth failing or waiting for the disk."""
        process = {"state": state, "host": lock.host(), "process": os.getpid(), "time": time.time()}
        with suppress(OSError):
            checkpoint.write_json(self / "state.json", secrets.redact(process | numbers), kept=False)

    def write_json(self, name: str, value: Any) -> None:
        checkpoint.write_json(self / name, secrets.redact(value))

    @property
    def tracker_id(self) -> str:
        """Of this run in its tracker, whatever process goes on with it."""
        return str(identity.read(self.path)["tracker_id"])

    def describe(self, environment: dict[str, Any]) -> None:
        """environment.json; of a run that goes on, with those of its earlier processes."""
        file = self / "environment.json"
        if before := read_json(file):
            environment["earlier"] = [*before.pop("earlier", []), before]
        self.write_json("environment.json", environment)

    def scores_before(self, judge: Callable[[], Judged]) -> Judged:
        """What was measured before the first step: by an earlier process, or now."""
        place = self / "checkpoints" / "before"
        if not ranks.by_first(lambda: checkpoint.whole(place)):
            judged = judge()
            if ranks.first():
                with checkpoint.writing(place) as beside:
                    (beside / "scores.json").write_text(json.dumps(secrets.redact(asdict(judged)), indent=2))
            ranks.wait()
        found = read_json(place / "scores.json")
        return Judged(Scores(**found["scores"]), [Answer(**answer) for answer in found["answers"]])

    def list_bad_rows(self, bad: Sequence[Broken]) -> None:
        """Rows that `dataset.on_bad_row=skip` left out, a line each in bad_rows.jsonl."""
        if bad:
            lines = (json.dumps(secrets.redact(asdict(row))) + "\n" for row in bad)
            (self / "bad_rows.jsonl").write_text("".join(lines))

    def save(self, weights: Any, tokenizer: Any, before: list[Answer], after: list[Answer]) -> None:
        """The adapter, or the whole model where there is none, and the answers before and after."""
        with checkpoint.writing(self.weights) as beside:
            weights.save_pretrained(beside)
            tokenizer.save_pretrained(beside)
        with (self / "samples.jsonl").open("w") as file:
            for old, new in zip(before, after, strict=True):
                sample = {
                    "question": new.question,
                    "expected": new.expected,
                    "before": old.text,
                    "after": new.text,
                    "right": new.right,
                }
                file.write(json.dumps(secrets.redact(sample)) + "\n")

    @property
    def weights(self) -> Path:
        return self / ("adapter" if "r" in self.run.cfg.lora else "model")

    def finish(
        self,
        data: Data,
        metrics: Metrics,
        before: Scores,
        after: Scores,
        curves: str,
        seconds: float,
    ) -> Result:
        """Card and picture, then result.json."""
        made = result.result_of(self.run, self.weights, data, metrics, before, after, curves, seconds)
        draw(self / "metrics.jsonl", self / "curves.png", title=f"{self.run.experiment} / {self.run.name}")
        (self / "README.md").write_text(secrets.redact(card(made)))
        checkpoint.sync(self.path, "*")  # what result.json says to be there
        self.write_json("result.json", asdict(made))
        stopping.too_late()
        self.note("finished")
        return made
