"""The kinds of failure that are known: how each is told, its likely cause, and the overrides to try."""

from __future__ import annotations

import errno
import os
import re
import resource
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from sft_research import hardware
from sft_research.checkpoint import step_of
from sft_research.config import ConfigError, Run
from sft_research.on_oom import out_of_memory

FULL = (errno.ENOSPC, errno.EDQUOT)
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
# How torch and safetensors, which are not Python, say it: (os error 28), ...
SAID_OS = re.compile(r"\(os error (\d+)\)|\[enforce fail at inline_container")
EVALUATING = ("loss.py", "answers.py")  # modules of ours that evaluate


@dataclass(frozen=True)
class Moment:
    """Where training was: the optimizer step, from 1, and the (rows, tokens) of its latest batch."""

    step: int
    batch: tuple[int, int] | None


@dataclass(frozen=True)
class Cause:
    """One kind of failure; `fixes` are overrides and what each is good for."""

    kind: str
    likely: str
    fixes: Sequence[tuple[str, str]] = ()


def moment_of(error: BaseException) -> Moment | None:
    return next((vars(each)["moment"] for each in _chain(error) if "moment" in vars(each)), None)


def cause_of(error: BaseException, run: Run) -> Cause | None:
    """The kind of an error, or of what it was raised from; None for one that is not known."""
    if isinstance(error, ConfigError):
        return None  # it says its fix itself
    for each in _chain(error):
        for find in (_memory, _system, _diverged, _code):
            if found := find(each, run, moment_of(error)):
                return found
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        # Not its context: what was only being handled when it was raised may have nothing to do with it.
        error = error.__cause__


def _memory(error: BaseException, run: Run, moment: Moment | None) -> Cause | None:
    if not out_of_memory(error):
        return None
    frames = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    if any(file.parent.name == "sft_research" and file.name in EVALUATING for file in frames):
        smaller = (f"evaluation.batch_size={max(1, run.cfg.evaluation.batch_size // 2)}", "the numbers stay")
        return Cause("out of memory", f"in an evaluation, {_used()}", [smaller])
    from sft_research.savings import savings

    shape = moment.batch if moment else None
    return Cause("out of memory", _used(), savings(run, shape))


def _used() -> str:
    used, total = hardware.peak_memory_gib(), hardware.memory_gib()
    return f"{used:.1f} GiB were in use at the most, of {total:.1f} GiB that this process may have"


def _system(error: BaseException, run: Run, moment: Moment | None) -> Cause | None:
    """A full disk, a missing permission, a file that is gone."""
    said = SAID_OS.search(str(error))
    number = error.errno if isinstance(error, OSError) else None
    if said:
        number = int(said[1] or errno.ENOSPC)
    if number not in (*FULL, *DENIED, errno.EFBIG, errno.ENOENT):
        return None
    name = error.filename if isinstance(error, OSError) else None
    named, runs_dir = str(name or run.folder), str(run.cfg.runs_dir)
    elsewhere = ("runs_dir=FOLDER", "where there is room, and you may write; from the first step")
    if number == errno.EFBIG:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        likely = f"{named} could not be written: a file may have {limit:,} bytes here (ulimit -f)"
        return Cause(
            "file too large", likely, [("ulimit -f unlimited", "in the shell, then the same command")]
        )
    if number in FULL:
        likely = f"{named} could not be written: {os.strerror(number)}. {_room(run.folder)}"
        return Cause("disk full", likely, [*_with_room(run), elsewhere])
    data = _key_of(run, named)
    if number in DENIED:
        fix = (f"{data}=PATH", "one that may be read") if data else elsewhere
        return Cause("no permission", f"{os.strerror(number)}: {named} (this is user {os.getuid()})", [fix])
    inside = Path(named).absolute().is_relative_to(Path(runs_dir).absolute())
    likely = f"{named} is not there{' any more: it was, when the run was checked' if data else ''}"
    if inside:
        likely += "; something else clears this run's folder"
    fixes = [("rerun=true", "start over")] if inside else []
    return Cause("a file is gone", likely, [(f"{data}=PATH", "where it is now")] if data else fixes)


def _with_room(run: Run) -> list[tuple[str, str]]:
    """What the run would do with some room: each checkpoint before the failed one is whole."""
    saved = [step_of(place) for place in (run.folder / "checkpoints").glob("checkpoint-*")]
    return [("the same command", f"with some room made: goes on from step {max(saved)}")] if saved else []


def _room(folder: Path) -> str:
    try:
        found = os.statvfs(next(place for place in (folder, *folder.parents) if place.exists()))
    except OSError:
        return ""
    return f"{found.f_bavail * found.f_frsize / 2**30:.2f} GiB are free there"


def _key_of(run: Run, file: str) -> str | None:
    """The key whose value names this file, or its folder."""
    for key in ("dataset.path", "dataset.held_out", "model.name", "model.chat_template"):
        value = OmegaConf.select(run.cfg, key, throw_on_missing=False)
        place = Path(value).expanduser().absolute() if isinstance(value, str) else None
        if place and Path(file).absolute().is_relative_to(place):
            return key
    return None


def _diverged(error: BaseException, run: Run, moment: Moment | None) -> Cause | None:
    if type(error).__name__ != "Diverged":  # its module imports transformers
        return None
    norm, before = vars(error)["norm"], vars(error)["norms"]
    lr = run.cfg.optimizer.get("lr", 0.0)
    fixes = [(f"optimizer.lr={lr / 10:g}", f"a tenth of {lr:g}; another run, from its first step")]
    if grew := bool(before) and not norm < 10 * before[0]:
        fixes.append(("training.warmup_steps=0.1", "the learning rate rises over a tenth of the steps"))
    clip = run.cfg.training.get("max_grad_norm", 1.0)
    if clip == 0 or clip > 1:
        fixes.append(("training.max_grad_norm=1.0", "clip the gradient"))
    if OmegaConf.select(run.cfg, "model.dtype") == "float16":
        fixes.append(("model.dtype=bfloat16", "float16 overflows above 65,504"))
    likely = (
        "the gradient grew for some steps: the learning rate is too high"
        if grew
        else "the rows of the step, or the learning rate"
    )
    kept = sorted((run.folder / "checkpoints").glob("checkpoint-*"), key=lambda path: path.stat().st_mtime)
    last = f"The last checkpoint before it is {kept[-1]}" if kept else "There is no checkpoint before it"
    return Cause("loss diverged", f"{likely}. The step was not taken. {last}", fixes)


def _code(error: BaseException, run: Run, moment: Moment | None) -> Cause | None:
    """A checkpoint that brings a model's code with it: transformers asks for trust_remote_code."""
    if "trust_remote_code" not in str(error):
        return None
    likely = f"{run.cfg.model.name} brings Python code of its own, and code of a checkpoint is never run"
    return Cause(
        "code in a checkpoint", likely, [("model.name=FOLDER", "a model that transformers knows by itself")]
    )
