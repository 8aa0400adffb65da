"""What Slurm's own commands say is read as they print it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft_research import scheduler
from sft_research.config import ConfigError
from sft_research.scheduler import Queued
from tests.fake_slurm import fake

QUEUE = """\
12_0|sft-aaaaaaaa-1|RUNNING|n1|None
12_3|sft-aaaaaaaa-1|PENDING||JobArrayTaskLimit
14|sft-aaaaaaaa-2|COMPLETING|n2|None
15_0|sft-bbbbbbbb-1|RUNNING|n3|None
16|somebody's own|RUNNING|n3|None
17|sft-aaaaaaaa-x|RUNNING|n3|None
"""


def test_the_jobs_of_a_grid_are_known_by_their_name_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, tmp_path / "bin", {"squeue": QUEUE})
    assert scheduler.queue("sft-aaaaaaaa") == {
        (1, 0): Queued("12_0", "RUNNING", "n1", "None"),
        (1, 3): Queued("12_3", "PENDING", "", "JobArrayTaskLimit"),
        (2, 0): Queued("14", "COMPLETING", "n2", "None"),
    }


@pytest.mark.parametrize(
    ("said", "most"),
    [("MaxJobCount             = 10000\nMaxArraySize            = 4\n", 4), ("MaxJobCount = 10000\n", 1000)],
)
def test_the_largest_array_is_the_clusters(
    said: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, tmp_path / "bin", {"scontrol": said})
    assert scheduler.largest_array() == most


SHOWN = "JobId=13 ArrayJobId=12 JobState=NODE_FAIL ExitCode=0:9 ReqNodeList=(null) NodeList=n7 NumNodes=1"


@pytest.mark.parametrize(
    ("scontrol", "sacct", "began", "said"),
    [
        (SHOWN, "", True, "job 12_1 was lost: NODE_FAIL, exit code 0:9, on n7"),
        (SHOWN, "", False, "job 12_1 did not begin: NODE_FAIL, exit code 0:9, on n7"),
        (1, "OUT_OF_MEMORY|0:125|n8\n", True, "job 12_1 was lost: OUT_OF_MEMORY, exit code 0:125, on n8"),
        (1, "", True, "job 12_1 was lost, and Slurm does not know it any more"),
        (1, 1, True, "job 12_1 was lost, and Slurm does not know it any more"),
        (
            1,
            1,
            False,
            "job 12_1 did not begin, and Slurm does not know it any more, as one that was cancelled",
        ),
    ],
)
def test_what_became_of_a_lost_job(
    scontrol: str | int,
    sacct: str | int,
    began: bool,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake(monkeypatch, tmp_path / "bin", {"scontrol": scontrol, "sacct": sacct})
    assert scheduler.fate("12_1", began) == said


def test_a_slurm_that_is_not_there_or_does_not_answer_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, tmp_path / "bin", {"squeue": 1})
    with pytest.raises(ConfigError) as refused:
        scheduler.queue("sft-aaaaaaaa")
    assert str(refused.value) == (
        "squeue failed: slurm_load_jobs error: Unable to contact slurm controller. "
        "Fix: hydra/launcher=local, or ask who runs the cluster"
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError) as missing:
        scheduler.queue("sft-aaaaaaaa")
    assert str(missing.value) == (
        "squeue: [Errno 2] No such file or directory: 'squeue'. Fix: hydra/launcher=local, or run this where Slurm is"
    )
