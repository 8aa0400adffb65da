"""A tracker over the length of a run: started, told of each step once, and finished with the run's exit status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sft_research import secrets
from sft_research.config import Run
from sft_research.lora import Lora
from sft_research.pausing import Paused
from sft_research.point import grid_name
from sft_research.record import Folder
from sft_research.steps import Steps
from sft_research.stopping import Stopped
from sft_research.surviving import Surviving
from sft_research.tracking import About, Tracker


def about(run: Run, folder: Folder, adapter: Any) -> About:
    """What a tracker is told of a run: its config with alpha as a number, whatever policy says it, and the scale,
    by which curves are sorted and coloured."""
    config = secrets.redact(run.resolved)
    if isinstance(adapter, Lora):
        config["lora"] |= {"alpha": adapter.scaled_by, "scale": adapter.scale}
    return About(
        name=run.name,
        group=grid_name() or run.experiment,
        folder=folder.path,
        config=config,
        id=folder.tracker_id,
        goes_on=folder.goes_on,
        experiment=run.experiment,
    )


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
