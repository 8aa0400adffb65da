"""What a comparison lacks, in words: how far its grids are, and each run that has no result, with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sft_research.comparison import Comparison
from sft_research.past_runs import PastRun
from sft_research.points import label, sorted_values, text
from sft_research.untrusted import line

# Those that somebody should look at first.
STATES = (
    "failed",
    "absent",
    "unfinished",
    "interrupted",
    "paused",
    "running",
    "waiting",
    "never started",
    "missing",
)
TO_COME = ("running", "waiting")  # of themselves
TO_DO = (
    *TO_COME,
    "never started",
    "interrupted",
    "unfinished",
)  # when the grid goes on, the failed ones again


def lacking(c: Comparison) -> list[tuple[str, list[str]]]:
    """(state, a line for each run with something to say, and for each point whose seeds have nothing to say)."""
    found: dict[str, list[str]] = {}
    silent: dict[tuple[str, str], list[object]] = {}
    for run in c.unfinished:
        if run.why:
            seed = f" seed={text(run.seed)}" if run.seed is not None else ""
            found.setdefault(run.state, []).append(line(f"{c.labels[run.folder]}{seed}: {run.why}", 400))
        else:
            silent.setdefault((run.state, c.labels[run.folder]), []).append(run.seed)
    for at, seed in c.missing:
        silent.setdefault(("missing", label(at)), []).append(seed)
    for (state, point), seeds in silent.items():
        listed = ",".join(text(seed) for seed in sorted_values(seeds) if seed is not None)
        found.setdefault(state, []).append(f"{point} seed={listed}" if listed else point)
    return [(state, found[state]) for state in STATES if state in found]


def progress(runs: Sequence[PastRun]) -> str:
    """`Of 36 runs that the grid plans, 3 are finished, 1 is running, 32 are waiting`; empty of what is done."""
    planned = [run for run in runs if run.grids]
    counts = Counter(run.state for run in planned)
    if counts["finished"] == len(planned):
        return ""
    words = [f"{counts[s]} {_is(s, counts[s])}{s}" for s in ("finished", *STATES) if counts[s]]
    grids = {grid for run in planned for grid in run.grids}
    who = "the grid plans" if len(grids) == 1 else f"{len(grids)} grids plan"
    return f"Of {len(planned)} runs that {who}, {', '.join(words)}"


def so_far(c: Comparison) -> str:
    """For a title: ` (3 of 36 runs)`, where a grid has not come to its end."""
    planned = [run for run in c.runs if run.grids]
    done = sum(run.state == "finished" for run in planned)
    return f" ({done} of {len(planned)} runs)" if to_do(c) else ""


def goes_on(c: Comparison) -> bool:
    """Whether more of what is planned comes of itself."""
    return any(run.state in TO_COME for run in c.unfinished)


def _is(state: str, count: int) -> str:
    return "" if state in ("failed", "never started") else "is " if count == 1 else "are "


def is_planned(c: Comparison, point: str, seeds: Sequence[object]) -> bool:
    """Whether the grid makes these runs of a point of itself."""
    coming = {(c.labels[run.folder], repr(run.seed)) for run in c.unfinished if run.state in TO_COME}
    return bool(seeds) and all((point, repr(seed)) in coming for seed in seeds)


def to_do(c: Comparison) -> list[PastRun]:
    """Runs of the grids that nobody has ended yet, one way or the other."""
    return [run for run in c.unfinished if run.grids and run.state in TO_DO]
