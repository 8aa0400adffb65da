"""A run on two devices, here processes on the CPU: it has the numbers of one, and stops, fails and goes on as one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from sft_research import held_out, other_ranks
from sft_research.other_ranks import RankFailed
from sft_research.pausing import pauses
from tests import misbehaving, runs
from tests.forked import differences
from tests.runs import TINY, Done, started, train

# Six steps of 2 x 4 rows; held-out losses and checkpoints after steps 2, 4 and 6.
OVERRIDES = (
    *TINY,
    "backend=transformers",
    "tracking=none",
    "training.per_device_train_batch_size=4",
    "devices=2",
    *misbehaving.OVERRIDES,
)


def run(place: Path, overrides: Sequence[str] = OVERRIDES, **fault: int | str) -> Done:
    misbehaving.prepare(place, **fault)  # type: ignore[arg-type]
    done = train(overrides, place)
    assert nobody_is_left_in(place), done.err
    # What libraries say that the process it is forked from has loaded.
    theirs = re.compile(r"^(\[rank0\]:\[W|\[transformers\]|\t).*\n", re.MULTILINE)
    return replace(done, err=theirs.sub("", done.err))


def nobody_is_left_in(place: Path) -> bool:
    """Whether no process has this working directory, soon."""
    until = time.monotonic() + 10
    while found := [p for p in Path("/proc").glob("[0-9]*") if _cwd(p) == str(place)]:
        if time.monotonic() > until:
            print(found)
            return False
        time.sleep(0.1)
    return True


def _cwd(process: Path) -> str:
    try:
        return os.readlink(process / "cwd")
    except OSError:
        return ""


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Done:
    done = run(tmp_path_factory.mktemp("untouched"))
    assert done.status == 0, done.out + done.err
    return done


def test_two_devices_train_as_one_with_their_batch(untouched: Done, trained: Callable[..., Done]) -> None:
    """48 rows, 8 a step: 4 of rank 0 and the next 4 of rank 1, which one device has in one batch of 8."""
    alone = trained("backend=transformers", "tracking=none")
    for key in ("train/loss", "train/grad_norm", "train/entropy", "eval/loss"):
        assert untouched.series(key) == pytest.approx(alone.series(key), rel=1e-5), key
    for key in ("loss_tokens", "tokens", "packing/examples", "train/learning_rate"):
        assert untouched.series(key) == alone.series(key), key
    assert untouched.series("packing/examples") == [8.0] * 6
    assert (untouched.result["devices"], untouched.result["loss_tokens"]) == (2, alone.result["loss_tokens"])
    one, two = (
        load_file(done.folder / "adapter" / "adapter_model.safetensors") for done in (alone, untouched)
    )
    assert one.keys() == two.keys()
    for name, weights in one.items():
        assert np.linalg.norm(weights - two[name]) <= 1e-5 * np.linalg.norm(weights), name
    files = [done.folder / held_out.NAME for done in (alone, untouched)]
    rows = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    assert [row["row"] for row in rows[1]] == [row["row"] for row in rows[0]]
    assert [row["nll"] for row in rows[1]] == pytest.approx([row["nll"] for row in rows[0]], rel=1e-5)
    assert len(rows[1]) == 8
    assert untouched.result["before"] | {"loss": 0} == alone.result["before"] | {"loss": 0}


def test_what_a_person_sees_is_what_one_process_says(untouched: Done) -> None:
    assert "on 2 devices, with this memory on each" in untouched.out
    assert untouched.out.count("56 rows as tokens") == 1
    assert untouched.out.count("6 of 6 proofs hold") == 1
    assert untouched.err == ""
    assert len(untouched.series("train/loss")) == 6


def test_a_run_that_pauses_does_so_in_both_ranks_and_goes_on_to_the_same_bits(
    untouched: Done, tmp_path: Path
) -> None:
    """Half of six steps is three; no loss is due there, so that both measure it, half of the rows each."""
    paused = run(tmp_path, [*OVERRIDES, "pause_at=0.5"])
    assert (paused.status, (paused.folder / "result.json").exists()) == (0, False), paused.err
    (noted,) = pauses(paused.folder)
    third = [row for row in untouched.metrics if "train/loss" in row][2]
    assert (noted.step, noted.loss_tokens) == (3, third["loss_tokens"])
    at_two, at_four = untouched.series("eval/loss")[1:3]
    assert at_four < (noted.loss or 0) < at_two
    assert run(tmp_path).status == 0
    assert differences(untouched.folder, paused.folder) == []


def test_a_signal_to_one_rank_stops_both_after_the_same_step_and_they_go_on_to_the_same_bits(
    untouched: Done, tmp_path: Path
) -> None:
    stopped = run(tmp_path, rank=1, step=3, what=signal.SIGUSR2)
    assert stopped.status == 140, stopped.err
    assert stopped.err.startswith("Interrupted by SIGUSR2 at step 3. The same command goes on from there.")
    place = stopped.folder / "checkpoints" / "checkpoint-3"
    states = sorted(file.name for file in place.glob("rng_state*"))
    assert states == ["rng_state_0.pth", "rng_state_1.pth"]
    failure = json.loads((stopped.folder / "failure.json").read_text())
    assert (failure["status"], failure["step"]) == ("interrupted", 3)
    again = run(tmp_path)
    assert again.status == 0, again.err
    assert "Goes on from step 3." in again.out
    assert differences(untouched.folder, again.folder) == []


@pytest.mark.long
def test_a_rank_that_is_killed_ends_the_run_and_the_same_command_goes_on(
    untouched: Done, tmp_path: Path
) -> None:
    killed = run(tmp_path, rank=1, step=3, what=signal.SIGKILL)
    assert killed.status == 1
    assert killed.err.startswith("RankFailed: rank 1 of this run was killed by signal 9\n")
    failure = json.loads((killed.folder / "failure.json").read_text())
    assert (failure["error"], failure["step"]) == ("RankFailed", 3)
    killed = run(tmp_path, rank=0, step=1, what=signal.SIGKILL)  # step 3, from checkpoint 2
    assert killed.status == -signal.SIGKILL
    again = run(tmp_path)
    assert again.status == 0, again.err
    assert "Goes on from step 2." in again.out
    assert differences(untouched.folder, again.folder) == []


@pytest.mark.long
def test_an_error_of_another_rank_is_the_runs(tmp_path: Path) -> None:
    failed = run(tmp_path, rank=1, step=2, what="raises")
    assert failed.status == 1
    said = "rank 1 of this run ended with status 1, and said: ValueError: a bad day"
    assert failed.err.startswith(f"RankFailed: {said}\n")
    failure = json.loads((failed.folder / "failure.json").read_text())
    assert failure["message"] == said
    log = (failed.folder / "train.log").read_text()
    assert 'raise ValueError("a bad day")' in log


@pytest.mark.long
def test_ranks_that_torchrun_starts_are_taken(untouched: Done, tmp_path: Path) -> None:
    misbehaving.prepare(tmp_path)
    done = runs.torchrun(2, OVERRIDES, tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / untouched.folder.relative_to(untouched.folder.parents[2])
    assert differences(untouched.folder, folder) == []
    assert done.stdout.count("6 of 6 proofs hold") == 1
    again = runs.torchrun(2, OVERRIDES, tmp_path)
    assert again.returncode == 0
    assert again.stdout.count("This run is finished already") == 1


# Programs that stand for ranks ----------------------------------------------------------------------


def beside(code: str, others: int = 1) -> Any:
    """Ranks that are `python -c CODE`."""
    stands_for: Any = SimpleNamespace(cfg=SimpleNamespace(devices=others + 1), words=["-c", code])
    return other_ranks.beside(stands_for, pytest.fail)


WAITS = "import sys; sys.stdin.read()"  # as each does that has nothing to say: it ends with the run


def test_each_rank_is_told_who_it_is_and_shares_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS")
    code = f"import os; open('{tmp_path}/' + os.environ['RANK'], 'w').write(' '.join(map(os.environ.get, {names})))"
    with beside(code, others=2):
        assert [os.environ[name] for name in names] == ["0", "0", "3", "3", "2"]  # 7 threads for 3
    assert [(tmp_path / rank).read_text() for rank in "12"] == ["1 1 3 3 2", "2 2 3 3 2"]
    assert (os.environ.get("RANK"), os.environ["OMP_NUM_THREADS"]) == (None, "7")


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("import sys; sys.exit('no such drawer')", RuntimeError("[gloo] Connection closed by peer"),
         "rank 1 of this run ended with status 1, and said: no such drawer"),
        ("import os; os.kill(os.getpid(), 9)", RuntimeError("Connection reset by peer"),
         "rank 1 of this run was killed by signal 9"),
        ("import sys; sys.exit(143)", RuntimeError("Connection closed by peer"), "Connection closed by peer"),
        (WAITS, RuntimeError("no such layer"), "no such layer"),
    ],
    ids=["failed", "killed", "stopped", "own"],
)  # fmt: skip
def test_the_rank_that_was_lost_is_named_and_no_other(
    code: str, error: RuntimeError, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_ranks, "LEAVE_S", 3.0)
    with pytest.raises(RuntimeError) as raised, beside(code):
        raise error
    assert str(raised.value) == message
    assert (raised.value is error) == (message == str(error))


def test_a_rank_that_failed_is_named_and_not_one_that_waited_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 1 has lost rank 2, and ends first."""
    monkeypatch.setattr(other_ranks, "LEAVE_S", 20.0)
    code = (
        "import os, sys, time\n"
        "if os.environ['RANK'] == '1': sys.exit('RuntimeError: [gloo] Connection reset by peer')\n"
        "time.sleep(1); sys.exit('no such drawer')"
    )
    with pytest.raises(RankFailed) as raised, beside(code, others=2):
        raise RuntimeError("Connection closed by peer")
    assert str(raised.value) == "rank 2 of this run ended with status 1, and said: no such drawer"


