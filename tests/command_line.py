"""The command line as a person meets it, in a fresh process in which importing torch or transformers is fatal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from omegaconf import DictConfig

from sft_research.config import compose

# Python runs a `sitecustomize` it finds on its path before anything else. Looking for torch stays
# allowed, since its signatures are read; running it raises what no `except Exception` catches.
GUARD = """
import sys
from importlib.machinery import PathFinder

HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "unsloth", "wandb"}


class Imported(BaseException):
    pass


class Refusing:
    def create_module(self, spec):
        return None

    def exec_module(self, module):
        raise Imported(module.__name__)


class Guard:
    def find_spec(self, name, path=None, target=None):
        spec = PathFinder.find_spec(name, path) if name in HEAVY else None
        if spec:
            spec.loader = Refusing()
        return spec


sys.meta_path.insert(0, Guard())
"""


def python(arguments: Sequence[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter in `cwd` under the guard."""
    guard = cwd / ".guard"
    guard.mkdir(exist_ok=True)
    (guard / "sitecustomize.py").write_text(GUARD)
    path = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(guard), *path])} | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def train(arguments: Sequence[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m sft_research.train` in `cwd` under the guard."""
    return python(["-m", "sft_research.train", *arguments], cwd, **environment)


@cache
def composed(*overrides: str) -> DictConfig:
    """A run's config, composed once however many tests read it; one that changes it takes a copy."""
    return compose(overrides).cfg


def fixed(overrides: Sequence[str], *fix: str) -> list[str]:
    """The overrides after somebody took the advice: a fix replaces an override of the same key."""
    keys = {_key(override) for override in fix}
    return [*(override for override in overrides if _key(override) not in keys), *fix]


def _key(override: str) -> str:
    return re.split("=", override.lstrip("+~"))[0]
