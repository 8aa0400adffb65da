"""Why a run failed, for failure.json and for the one screen that is printed: what, at which step, the likely
cause, and the overrides to try."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import IO, Any

from sft_research.causes import Moment, cause_of, moment_of
from sft_research.config import Run


@contextmanager
def locate(where: Callable[[], tuple[int, Sequence[Mapping[str, Any]]]]) -> Iterator[None]:
    """An error raised inside carries its Moment; `where` gives the step and its latest batches."""
    try:
        yield
    except BaseException as error:
        step, batches = where()
        shapes = [tuple(batch["input_ids"].shape) for batch in batches]
        vars(error).setdefault(
            "moment", Moment(step, shapes[-1] if shapes else None)
        )  # the innermost knows best
        raise


def leave(error: BaseException, run: Run, write: Callable[[str, Any], None], log: IO[str]) -> None:
    """The cause in failure.json, through `write`, and for the screen; also where the disk is full."""
    for left in run.folder.glob(".*.tmp"):  # half written: what is to be said may need the room
        with suppress(OSError):
            left.unlink(missing_ok=True)
    try:
        found = describe(error, run)
    except Exception as unclear:  # which must not hide the error that it is about
        log.write(f"The cause is not known: {type(unclear).__name__}: {unclear}\n")
        found = undescribed(error)
    if said := screen(found):
        error.add_note(said)
    try:
        traceback.print_exception(error, file=log)
        write("failure.json", found)
        error.add_note(f"The traceback is in {run.folder / 'train.log'}")
    except OSError as unwritten:
        error.add_note(f"Neither failure.json nor a traceback could be written: {unwritten}")


def describe(error: BaseException, run: Run) -> dict[str, Any]:
    """What failure.json holds."""
    frames = traceback.extract_tb(error.__traceback__)
    stopped = isinstance(error, (KeyboardInterrupt, SystemExit))
    cause, moment = None if stopped else cause_of(error, run), moment_of(error)
    return {
        "status": "interrupted" if stopped else "failed",
        "error": type(error).__name__,
        "message": str(error),
        "where": f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else "",
        # Of the last checkpoint, where the run was stopped; else of the step that failed.
        "step": getattr(error, "step", None) if stopped else moment and moment.step,
        "batch": moment and moment.batch,
        "cause": cause and asdict(cause),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def undescribed(error: BaseException) -> dict[str, Any]:
    """The same where the error could not be looked into."""
    empty = dict.fromkeys(("where", "step", "batch", "cause"))
    return {"status": "failed", "error": type(error).__name__, "message": str(error), **empty}


def screen(found: Mapping[str, Any]) -> str:
    """What a person reads below the error's own words, of what `describe` found; empty where nothing is known."""
    cause, step, batch = found["cause"], found["step"], found["batch"]
    where = f"at step {step}" if step else ""
    if cause is None:  # the error's own words stand above
        return f"  what      {found['error']} {where}" if where and found["status"] == "failed" else ""
    if batch and cause["kind"] == "out of memory":
        where += f", in a batch of {batch[0]} x {batch[1]} tokens"
    wide = min(max((len(fix) for fix, _ in cause["fixes"]), default=0), 76)
    tried = [f"{fix:<{wide}}  {why}".rstrip() for fix, why in cause["fixes"]]
    said = [("what", f"{cause['kind']} {where}".strip()), ("cause", cause["likely"])]
    said += [("" if number else "try", fix) for number, fix in enumerate(tried)]
    return "\n".join(f"  {head:<8}  {text}" for head, text in said)
