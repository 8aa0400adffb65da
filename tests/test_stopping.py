"""What a signal does: at once where nothing is to be saved, else at the next safe point."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sft_research import stopping
from sft_research.stopping import Stopped
from tests.runs import python

STARTED = """
import os, signal, sys, time
from sft_research import stopping
from sft_research.command import ending
"""


def ended(code: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", STARTED + code], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 138), ("SIGUSR2", 140)]
)
def test_while_nothing_is_to_be_saved_a_signal_ends_the_run_with_its_own_status(
    name: str, status: int
) -> None:
    code = f"""
with ending(), stopping.listening():
    with stopping.at_safe_points():
        pass  # an earlier part of the run
    os.kill(os.getpid(), signal.{name})
    time.sleep(10)
"""
    said = f"Interrupted by {name} before its first checkpoint. The same command starts it again.\n"
    assert ended(code) == (status, said)


def test_at_safe_points_it_waits_for_one() -> None:
    code = """
with ending(), stopping.listening(), stopping.at_safe_points():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)  # which asks for nothing more
    print("a step is finished", file=sys.stderr)
    stopping.poll(saved=12)
    print("never said", file=sys.stderr)
"""
    status, said = ended(code)
    assert status == 143
    assert said.split("\n\n")[-1].splitlines()[-2:] == [
        "a step is finished",
        "Interrupted by SIGTERM at step 12. The same command goes on from there.",
    ]


def test_a_second_ctrl_c_leaves_at_once() -> None:
    code = """
with ending(), stopping.listening(), stopping.at_safe_points():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    print("never said", file=sys.stderr)
"""
    status, said = ended(code)
    assert (status, said) == (-signal.SIGINT, stopping.NOTED_CTRL_C.decode())


def test_where_nothing_is_left_to_stop_only_a_second_ctrl_c_is_heard() -> None:
    code = """
with ending(), stopping.listening():
    stopping.too_late()
    os.kill(os.getpid(), signal.SIGTERM)
    if sys.argv[1:]:
        os.kill(os.getpid(), signal.SIGINT)
"""
    assert ended(code) == (0, "")
    assert ended("sys.argv.append('twice')" + code) == (-signal.SIGINT, "")


def test_the_handlers_of_before_are_back_afterwards() -> None:
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    with stopping.listening():
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before


def test_in_a_thread_a_run_goes_on_without_handlers(tmp_path: Path) -> None:
    code = STARTED + (
        "from threading import Thread\n"
        "def run():\n    with stopping.listening():\n        print(signal.getsignal(signal.SIGTERM))\n"
        "t = Thread(target=run); t.start(); t.join()"
    )
    assert python(code, tmp_path) == "0\n"  # SIG_DFL


def test_stopped_is_what_a_notebook_expects_of_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt) as stopped:
        raise Stopped(signal.SIGUSR1, 5)
    assert (stopped.value.status, stopped.value.step) == (138, 5)
