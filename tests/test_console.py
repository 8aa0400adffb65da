"""What a person sees, and what goes to train.log."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from sft_research.console import captured, library_bars_off, speaking

log = logging.getLogger("sft_research.test")


def test_our_messages_reach_the_terminal_only_while_we_speak(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("before")
    with speaking() as stream:
        log.info("now")
        stream.write("bar\n")
    log.info("after")
    assert capsys.readouterr().out == "now\nbar\n"


def test_a_run_outlives_who_reads_what_it_says() -> None:
    """Ctrl-C ends `| tee` too, and the run has yet to save."""
    code = """
import os, signal, sys
from tqdm import tqdm
from sft_research import stopping
from sft_research.command import ending
from sft_research.console import speaking

with ending(), stopping.listening(), stopping.at_safe_points(), speaking() as console:
    with tqdm(total=2, file=console) as bar:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGINT)
        bar.update(1)
        bar.refresh()
    console.write("saved\\n" * 9999)
    console.flush()
    stopping.poll(saved=2)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdin
    assert process.stdout
    process.stdout.close()
    process.stdin.close()
    assert process.wait(60) == 130


def test_what_libraries_say_goes_to_the_file_and_not_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with captured(tmp_path / "train.log"):
        print("printed")
        print("complained", file=sys.stderr)
        logging.getLogger("library").warning("logged")
        warnings.warn("warned", UserWarning, stacklevel=1)
    logging.getLogger("library").warning("later")
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert lines[:2] == ["printed", "complained"]
    assert lines[2].endswith(" library WARNING logged")
    assert "UserWarning: warned" in lines[3]
    assert "later" not in (tmp_path / "train.log").read_text()
    assert capsys.readouterr().out == ""


def test_our_messages_reach_both_while_a_run_is_captured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with speaking(), captured(tmp_path / "train.log"):
        log.info("both")
    assert capsys.readouterr().out == "both\n"
    assert (tmp_path / "train.log").read_text().endswith(" sft_research.test INFO both\n")


def test_the_file_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_thisIsASecret")
    with captured(tmp_path / "train.log"):
        print("token hf_thisIsASecret")
    assert (tmp_path / "train.log").read_text() == "token ***\n"


def test_a_second_capture_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    for word in ("one", "two"):
        with captured(tmp_path / "train.log"):
            print(word)
    assert (tmp_path / "train.log").read_text() == "one\ntwo\n"


def test_the_bars_of_libraries_are_off_inside_and_as_they_were_outside() -> None:
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    for before in (False, True):
        (disable_progress_bars if before else enable_progress_bars)()
        with library_bars_off():
            assert are_progress_bars_disabled() is True
        assert are_progress_bars_disabled() is before
    enable_progress_bars()
