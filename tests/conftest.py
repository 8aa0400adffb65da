"""Models and runs that several test files share. Made once, kept in the user's cache like a run's own."""

from __future__ import annotations

import os

# Before any library reads them: no hub, no accelerator, one thread pool a process.
os.environ.update(
    HF_HUB_OFFLINE="1",
    UNSLOTH_DISABLE_STATISTICS="1",
    TOKENIZERS_PARALLELISM="false",
    WANDB_SILENT="true",
    OMP_NUM_THREADS="1",  # as many tests as cores run at once
)
for name in ("WANDB_API_KEY", "WANDB_MODE", "HF_TOKEN"):
    os.environ.pop(name, None)

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sft_research import smollm2, tiny
from sft_research.config import compose
from tests import forked, qwen3, runs


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    return smollm2.folder()


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    return tiny.folder()


@pytest.fixture(scope="session")
def qwen3_folder() -> Path:
    """A random two-layer Qwen3 with the real tokenizer, vocabulary and chat template."""
    return qwen3.folder()


@pytest.fixture(scope="session")
def tokenizers(smollm2_folder: Path, qwen3_folder: Path, tiny_folder: Path) -> dict[str, Any]:
    from tests import templates  # with transformers, which not every test file needs

    return templates.make(smollm2_folder, qwen3_folder, tiny_folder)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., runs.Done]:
    """A finished tiny run with these overrides, trained once however many tests ask for it."""
    cwd = tmp_path_factory.mktemp("trained")

    @cache
    def train(*overrides: str) -> runs.Done:
        done = runs.train([*runs.TINY, *overrides], cwd)
        assert done.status == 0, done.out + done.err
        return done

    return train


@pytest.fixture(scope="session")
def forker() -> Iterator[forked.Forker]:
    """Starts runs that are to be killed."""
    with forked.Forker() as made:
        yield made


@pytest.fixture(scope="session")
def untouched(
    forker: forked.Forker, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Path, forked.Ended]]:
    """The folder of a run with these overrides that nobody interrupted, and the events it had."""

    @cache
    def made(*overrides: str) -> tuple[Path, forked.Ended]:
        place = tmp_path_factory.mktemp("untouched")
        ended = forker.run(overrides, place)
        assert ended.status == 0, (place / "said").read_text()
        return place / compose(overrides).folder, ended

    return made
