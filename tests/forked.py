"""Runs that are killed for real, cheaply: a process imports everything once and forks a child for each run.

A child can be killed at its n-th event: a file opened for writing, renamed or removed below its folder, or a
safe point passed (a step, a batch of an evaluation, a generated token). So a kill lands before, within and
after every save, and the same number is the same place again.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# The innermost function of these in which a run was killed names the stage.
STAGES = {
    "_save_checkpoint": "saving",
    "held_out_loss": "evaluating",
    "answer": "evaluating",
    "save": "finishing",
    "finish": "finishing",
    "_run_epoch": "training",
}


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit status, or minus the signal that killed it; and the stage of each event."""

    status: int
    stages: list[str]

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL


class Forker:
    """`with Forker() as forker: forker.run(overrides, cwd, stage="saving", at=17)`"""

    def __enter__(self) -> Forker:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def run(self, overrides: Sequence[str], cwd: Path, **fault: Any) -> Ended:
        """One run in `cwd`, its output appended to `cwd/said`.

        at=n: SIGKILL at the n-th event; stage=s: at the n-th of this stage; signal=k: that signal in its stead;
        kill_after=s: SIGKILL after s seconds; limit=b: no file may grow past b bytes.
        """
        assert self._process.stdin
        assert self._process.stdout
        asked = {"overrides": list(overrides), "cwd": str(cwd), **fault}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


def differences(a: Path, b: Path) -> list[str]:
    """In what the folders of two finished runs differ, bit by bit; times and speeds left out."""
    found = []
    weights = {folder: sorted(folder.glob("[am]*/*.safetensors")) for folder in (a, b)}  # adapter/ or model/
    if [file.read_bytes() for file in weights[a]] != [file.read_bytes() for file in weights[b]]:
        found.append("weights")
    assert weights[a]
    for name in ("samples.jsonl", "held_out.jsonl"):
        if (a / name).read_bytes() != (b / name).read_bytes():
            found.append(name)
    if rows(a) != rows(b):
        found.append("metrics.jsonl")
    results = [json.loads((folder / "result.json").read_text()) for folder in (a, b)]
    same = ("id", "loss_first", "loss_last", "before", "after", "steps", "tokens", "loss_tokens", "rows")
    return found + [key for key in same if results[0][key] != results[1][key]]


def rows(folder: Path) -> list[dict[str, float]]:
    """metrics.jsonl without what a clock decides."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    clocks = ("seconds", "time", "train/tokens_per_second")
    return [{key: value for key, value in line.items() if key not in clocks} for line in lines]


def _serve() -> None:
    """Answer each line with how its run ended."""
    import matplotlib.backends.backend_agg  # noqa: F401
    import peft  # noqa: F401
    import transformers  # noqa: F401

    import sft_research.train
    import sft_research.training  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        answers.write(json.dumps(_forked(json.loads(line))) + "\n")
        answers.flush()


def _forked(asked: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _be_the_run(asked, writing)
    os.close(writing)
    timer = None
    if "kill_after" in asked:
        timer = threading.Timer(asked["kill_after"], os.kill, (child, signal.SIGKILL))
        timer.start()
    with os.fdopen(reading) as told:
        stages = json.loads(told.read() or "[]")
    if timer:
        timer.cancel()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"status": status, "stages": stages}


def _be_the_run(asked: dict[str, Any], writing: int) -> None:
    """Never returns."""
    from sft_research import run
    from sft_research.config import ConfigError
    from sft_research.pausing import Paused
    from sft_research.stopping import Stopped

    os.chdir(asked["cwd"])
    said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if "limit" in asked:
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["limit"], asked["limit"]))
    events = _Events(asked, writing)
    status = 0
    try:
        events.watch()
        run(asked["overrides"])
    except Paused as paused:
        print(paused)
    except Stopped as stopped:
        status = stopped.status
    except ConfigError as error:
        print(error)
        status = 2
    except BaseException:
        traceback.print_exc()
        status = 1
    events.tell()
    sys.stdout.flush()
    os._exit(status)


class _Events:
    """Counts what happens in this process, and lets the asked signal fall."""

    def __init__(self, asked: dict[str, Any], writing: int) -> None:
        self.stages: list[str] = []
        self.at, self.stage = asked.get("at"), asked.get("stage")
        self.signal = asked.get("signal", signal.SIGKILL)
        self.below = asked["cwd"]
        self.writing = writing

    def watch(self) -> None:
        from sft_research import stopping

        sys.addaudithook(self._heard)
        requested, poll = stopping.requested, stopping.poll
        stopping.requested = lambda: (self._tick(), requested())[1]
        stopping.poll = lambda *saved: (self._tick(), poll(*saved))[1]

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _mode, flags = args
            changes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        else:
            path = args[0] if args else ""
            changes = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")
        if changes and isinstance(path, (str, os.PathLike)) and self._is_ours(path):
            self._tick()

    def _is_ours(self, path: Any) -> bool:
        place = os.path.abspath(os.fspath(path))
        # Notes of where a run is come by the clock: counted, no number would be the same place again.
        return place.startswith(self.below) and "state.json" not in os.path.basename(place)

    def _tick(self) -> None:
        stage = _stage()
        self.stages.append(stage)
        reached = self.stages.count(stage) if self.stage else len(self.stages)
        if reached == self.at and self.stage in (None, stage):
            if self.signal == signal.SIGKILL:
                self.tell()
            os.kill(os.getpid(), self.signal)

    def tell(self) -> None:
        os.write(self.writing, json.dumps(self.stages).encode())


def _stage() -> str:
    frame = sys._getframe()
    while frame := frame.f_back:
        code = frame.f_code
        if code.co_name in STAGES and ("sft_research" in code.co_filename or code.co_name == "_run_epoch"):
            return STAGES[code.co_name]
    return "loading"


if __name__ == "__main__":
    _serve()
