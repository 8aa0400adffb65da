"""Where rows come from. A source has one verb, `load`, and gives training and held-out rows apart.

A source of your own: dataset._target_=my_package.MySource, with `load() -> Rows`; rows are dicts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import escape, glob
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from sft_research import files, hub
from sft_research.config import ConfigError
from sft_research.readers import READERS, Broken, Read


@dataclass(frozen=True)
class Rows:
    """Training and held-out rows; `checkable` says whether an answer has one right text."""

    train: Sequence[Mapping[str, Any] | Broken]
    held_out: Sequence[Mapping[str, Any] | Broken]
    checkable: bool
    on_bad_row: Literal["error", "skip"] = "error"  # stop the run, or leave the row out and list it

    @property
    def fingerprint(self) -> str:
        """Hash of the rows' content, in order."""
        digest = hashlib.sha256()
        for part in (self.train, self.held_out):
            for row in part:
                digest.update(_content(row))
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
class File:
    """One file, a glob, or a folder of `save_to_disk`: jsonl, json, csv or parquet, compressed or not.

    `held_out` is a second one, or the share of rows that `seed` picks.
    """

    path: str
    held_out: str | float = 0.05
    limit: int | None = None
    held_out_limit: int | None = None
    answers_checkable: bool = False
    seed: int = 0
    on_bad_row: Literal["error", "skip"] = "error"

    def load(self) -> Rows:
        train: Sequence[Read] = files.read(self.path, "path")
        if isinstance(self.held_out, str):
            held_out: Sequence[Read] = files.read(self.held_out, "held_out")
        else:
            train, held_out = hold_out(train, self.held_out, self.seed)
        return Rows(
            train[: self.limit], held_out[: self.held_out_limit], self.answers_checkable, self.on_bad_row
        )

    def fingerprint(self) -> str:
        """Of the files' bytes: a moved file is the same data, a changed one is not."""
        places = [self.path, *([self.held_out] if isinstance(self.held_out, str) else [])]
        return "-".join(files.fingerprint(place)[:16] for place in places)


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
    seed: int = 0
    on_bad_row: Literal["error", "skip"] = "error"

    def load(self) -> Rows:
        train = self._split(self.split, "split")
        if isinstance(self.held_out, str):
            held_out = self._split(self.held_out, "held_out")
        else:
            train, held_out = hold_out(train, self.held_out, self.seed)
        limited = _first(train, self.limit), _first(held_out, self.held_out_limit)
        return Rows(*limited, self.answers_checkable, self.on_bad_row)

    def fingerprint(self) -> str:
        """Of a folder's bytes, or what the datasets library names the version it has."""
        if Path(self.path).expanduser().is_dir():
            return files.fingerprint(self.path)[:16]
        return "-".join(f"{name}={split._fingerprint}" for name, split in sorted(self._loaded().items()))

    def _split(self, name: str, key: str) -> Sequence[Any]:
        found = _files_of_split(Path(self.path).expanduser(), name)
        sorts = sorted({f"{file.parent.name}/*{files.ending_of(file)}" for file in found})
        if len(sorts) > 1:
            raise ConfigError(
                f"dataset.{key}={name}: {self.path} has its rows in {' and in '.join(sorts)}, which may be the same "
                f"rows. Fix: dataset=file dataset.path={found[0]}, or a glob of one kind"
            )
        if found:  # read here, so that a bad row has a file and a line
            return [row for file in found for row in files.rows_of(file, key)]
        splits = self._loaded()
        if name not in splits:
            raise ConfigError(
                f"dataset.{key}={name}: there is no such split. Fix: dataset.{key}={' or '.join(splits)}"
            )
        rows: Sequence[Any] = splits[name]
        return rows

    def _loaded(self) -> Any:
        import datasets

        hub.require_dataset(self.path)
        place = os.path.expanduser(self.path)
        # A folder has no configurations: its files are its splits.
        name = None if Path(place).is_dir() else self.name
        try:
            return datasets.load_dataset(place, name)
        except (datasets.exceptions.DatasetGenerationError, ValueError, OSError) as error:
            raise ConfigError(
                f"dataset.path={self.path} (configuration {name}) cannot be read: {_line(error)}. "
                "Fix: dataset.path=FOLDER of jsonl, csv or parquet files, or dataset.name=..."
            ) from error


def hold_out(rows: Sequence[Any], share: float, seed: int = 0) -> tuple[list[Any], list[Any]]:
    """Split rows by their content, so that appending rows moves none from one side to the other.

    A row is held out when the hash of the seed and its JSON, read as a number from 0 to 1, is below `share`.
    """
    if not 0 <= share < 1:
        raise ConfigError(f"dataset.held_out={share} is not a share, from 0 to 1. Fix: dataset.held_out=0.05")
    train: list[Any] = []
    held_out: list[Any] = []
    for row in rows:
        digest = hashlib.sha256(f"{seed}|".encode() + _content(row)).digest()
        (held_out if int.from_bytes(digest[:8], "big") / 2**64 < share else train).append(row)
    return train, held_out


def _files_of_split(folder: Path, split: str) -> list[Path]:
    """train.jsonl, train-00000-of-00002.parquet and the like, in the folder or in its data/."""
    names = (f"{split}.*", f"{split}-[0-9]*", f"data/{split}.*", f"data/{split}-[0-9]*")
    found = sorted(chain.from_iterable(glob(f"{escape(str(folder))}/{name}") for name in names))
    return [Path(file) for file in found if files.kind_of(Path(file)) in READERS]


def place_of(row: Any, index: int, split: str) -> str:
    """`train.jsonl:17` where a reader knows it, else the row's number in its split."""
    return getattr(row, "where", "") or f"row {index + 1} of the {split} rows"


def _content(row: Any) -> bytes:
    if isinstance(row, Broken):
        return row.reason.encode(errors="replace")
    try:
        return json.dumps(row, sort_keys=True, default=str).encode()
    except TypeError:  # of one's own source: columns that are named by more than texts
        return repr(sorted(row.items(), key=repr)).encode()
    except RecursionError:  # its columns are still taken or refused one by one
        return b"nested too deeply"


def _first(rows: Sequence[Any], limit: int | None) -> Sequence[Any]:
    if limit is None or limit >= len(rows):
        return rows
    return rows[:limit] if isinstance(rows, list) else rows.select(range(limit))  # type: ignore[attr-defined]


def _line(error: BaseException) -> str:
    lines = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
    return " ... ".join(dict.fromkeys((lines[0], lines[-1]))).rstrip(".")
