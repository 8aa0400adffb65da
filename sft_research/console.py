"""What a person sees: our own messages. What libraries print and warn goes to the run's train.log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import IO, Any

from sft_research.secrets import Redacted

log = logging.getLogger("sft_research")


@contextmanager
def speaking() -> Iterator[IO[str]]:
    """Messages of this package go to the present standard output, which is given for progress bars."""
    stream: Any = Heard(sys.stdout)
    handler = logging.StreamHandler(stream)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield stream
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


class Heard:
    """An output for as long as somebody reads it: a run outlives `| tee`, which the same Ctrl-C ends."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        with suppress(BrokenPipeError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(BrokenPipeError):
            self._stream.flush()


@contextmanager
def captured(file: Path) -> Iterator[Any]:
    """Everything printed, logged or warned inside goes to `file`, secrets struck out."""
    with _closing(file.open("a", buffering=1)) as opened:
        stream: Any = Redacted(opened)
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        root = logging.getLogger()
        root.addHandler(handler)
        logging.captureWarnings(True)
        try:
            with redirect_stdout(stream), redirect_stderr(stream):
                yield stream
        finally:
            logging.captureWarnings(False)
            root.removeHandler(handler)


@contextmanager
def _closing(file: IO[str]) -> Iterator[IO[str]]:
    """On a full disk its last line cannot be written: that must not stand in the place of what went wrong."""
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


@contextmanager
def library_bars_off() -> Iterator[None]:
    """A notebook shows the progress bars of datasets and transformers as widgets, past what is captured."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    were_on = not are_progress_bars_disabled(), transformers_logging.is_progress_bar_enabled()
    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_on[0]:
            enable_progress_bars()
        if were_on[1]:
            transformers_logging.enable_progress_bar()
