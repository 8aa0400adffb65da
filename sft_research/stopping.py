"""Leave well: SIGTERM, SIGUSR1, SIGUSR2 and Ctrl-C are answered at the next safe point, a second Ctrl-C at once.

What a signal asks is noted for the whole process, as signals are; whoever is at a safe point asks `requested`
or calls `poll`. Outside `at_safe_points`, while rows and model are loaded, there is nothing to save yet and
the signal itself raises. Of several ranks one may have got it: they agree, at the same safe point, to stop there.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
NOTED = b"\nStopping at the next safe point.\n"
NOTED_CTRL_C = (
    b"\nStopping at the next safe point. A second Ctrl-C leaves at once, and the same command then goes on from\n"
    b"the last checkpoint.\n"
)

_asked: int | None = None  # the signal that came
_polled = False  # whether there are safe points ahead
_over = False  # whether there is nothing left to stop
_agreed: Callable[[int], int] = int  # the signal that any rank got, 0 for none, of what this one got


class Stopped(KeyboardInterrupt):
    """The run was asked to stop and has saved what there was to save; `status` is its exit status."""

    def __init__(self, number: int, saved: int | None = None) -> None:
        self.number = number
        self.status = 128 + number
        self.step = saved
        where = "before its first checkpoint" if saved is None else f"at step {saved}"
        goes_on = "starts it again" if saved is None else "goes on from there"
        super().__init__(f"Interrupted by {signal.Signals(number).name} {where}. The same command {goes_on}.")


@contextmanager
def listening(note: Callable[[int, FrameType | None], None] | None = None) -> Iterator[None]:
    """Take the signals inside, by `note` where it is given; in a thread, where Python allows no handler, do nothing."""
    global _asked, _over
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _asked, _over = None, False
    before = {number: signal.signal(number, note or _note) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked, _over = None, False


@contextmanager
def at_safe_points() -> Iterator[None]:
    """Inside, a signal is only noted; it raises where it is polled."""
    global _polled
    _polled = True
    try:
        yield
    finally:
        _polled = False


def too_late() -> None:
    """The run has its result: a signal that comes now stops nothing, but for a second Ctrl-C, which leaves at once."""
    global _over
    _over = True


@contextmanager
def agreeing(agreed: Callable[[int], int]) -> Iterator[None]:
    """Inside, all ranks ask together at each safe point; `agreed` gives each the same number."""
    global _agreed
    before, _agreed = _agreed, agreed
    try:
        yield
    finally:
        _agreed = before


@contextmanager
def going_on_from(step: int | None) -> Iterator[None]:
    """What is stopped inside before a checkpoint of its own goes on from that of an earlier process, of `step`."""
    try:
        yield
    except Stopped as stopped:
        raise stopped if stopped.step is not None else Stopped(stopped.number, step) from None


def requested() -> bool:
    """Whether the run is asked to stop."""
    return _of_any() > 0


def poll(saved: int | None = None) -> None:
    """Raise Stopped where the run is asked to stop; `saved`: the step of its last checkpoint."""
    if number := _of_any():
        raise Stopped(number, saved)


def _of_any() -> int:
    """The signal that any rank got, 0 for none; what comes meanwhile waits for the next safe point."""
    global _asked
    if number := _agreed(_asked or 0):
        _asked = number
    return number


def heed(number: int, _: FrameType | None) -> None:
    """The handler of a rank that another speaks for: it never raises where the signal falls."""
    global _asked
    _asked = _asked or number


def _note(number: int, frame: FrameType | None) -> None:
    global _asked
    if _asked is not None:
        return  # a second SIGTERM must not disturb the leaving
    _asked = number
    # torchrun passes a Ctrl-C on to ranks that have got it already.
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C waits for nothing
    if _over:
        return
    if not _polled:
        raise Stopped(number)
    with suppress(OSError):  # who read it may be gone, as `| tee` is by the same Ctrl-C
        os.write(2, NOTED_CTRL_C if number == signal.SIGINT else NOTED)
