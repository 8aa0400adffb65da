"""What the ranks of a run tell each other, in two processes that do nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sft_research import ranks

PROCESS = """
import json, os, signal
from pathlib import Path
import torch
from sft_research import ranks, stopping

rank, found = ranks.rank(), {}


def stopped_by(call):
    try:
        call()
    except stopping.Stopped as stopped:
        return [stopped.number, stopped.step]


def told_while_it_answers():
    os.kill(os.getpid(), signal.SIGTERM)
    stopping.poll()


with ranks.joined(2):
    found["gather"] = ranks.gather("ab"[rank])
    found["by_first"] = ranks.by_first(lambda: 41 + rank)
    found["total"] = ranks.total(rank + 1)
    found["added"] = [each.item() for each in ranks.added([torch.tensor(rank + 0.5), torch.tensor(2.0)], "cpu")]
    with stopping.listening(stopping.heed):
        found["in_turns"] = list(ranks.in_turns("xyz"[: 2 * rank]))
        found["requested"] = [stopping.requested()]
        if rank == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        found["requested"].append(stopping.requested())
        found["poll"] = stopped_by(lambda: stopping.poll(7))
        found["turn"] = stopped_by(lambda: list(ranks.in_turns("x")))
    with stopping.listening(stopping.heed):
        found["answering"] = stopped_by(lambda: ranks.by_first(told_while_it_answers))
Path(f"{rank}.json").write_text(json.dumps(found))
"""


def test_ranks_agree(tmp_path: Path) -> None:
    meet = {"WORLD_SIZE": "2", ranks.MEET: str(tmp_path / "meet"), ranks.THREADS: "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            cwd=tmp_path,
            env=os.environ | meet | {"RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert (first.pop("in_turns"), second.pop("in_turns")) == ([], ["x", "y"])
    assert first == second
    assert first == {
        "gather": ["a", "b"],
        "by_first": 41,
        "total": 3,  # 1 + 2
        "added": [2.0, 4.0],  # 0.5 + 1.5 and 2 + 2
        "requested": [False, True],  # the signal came to rank 1
        "poll": [10, 7],
        "turn": [10, None],
        "answering": [15, None],  # it came to rank 0, while rank 1 waited
    }


def test_a_process_alone_is_rank_0_of_1(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (None, "", "1"):
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        if size is not None:
            monkeypatch.setenv("WORLD_SIZE", size)
        monkeypatch.setenv("RANK", "3")  # of something else, such as a scheduler
        assert (ranks.rank(), ranks.count(), ranks.first()) == (0, 1, True)
    with ranks.joined(1):
        assert ranks.gather("a") == ["a"]
        assert (ranks.by_first(lambda: 41), ranks.total(5), ranks.added([2, 3], "cpu")) == (41, 5, [2, 3])
        assert list(ranks.in_turns("xy")) == ["x", "y"]
