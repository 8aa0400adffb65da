"""Faults injected into grids on a real Slurm and a real Ray, and how many were survived: a table in Markdown.

python benchmarks/cluster.py            # what `make test-cluster` runs, on 2 processes

A fault is survived where every claim of its test holds: the others unharmed, nothing lost or run twice, and where
real runs are disturbed, the same bits.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from sft_research import hardware

ROOT = Path(__file__).parents[1]


class Faults:
    """What each test injects, and whether it passed: {fault: [True, False]}."""

    def __init__(self) -> None:
        self.of: dict[str, list[bool]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.failed:
            for name, fault in report.user_properties:
                if name == "fault":
                    self.of.setdefault(fault, []).append(report.passed)


def table(faults: Faults) -> str:
    rows = [f"| {fault} | {len(ends)} | {sum(ends)} |" for fault, ends in sorted(faults.of.items())]
    ends = [end for each in faults.of.values() for end in each]
    head = ["| fault | injected | survived |", "|---|--:|--:|"]
    return "\n".join([*head, *rows, f"| all | {len(ends)} | {sum(ends)} |"])


def main() -> int:
    os.chdir(ROOT)
    faults, began = Faults(), time.monotonic()
    status = pytest.main(["-m", "cluster", "-n", "2", "tests/cluster", *sys.argv[1:]], plugins=[faults])
    slurm = subprocess.run(["/usr/sbin/slurmctld", "-V"], capture_output=True, text=True).stdout.strip()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("submitit", "ray", "torch"))
    print(
        f"\n{time.strftime('%Y-%m-%d')}, {slurm}, {versions}, {hardware.cpu()}: {time.monotonic() - began:.0f} s"
    )
    print(f"\n{table(faults)}")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
