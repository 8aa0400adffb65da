"""A tracker over the length of a run: started, told of each step once, and finished with the run's exit status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sft_research.pausing import Paused
from sft_research.steps import Steps
from sft_research.stopping import Stopped
from sft_research.surviving import Surviving
from sft_research.tracking import About, Tracker


@contextmanager
def recording(tracker: Tracker, about: About) -> Iterator[Steps]:
    """Start the tracker, and finish it with status 0, 1 where the body fails, or that of a signal. Where it stops or
    pauses, the last step is left to the process that goes on, which may have more to say of it. One that is down
    ends no run."""
    tracker = Surviving(tracker)
    tracker.start(about)
    steps = Steps(tracker)
    exit_code, ends = 1, True
    try:
        yield steps
        exit_code = 0
    except Stopped as stopped:
        exit_code, ends = stopped.status, False
        raise
    except Paused:
        exit_code, ends = 0, False
        raise
    finally:
        if ends:
            steps.flush()
        tracker.finish(exit_code)
