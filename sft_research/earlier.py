"""What an earlier process has left in a run's folder: it is gone on with, or kept aside, and never lost."""

from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from sft_research import checkpoint, identity, trust
from sft_research.checkpoint import step_of, write_json
from sft_research.config import Run
from sft_research.untrusted import read_json

log = logging.getLogger("sft_research")


@dataclass(frozen=True)
class Earlier:
    """`goes_on`: whether an earlier process of this very run has been here; `checkpoint`: from which it goes on."""

    goes_on: bool
    checkpoint: Path | None = None


def take_up(run: Run) -> Earlier:
    """An unfinished folder of this very run goes on; any other is kept aside, and a new one begun.

    `rerun=true` starts a run over once: killed and started again, as a scheduler does, it goes on too. Where that
    failed it starts over again.
    """
    folder = run.folder
    noted = identity.read(folder)
    # The tracker's id becomes part of a path, and a folder may come from anywhere.
    same = noted.get("id") == run.id and re.fullmatch(r"[0-9a-f]{12}", str(noted.get("tracker_id")))
    begun = not run.cfg.rerun or (noted.get("rerun") and not _has_failed(folder))
    if same and begun and not (folder / "result.json").is_file():
        trust.require_inside(folder)
        saved = list((folder / "checkpoints").glob("checkpoint-*"))
        newest = checkpoint.newest(folder / "checkpoints")
        if newest or not (saved or _has_failed(folder)):
            _go_on(folder, newest)
            return Earlier(goes_on=True, checkpoint=newest)
        why = "No checkpoint of it is whole" if saved else "It failed before its first checkpoint"
    else:
        why = _changed(run, noted) if noted and not same else ""
    if _was_refused(folder):  # by its configuration, before there was anything to keep
        shutil.rmtree(folder)
    _set_aside(folder, why)
    folder.mkdir(exist_ok=True)
    identifies = {**run.identity, "tracker_id": uuid4().hex[:12], "rerun": bool(run.cfg.rerun)}
    write_json(folder / identity.NAME, identifies)
    return Earlier(goes_on=False)


def _go_on(folder: Path, newest: Path | None) -> None:
    """metrics.jsonl as it was at the checkpoint: what came after it is made again."""
    (folder / "failure.json").unlink(missing_ok=True)
    file = folder / "metrics.jsonl"
    if newest is None:
        file.unlink(missing_ok=True)
        return
    step, last = step_of(newest), _last_step(file)
    again = f" Steps {step + 1} to {last} are made again." if last > step else ""
    log.info("Goes on from step %d.%s", step, again)
    file.unlink(missing_ok=True)
    shutil.copyfile(newest / file.name, file)


def _last_step(file: Path) -> int:
    """Of metrics.jsonl, whose last line may be torn."""
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0


def _has_failed(folder: Path) -> bool:
    return bool(read_json(folder / "failure.json").get("status") == "failed")


def _was_refused(folder: Path) -> bool:
    began = any((folder / name).exists() for name in ("metrics.jsonl", "checkpoints", "result.json"))
    return not began and read_json(folder / "failure.json").get("error") == "ConfigError"


def _changed(run: Run, noted: dict[str, Any]) -> str:
    """Which data or weights are others than those of the older run, whose configuration may be the same."""
    inputs = noted.get("inputs")
    before = inputs if isinstance(inputs, dict) else {}
    now = run.identity["inputs"]
    changed = [
        key for key, found in now.items() if key in before and before[key].get("content") != found["content"]
    ]
    return f"{', '.join(changed)} has changed since" if changed else "Its configuration was another"


def _set_aside(folder: Path, why: str) -> None:
    """Nothing that was saved is lost: an older folder goes to `<name>~1`, `~2`, ... No run's name holds a `~`."""
    if not folder.exists() or all(file.name.startswith(".") for file in folder.iterdir()):
        return
    number = 1
    while (kept := folder.with_name(f"{folder.name}~{number}")).exists():
        number += 1
    folder.rename(kept)
    log.info("%sThe older folder is kept as %s", f"{why}: this run starts over. " if why else "", kept)
