"""Where rows come from. A source has one verb, `load`, and gives training and held-out rows apart."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from itertools import islice
from pathlib import Path
from typing import Any

from sft_research.config import ConfigError

Row = dict[str, Any]
READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


@dataclass(frozen=True)
class Rows:
    """Training and held-out rows; `checkable` says whether an answer has one right text."""

    train: Sequence[Row]
    held_out: Sequence[Row]
    checkable: bool

    @property
    def fingerprint(self) -> str:
        """Hash of the rows' content, in order."""
        digest = hashlib.sha256()
        for part in (self.train, self.held_out):
            for row in part:
                digest.update(json.dumps(row, sort_keys=True, default=str).encode())
            digest.update(b"|")
        return digest.hexdigest()[:16]

    def require(self, evaluated: bool) -> None:
        """Raise ConfigError where there is nothing to train on, or nothing that is to be `evaluated` on."""
        if self.train and (self.held_out or not evaluated):
            return
        some = [*islice(self.train, 1000), *islice(self.held_out, 1000)]
        share = next((s for s in (0.05, 0.2, 0.5) if all(hold_out(some, s))), None)
        fixes = [f"dataset.held_out={share}"] if share else ["a dataset of more rows"]
        if self.train:
            fixes.append("training.eval_strategy=no evaluation.questions=0")
        raise ConfigError(
            f"the dataset gives {len(self.train)} training and {len(self.held_out)} held-out rows: nothing to "
            f"{'evaluate' if self.train else 'train'} on. Fix: {', or '.join(fixes)}"
        )


@dataclass(frozen=True)
class Hub:
    """A dataset of the hub by name, or a folder of files named after their splits (train.jsonl, ...).

    Raises ConfigError for a split that is not there, naming those that are.
    """

    path: str
    name: str | None = None
    split: str = "train"
    held_out: str | float = 0.05
    limit: int | None = None
    held_out_limit: int | None = None
    answers_checkable: bool = False

    def load(self) -> Rows:
        import datasets

        place = os.path.expanduser(self.path)
        # A folder has no configurations: its files are its splits.
        name = None if Path(place).is_dir() else self.name
        try:
            splits = datasets.load_dataset(place, name)
        except (datasets.exceptions.DatasetGenerationError, ValueError, OSError) as error:
            raise ConfigError(
                f"dataset.path={self.path} (configuration {name}) cannot be read: {_line(error)}. "
                "Fix: dataset.path=FOLDER of jsonl, csv or parquet files, or dataset.name=..."
            ) from error
        train = _split(splits, self.split, "split")
        if isinstance(self.held_out, str):
            held_out = _split(splits, self.held_out, "held_out")
        else:
            train, held_out = hold_out(train, self.held_out)
        return Rows(_first(train, self.limit), _first(held_out, self.held_out_limit), self.answers_checkable)


@dataclass(frozen=True)
class File:
    """One file or a glob: jsonl, json, csv, parquet. `held_out` is a share, or a second file or glob."""

    path: str
    held_out: str | float = 0.05
    limit: int | None = None
    held_out_limit: int | None = None
    answers_checkable: bool = False

    def load(self) -> Rows:
        train: Sequence[Row] = _read(self.path, "path")
        if isinstance(self.held_out, str):
            held_out: Sequence[Row] = _read(self.held_out, "held_out")
        else:
            train, held_out = hold_out(train, self.held_out)
        return Rows(_first(train, self.limit), _first(held_out, self.held_out_limit), self.answers_checkable)


def hold_out(rows: Sequence[Row], share: float) -> tuple[Sequence[Row], Sequence[Row]]:
    """Split rows by their content, so that appending rows moves none from one side to the other.

    A row is held out when the hash of its JSON, read as a number from 0 to 1, is below `share`.
    """
    if not 0 <= share < 1:
        raise ConfigError(f"dataset.held_out={share} is not a share. Fix: dataset.held_out=0.05")
    train: list[Row] = []
    held_out: list[Row] = []
    for row in rows:
        digest = hashlib.sha256(json.dumps(row, sort_keys=True, default=str).encode()).digest()
        (held_out if int.from_bytes(digest[:8], "big") / 2**64 < share else train).append(row)
    return train, held_out


def _read(pattern: str, key: str) -> list[Row]:
    import datasets

    files = sorted(glob(os.path.expanduser(pattern)))
    kinds = {READERS.get(Path(file).suffix) for file in files}
    if len(kinds) != 1 or None in kinds:
        raise ConfigError(
            f"dataset.{key}={pattern} names {len(files)} files of {len(kinds)} kinds. "
            f"Fix: dataset.{key}=FILE, or a glob of one kind: {', '.join(READERS)}"
        )
    kind = str(kinds.pop())
    try:
        options = _as_text(files[0]) if kind == "csv" else {}
        return datasets.load_dataset(kind, data_files=files, split="train", **options).to_list()
    except StopIteration as error:  # what an empty file is to datasets 4.8
        raise ConfigError(f"dataset.{key}={pattern} holds no rows. Fix: dataset.{key}=FILE") from error
    except (datasets.exceptions.DatasetGenerationError, ValueError) as error:
        raise ConfigError(f"dataset.{key}={pattern} cannot be read: {_line(error)}") from error


def _as_text(csv_file: str) -> dict[str, Any]:
    """Read each cell as text: a csv has no types, and a guess makes 2 a 2.0 and the word NA a null."""
    import datasets

    with open(csv_file, newline="", encoding="utf-8-sig") as file:
        columns = next(csv.reader(file))
    return {
        "features": datasets.Features({name: datasets.Value("string") for name in columns}),
        "keep_default_na": False,
    }


def _split(splits: Any, name: str, key: str) -> Sequence[Row]:
    if name not in splits:
        raise ConfigError(
            f"dataset.{key}={name}: there is no such split. Fix: dataset.{key}={' or '.join(splits)}"
        )
    return splits[name]


def _first(rows: Sequence[Row], limit: int | None) -> Sequence[Row]:
    if limit is None or limit >= len(rows):
        return rows
    return rows[:limit] if isinstance(rows, list) else rows.select(range(limit))  # type: ignore[attr-defined]


def _line(error: BaseException) -> str:
    lines = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
    return " ... ".join(dict.fromkeys((lines[0], lines[-1]))).rstrip(".")
