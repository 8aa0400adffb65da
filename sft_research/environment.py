"""`environment.json`: what a result depends on beside its config."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from sft_research import hardware, lock
from sft_research.config import ROOT

GIT = "git.json"
PACKAGES = (
    "sft_research", "torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes",
    "unsloth", "unsloth_zoo", "hydra-core", "omegaconf", "wandb", "tokenizers", "numpy",
)  # fmt: skip


def describe(fingerprint: str, model_revision: str | None = None) -> dict[str, Any]:
    """Versions, git state, hardware, data fingerprint, model revision and command of this process."""
    import torch

    return {
        "command": [Path(sys.executable).name, *sys.orig_argv[1:]],
        "working_folder": os.getcwd(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "git": git(),
        "host": lock.host(),
        "cpu": hardware.cpu(),
        "cpu_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "dataset_fingerprint": fingerprint,
        "model_revision": model_revision,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


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
