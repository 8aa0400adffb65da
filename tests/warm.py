"""A process that has imported a backend once and forks a run at a time: of a tiny run, imports are most.

The child is `python -m sft_research.train` from there on, with arguments, folder and output of its own.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any


def started(arguments: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command line in a child of the process that holds its backend."""
    process, answers = _parent("transformers" if "backend=transformers" in arguments else "unsloth")
    assert process.stdin
    # A W&B service that a test has started in this process is none of the run's.
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    process.stdin.write(json.dumps([list(arguments), str(cwd), environment]) + "\n")
    process.stdin.flush()
    status, out, err = json.loads(answers.readline())
    return subprocess.CompletedProcess(list(arguments), status, out, err)


@cache
def _parent(backend: str) -> tuple[subprocess.Popen[str], IO[str]]:
    """Ends when this process does: its standard input is closed then."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.warm", backend, str(writing)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[writing],
        cwd=Path(__file__).parents[1],
        text=True,
    )
    os.close(writing)
    return process, os.fdopen(reading)


def _serve(backend: str, answers: IO[str]) -> None:
    from sft_research.config import build, compose

    build(compose([f"backend={backend}"]).cfg.backend).activate()
    from sft_research import metrics, preflight, prepare  # noqa: F401  (with trl, peft and torch)

    for line in iter(sys.stdin.readline, ""):
        arguments, cwd, environment = json.loads(line)
        outputs = [os.memfd_create(name) for name in ("out", "err")]
        child = os.fork()
        if child == 0:
            os.environ.clear()
            os.environ.update(environment)
            _become(arguments, cwd, outputs)
            return
        _, status = os.waitpid(child, 0)
        texts = [_whole(output) for output in outputs]
        print(json.dumps([os.waitstatus_to_exitcode(status), *texts]), file=answers, flush=True)


def _become(arguments: list[str], cwd: str, outputs: list[int]) -> Any:
    os.chdir(cwd)
    sys.path[0] = cwd
    for target, source in enumerate([os.open(os.devnull, os.O_RDONLY), *outputs]):
        os.dup2(source, target)
    sys.argv = ["sft_research/train.py", *arguments]
    sys.orig_argv = [sys.executable, "-m", "sft_research.train", *arguments]
    runpy.run_module("sft_research.train", run_name="__main__", alter_sys=True)


def _whole(output: int) -> str:
    with os.fdopen(output, "rb") as file:
        file.seek(0)
        return file.read().decode()


if __name__ == "__main__":
    _serve(sys.argv[1], os.fdopen(int(sys.argv[2]), "w"))