# Its main thread waits in C, as it does for a GPU: no exception can be raised in it.
STUCK = """
import sys, threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from sft_research import other_ranks
other_ranks.LOOK_S = other_ranks.NOTICE_S = 0.2
broken, waits = "import sys; sys.exit('broken')", "import sys; sys.stdin.read()"
words = ["-c", f"import os; exec({broken!r} if os.environ['RANK'] == '2' else {waits!r})"]
run = SimpleNamespace(cfg=SimpleNamespace(devices=3), words=words)
with other_ranks.beside(run, lambda error: Path("left").write_text(str(error))):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=60)
"""


def test_a_run_that_waits_for_a_lost_rank_where_nothing_can_be_raised_ends_too(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", STUCK], cwd=tmp_path, timeout=50)
    assert done.returncode == 1
    assert (tmp_path / "left").read_text() == "rank 2 of this run ended with status 1, and said: broken"
    assert nobody_is_left_in(tmp_path)


def test_a_rank_ends_with_its_run_wherever_it_is(tmp_path: Path) -> None:
    """The run is killed; the rank is in a call that no exception reaches."""
    rank = "from sft_research.other_ranks import end_with_the_run; end_with_the_run(); import time; time.sleep(60)"
    run = (
        "import os, time\nfrom types import SimpleNamespace\nfrom sft_research import other_ranks\n"
        f"run = SimpleNamespace(cfg=SimpleNamespace(devices=2), words=['-c', {rank!r}])\n"
        "with other_ranks.beside(run, print):\n    time.sleep(2)\n    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", run], cwd=tmp_path, timeout=50)
    assert done.returncode == -signal.SIGKILL
    assert nobody_is_left_in(tmp_path)


def test_a_finished_run_answers_without_starting_ranks(untouched: Done) -> None:
    place = untouched.folder.parents[2]
    again = started(OVERRIDES, place)
    assert again.returncode == 0
    assert "This run is finished already" in again.stdout
