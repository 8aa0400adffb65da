"""Jobs run the code and the options of the moment of their submission."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sft_research.frozen import Frozen, freeze
from tests.grids import grid


def frozen(place: Path, targets: list[str], config_dir: Path | None = None) -> Frozen:
    """The copy for a grid whose runs name these classes."""
    made = grid(place, {"a": ""})
    resolved = {"optimizer": {"_target_": targets[0]}, "parts": [{"_target_": t} for t in targets[1:]]}
    runs: Any = [SimpleNamespace(config_dir=config_dir and str(config_dir), resolved=resolved)]
    made.runs = runs
    return freeze(made, place / "code")


@pytest.fixture
def working(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a module, a package, and options of one's own."""
    (tmp_path / "own_module.py").write_text("SAYS = 'first'\n")
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").write_text("")
    (tmp_path / "own_package" / "parts.py").write_text("SAYS = 'first'\n")
    (tmp_path / "beside.py").write_text("SAYS = 'not named by any config'\n")
    (tmp_path / "options" / "lora").mkdir(parents=True)
    (tmp_path / "options" / "lora" / "mine.yaml").write_text("r: 8\n")
    (tmp_path / "options" / "weights.bin").write_text("large")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def says(frozen: Frozen, code: str, cwd: Path) -> str:
    """What Python prints in a job."""
    lines = "\n".join([*frozen.setup, f'exec {sys.executable} -c "$0"'])
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        ["bash", "-c", lines, code], cwd=cwd, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_a_job_imports_what_was_there_at_submission(working: Path) -> None:
    made = frozen(working, ["own_module.Optimizer", "own_package.parts.Part", "torch.optim.SGD"])
    (working / "own_module.py").write_text("raise RuntimeError('edited')\n")
    (working / "own_package" / "parts.py").write_text("raise RuntimeError('edited')\n")
    code = "import own_module, own_package.parts, sft_research; "
    code += "print(own_module.SAYS, own_package.parts.SAYS, sft_research.__file__)"
    assert says(made, code, working).split() == [
        "first", "first", str(made.folder / "sft_research" / "__init__.py"),
    ]  # fmt: skip
    assert not (made.folder / "torch").exists()


def test_what_a_class_of_ones_own_imports_is_found_where_it_was(working: Path) -> None:
    made = frozen(working, ["own_module.Optimizer"])
    assert says(made, "import beside; print(beside.SAYS)", working / "options") == "not named by any config\n"


def test_options_of_ones_own_are_copied_and_the_command_reads_the_copy(working: Path) -> None:
    made = frozen(working, ["own_module.Optimizer"], working / "options")
    (working / "options" / "lora" / "mine.yaml").write_text("r: 64\n")
    point = SimpleNamespace(command=("python", "--config-dir", str(working / "options"), "lora=mine"))
    copied = made.folder / "options"
    assert made.command(point) == ("python", "--config-dir", str(copied), "lora=mine")  # type: ignore[arg-type]
    assert (copied / "lora" / "mine.yaml").read_text() == "r: 8\n"
    assert not (copied / "weights.bin").exists()


def test_what_did_not_change_is_copied_once_and_what_did_apart(working: Path) -> None:
    first = frozen(working, ["own_module.Optimizer"])
    assert frozen(working, ["own_module.Optimizer"]).folder == first.folder
    (working / "own_module.py").write_text("SAYS = 'second'\n")
    second = frozen(working, ["own_module.Optimizer"])
    assert second.folder != first.folder
    assert {folder.name for folder in (working / "code").iterdir()} == {first.folder.name, second.folder.name}
