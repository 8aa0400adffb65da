"""`environment.json`: what a result depends on beside its config."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from sft_research import hardware, lock
from sft_research.config import ROOT

GIT = "git.json"
# Packages of which a comparison says that they differ.
DECIDING = (
    "sft_research", "torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes",
    "unsloth", "unsloth_zoo", "hydra-core", "omegaconf", "wandb", "tokenizers", "numpy",
)  # fmt: skip
LIMITS = ("RLIMIT_FSIZE", "RLIMIT_AS", "RLIMIT_NOFILE")


def describe(fingerprint: str, model_revision: str | None = None) -> dict[str, Any]:
    """Versions, git state, limits, hardware, data fingerprint, model revision and command of this process."""
    import torch

    return {
        "command": [Path(sys.executable).name, *sys.orig_argv[1:]],
        "working_folder": os.getcwd(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages(),
        "limits": limits(),
        "git": git(),
        "host": lock.host(),
        "cpu": hardware.cpu(),
        "cpu_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "dataset_fingerprint": fingerprint,
        "model_revision": model_revision,
    }


def packages() -> dict[str, str]:
    """Name and version of all that is installed; of one that is there twice, what is imported."""
    found: dict[str, str] = {}
    for each in metadata.distributions():
        said = each.metadata  # which is read anew each time that it is asked for
        if said["Name"]:  # none in what an installation that was cut short has left
            found.setdefault(said["Name"], said["Version"])
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def limits() -> dict[str, int]:
    """Of bytes of a file and of memory, and of open files: those that are set (`ulimit`)."""
    found = {name: resource.getrlimit(getattr(resource, name))[0] for name in LIMITS}
    return {name: limit for name, limit in found.items() if limit != resource.RLIM_INFINITY}


def git() -> dict[str, Any] | None:
    """Commit, uncommitted changes and new files of the code that ran; None outside a checkout.

    A frozen copy of the code carries what was true of the checkout.
    """
    if (ROOT / GIT).is_file():
        return json.loads((ROOT / GIT).read_text())

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=20
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if not commit:
        return None
    new = ask("ls-files", "--others", "--exclude-standard") or ""
    return {"commit": commit, "diff": ask("diff", "HEAD") or "", "untracked": new.splitlines()}
