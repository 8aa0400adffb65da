"""A copy of the code and the options as they are when a grid is submitted: jobs that wait for hours run these.

Copied are this package with conf/ and experiments/, the folder of --config-dir, and the modules of the classes of
one's own that a configuration names.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_research import environment
from sft_research.checkpoint import write_json
from sft_research.config import ROOT
from sft_research.grid import Grid
from sft_research.point import Point

OURS = ("sft_research", "hydra_plugins", "conf", "experiments")
OPTIONS = "options"  # the copy of --config-dir


@dataclass(frozen=True)
class Frozen:
    folder: Path
    config_dir: str | None

    @property
    def setup(self) -> list[str]:
        """Shell lines after which Python imports the copy and not what lies in the working folder."""
        # The working folder last, where `python -m` puts it first: for what the classes of one's own import.
        path = os.pathsep.join(filter(None, [str(self.folder), os.environ.get("PYTHONPATH"), os.getcwd()]))
        return [f"export PYTHONPATH={shlex.quote(path)}", "export PYTHONSAFEPATH=1"]

    def command(self, point: Point) -> tuple[str, ...]:
        copied = str(self.folder / OPTIONS)
        return tuple(copied if word == self.config_dir else word for word in point.command)


def freeze(grid: Grid, place: Path) -> Frozen:
    """The copy in `place/<hash of its content>`; one that is there already is used again."""
    config_dir = grid.runs[0].config_dir
    sources = dict(_sources(grid, config_dir))
    content = hashlib.sha256()
    for name, file in sorted(sources.items()):
        content.update(f"{name}\0".encode() + file.read_bytes() + b"\0")
    folder = place / content.hexdigest()[:12]
    if not folder.is_dir():
        beside = place / f".{folder.name}.{os.getpid()}"
        for name, file in sources.items():
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, beside / name)
        write_json(beside / environment.GIT, environment.git())
        beside.rename(folder)
    return Frozen(folder, config_dir)


def _sources(grid: Grid, config_dir: str | None) -> Iterator[tuple[str, Path]]:
    """(name in the copy, file)"""
    inside = ROOT / "sft_research"
    package = ROOT.parent if not inside.is_dir() else ROOT  # a wheel's package carries conf/ itself
    for name in OURS:
        yield from _files(package / name, name)
    if config_dir:
        yield from _files(Path(config_dir), OPTIONS, "*.yaml")  # of a folder that may hold runs too
    for module in {target.partition(".")[0] for run in grid.runs for target in _targets(run.resolved)}:
        yield from _module(module)


def _files(folder: Path, name: str, pattern: str = "*") -> Iterator[tuple[str, Path]]:
    for file in folder.rglob(pattern):
        if file.is_file() and "__pycache__" not in file.parts:
            yield str(Path(name, file.relative_to(folder))), file


def _module(name: str) -> Iterator[tuple[str, Path]]:
    """The files of a top-level module that is not installed; what is installed stays as it is."""
    spec = importlib.util.find_spec(name) if name not in OURS else None
    installed = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib"))
    if (
        spec is None
        or not spec.origin
        or spec.origin.startswith(installed)
        or not os.path.isfile(spec.origin)
    ):
        return
    file = Path(spec.origin)
    if spec.submodule_search_locations:
        yield from _files(file.parent, name)
    else:
        yield file.name, file


def _targets(node: Any) -> Iterable[str]:
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from _targets(value)
