"""The folder a run leaves behind. `result.json` comes last and whole: a folder without it is no result.

runs/<experiment>/<overrides>/
  config.yaml  environment.json  metrics.jsonl  samples.jsonl  train.log  curves.png
  adapter/  checkpoints/  README.md  result.json     (failure.json where a run failed)
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from omegaconf import OmegaConf

from sft_research import failure, result, secrets
from sft_research.answers import Answer
from sft_research.config import ConfigError, Run
from sft_research.console import captured
from sft_research.curves import draw
from sft_research.evaluate import Scores
from sft_research.readers import Broken
from sft_research.result import Result
from sft_research.summary import card
from sft_research.tokens import Data

if TYPE_CHECKING:
    from sft_research.metrics import Metrics


class Folder:
    """One run's folder: who may write it, and how."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.path = run.folder

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def finished(self) -> Result | None:
        """The result of an earlier run of the same identity, unless `rerun=true`."""
        file = self / "result.json"
        if self.run.cfg.rerun or not file.is_file():
            return None
        if json.loads(file.read_text())["id"] != self.run.id:
            return None
        return result.read(file)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Lock the folder, keep an earlier one aside, and send what libraries print to train.log.

        A failure leaves failure.json and is raised again.
        """
        self._require_writable()
        with self._lock():
            self._set_aside()
            self.path.mkdir()
            (self / "config.yaml").write_text(secrets.redact(OmegaConf.to_yaml(self.run.cfg, resolve=True)))
            with captured(self / "train.log") as stream:
                try:
                    yield
                except BaseException as error:
                    self._failed(error, stream)
                    raise

    def _require_writable(self) -> None:
        """Raise ConfigError where no folder can be made."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path.parent, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.path.parent))
        except OSError as error:
            raise ConfigError(
                f"The run's folder {self.path} cannot be made: {error.strerror}: {error.filename}. "
                "Fix: runs_dir=FOLDER, where you may write"
            ) from error

    def write_json(self, name: str, value: Any) -> None:
        """Whole or not at all: written beside, then renamed."""
        beside = self / f".{name}.tmp"
        beside.write_text(json.dumps(secrets.redact(value), indent=2) + "\n")
        os.replace(beside, self / name)

    def list_bad_rows(self, bad: Sequence[Broken]) -> None:
        """Rows that `dataset.on_bad_row=skip` left out, a line each in bad_rows.jsonl."""
        if bad:
            lines = (json.dumps(secrets.redact(asdict(row))) + "\n" for row in bad)
            (self / "bad_rows.jsonl").write_text("".join(lines))

    def save(self, weights: Any, tokenizer: Any, before: list[Answer], after: list[Answer]) -> None:
        """The adapter, or the whole model where there is none, and the answers before and after."""
        beside = self / ".weights.tmp"
        weights.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        beside.rename(self.weights)
        with (self / "samples.jsonl").open("w") as file:
            for old, new in zip(before, after, strict=True):
                sample = {
                    "question": new.question,
                    "expected": new.expected,
                    "before": old.text,
                    "after": new.text,
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
        self.write_json("result.json", asdict(made))
        return made

    def _failed(self, error: BaseException, log: IO[str]) -> None:
        """The cause in failure.json and for the screen, also where the disk is full."""
        for left in self.path.glob(".*.tmp"):  # half written: what is to be said may need the room
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
        found = failure.describe(error, self.run)
        if said := failure.screen(found):
            error.add_note(said)
        try:
            traceback.print_exception(error, file=log)
            self.write_json("failure.json", found)
            error.add_note(f"The traceback is in {self / 'train.log'}")
        except OSError as unwritten:
            error.add_note(f"Neither failure.json nor a traceback could be written: {unwritten}")

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Held as long as this process lives; a second run of the same folder is refused."""
        with (self.path.parent / f".{self.path.name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(
                    f"{self.path} is being written by another process. Wait for it, or set runs_dir=..."
                ) from error
            yield

    def _set_aside(self) -> None:
        """Nothing that was saved is lost: an older folder of this name goes to `<name>.1`, `.2`, ..."""
        if self.path.exists():
            number = 1
            while (kept := self.path.with_name(f"{self.path.name}.{number}")).exists():
                number += 1
            self.path.rename(kept)
