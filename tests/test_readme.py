"""What the documents tell a reader to type composes, and what they say is there is there."""

from __future__ import annotations

import re
import shlex
from itertools import product

import pytest

from sft_research.check import STRUCTURE, VALUES
from sft_research.config import ROOT, compose

README = (ROOT / "README.md").read_text()
DOCUMENTS = [
    README,
    (ROOT / "conf/train.yaml").read_text(),
    (ROOT / "sft_research/train.py").read_text(),
    *(file.read_text() for file in sorted((ROOT / "experiments").glob("*.yaml"))),
]
COMMANDS = sorted(
    {c for text in DOCUMENTS for c in re.findall(r"sft_research\.(?:train|preview)( [^\n#`│]*)", text)}
)
FLAGS = {
    "-m",
    "--help",
    "--cfg",
    "job",
    "--out",
    "page.html",
    "--config-dir",
    "RUN",
    "--config-name",
    "config",
}


def overrides(command: str) -> list[list[str]]:
    """The words of a command without flags, prose behind two spaces and placeholders; a grid's points."""
    words = [w for w in shlex.split(command.split("   ")[0].replace("FOLDER", ".")) if w not in FLAGS]
    choices = [[f"{w.partition('=')[0]}={v}" for v in w.partition("=")[2].split(",")] for w in words]
    return [list(point) for point in product(*choices)]


def section(title: str) -> str:
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_documents_hold_commands_of_every_kind() -> None:
    text = "\n".join(COMMANDS)
    for part in ("model=qwen3_thinking lora.r=32", "-m lora.r=8,16,32", "experiments=lora_rank", "--help"):
        assert part in text
    assert overrides(" -m lora.r=8,16 seed=1   a grid") == [["lora.r=8", "seed=1"], ["lora.r=16", "seed=1"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_documents_composes(command: str) -> None:
    for point in overrides(command):
        cfg = compose(point).cfg
        assert [message for rule in (*STRUCTURE, *VALUES) for message in rule(cfg)] == []


def test_a_comparison_of_the_documents_is_one_that_it_takes() -> None:
    from sft_research import compare

    said = re.findall(r"sft_research\.compare( [^\n#`]*)", README + (compare.__doc__ or ""))
    assert len(said) >= 5
    for command in said:
        assert compare._parse(shlex.split(command)).folders[0].parts[0] == "runs"


def test_the_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"make ([a-z]+)", README + (ROOT / "CONTRIBUTING.md").read_text()):
        assert target in targets


def test_the_tree_names_what_is_there_and_leaves_no_folder_out() -> None:
    listed = re.findall(r"^    ([\w./]+)", section("The tree"), re.MULTILINE)
    assert [name for name in listed if not (ROOT / name).exists()] == []
    files = [file for kind in ("py", "yaml", "md") for file in ROOT.glob(f"*/*.{kind}")]
    folders = {
        f"{file.parent.name}/" for file in files if file.parent.name[0] != "."
    }  # tools keep theirs there
    assert folders - {"runs/"} <= {name for name in listed if name.endswith("/")}


def test_the_pictures_and_files_that_are_linked_exist() -> None:
    linked = re.findall(r"\]\(([^)#:]+)\)", README)
    assert "docs/demo_curves.png" in linked
    assert [link for link in linked if not (ROOT / link).exists()] == []
