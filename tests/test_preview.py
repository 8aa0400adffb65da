"""`python -m sft_research.preview` shows what `train` would train on, and refuses what it would refuse."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sft_research.config import ROOT
from sft_research.preview import _parse, _write
from tests.command_line import python, train
from tests.runs import TINY, Done

PREVIEW = ("-m", "sft_research.preview")


def preview(arguments: Sequence[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *PREVIEW, *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def number(said: str, row: str) -> list[str]:
    """The values behind a row of a table."""
    (line,) = re.findall(rf"^    {row}  +(.*)$", said, re.MULTILINE)
    return line.split()


# Without torch -------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_the_flags_and_imports_no_torch(flag: str, tmp_path: Path) -> None:
    done = python([*PREVIEW, flag], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for said in (
        "--examples N",
        "--ids",
        "--out PAGE.html",
        "--config-dir FOLDER",
        "sft_research.train --help",
    ):
        assert said in done.stdout


@pytest.mark.parametrize(
    "typed",
    ["lora.rank=8", "packing=null", "lora.r=0", "model.name=./nothing", "dataset=file dataset.path=no.jsonl"],
)
def test_a_wrong_config_is_refused_in_the_words_of_train(typed: str, tmp_path: Path) -> None:
    refused, by_train = python([*PREVIEW, *shlex.split(typed)], tmp_path), train(shlex.split(typed), tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Fix: " in by_train.stderr or "Did you mean" in by_train.stderr
    assert refused.stderr == by_train.stderr


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("-m seed=0,1", "a preview is of one run, and -m makes several. Fix: leave out -m\n"),
        ("--examples -1", "--examples -1 is no number of rows. Fix: --examples 3\n"),
        (
            "--out no/page.html",
            "--out no/page.html is in no, and there is no such folder. Fix: --out preview.html\n",
        ),
        ("--out .", "--out . is a folder. Fix: --out preview.html\n"),
    ],
)
def test_a_wrong_flag_is_refused_before_anything_loads(typed: str, message: str, tmp_path: Path) -> None:
    done = python([*PREVIEW, *shlex.split(typed)], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def test_our_flags_may_stand_anywhere_and_the_rest_is_hydra_s() -> None:
    options, rest = _parse(
        ["model=tiny", "--ids", "--cfg", "job", "--examples=5", "--config-dir", "a", "lora.r=8"]
    )
    assert (options.ids, options.examples, options.out) == (True, 5, None)
    assert rest == ["model=tiny", "--cfg", "job", "lora.r=8", "--config-dir", "a"]


def test_a_page_that_cannot_be_written_leaves_the_old_one_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        _write(tmp_path / "page.html", "half \ud800")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"page.html": "old"}


# Whole ---------------------------------------------------------------------------------------------


def test_it_shows_the_tokens_that_the_run_then_counts(trained: Callable[..., Done], tmp_path: Path) -> None:
    result = trained().result  # one epoch
    done = preview([*TINY, "--out", "page.html"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        number(done.stdout, "examples") == [str(result["rows"]), str(result["held_out_rows"])] == ["48", "8"]
    )
    assert number(done.stdout, "tokens")[0] == f"{result['tokens']:,}"
    assert number(done.stdout, "trained tokens")[0] == f"{result['loss_tokens']:,}"
    assert f"{result['steps']}" == re.findall(r"^  > none +48 +(\d+)", done.stdout, re.MULTILINE)[0]
    page = (tmp_path / "page.html").read_text()
    assert f"<td>tokens</td><td>{result['tokens']:,}</td>" in page
    assert shlex.join(["python", *PREVIEW, *TINY, "--out", "page.html"]) in page
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]  # no run's folder, no Hydra litter


NO_HELD_OUT = ("dataset.held_out=0", "evaluation.questions=0", "training.eval_strategy=no")


def test_a_row_is_shown_as_the_model_reads_it_and_no_key_is(tmp_path: Path) -> None:
    says = {"role": "assistant", "content": "né sk-1234abcd"}
    row = json.dumps({"messages": [{"role": "user", "content": "a"}, says]})
    (tmp_path / "rows.jsonl").write_text(f"{row}\n{row}\n")
    rows = ("model=smollm2", "dataset=file", "dataset.path=rows.jsonl", *NO_HELD_OUT)
    done = preview([*rows, "--examples", "1", "--out", "p.html"], tmp_path, MY_API_KEY="sk-1234abcd")
    assert done.returncode == 0, done.stderr
    assert "  <|im_start|>│user│↵\n  a│<|im_end|>│↵\n  <|im_start|>│ass│istant│↵\n  ⟦n│é│***│" in done.stdout
    assert "  ! 1 training rows repeat an earlier one, token for token.\n" in done.stdout
    assert "sk-" not in done.stdout + (tmp_path / "p.html").read_text()


def test_a_terminal_gets_colours_unless_it_says_no() -> None:
    def on_a_terminal(**environment: str) -> str:
        code = "from sft_research.preview import _in_colour; print(_in_colour())"
        master, slave = pty.openpty()
        subprocess.run(
            [sys.executable, "-c", code], stdout=slave, env=os.environ | environment, cwd=ROOT, check=True
        )
        os.close(slave)
        return os.read(master, 100).decode().strip()

    assert on_a_terminal(TERM="xterm", NO_COLOR="") == "True"
    assert on_a_terminal(TERM="xterm", NO_COLOR="0") == "False"
    assert on_a_terminal(TERM="dumb", NO_COLOR="") == "False"


def test_rows_that_cannot_be_taken_are_said_as_train_says_them(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "no messages"}\n')
    done = preview(["model=tiny", "dataset=file", "dataset.path=rows.jsonl", *NO_HELD_OUT], tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "rows.jsonl:1: " in done.stderr
    assert "Traceback" not in done.stderr
