"""A key reaches the libraries through the environment and is struck out of everything else."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_research import secrets
from sft_research.secrets import Redacted, redact

HF, WANDB = "hf_thisIsAToken", "0123456789abcdef0123"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment with two keys in it, thrown away with what a `.env` put there."""
    kept = {"PATH": os.environ["PATH"], "HF_TOKEN": HF, "WANDB_API_KEY": WANDB, "HF_HUB_OFFLINE": "1"}
    monkeypatch.setattr(os, "environ", kept)
    monkeypatch.setattr(secrets, "_from_file", set())
    return kept


def load(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch, inside: str = ".") -> None:
    """Write `.env` into the folder and load it from a folder inside."""
    (folder / ".env").write_text(text)
    (folder / inside).mkdir(exist_ok=True, parents=True)
    monkeypatch.chdir(folder / inside)
    secrets.load()


@pytest.mark.parametrize("inside", [".", "deep/down"])
def test_a_dotenv_of_this_folder_or_one_above_reaches_the_environment(
    inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    load(tmp_path, "WANDB_ENTITY=our_lab\n", monkeypatch, inside)
    assert environment["WANDB_ENTITY"] == "our_lab"


def test_what_the_environment_has_already_wins_and_both_values_are_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    load(tmp_path, "HF_TOKEN=hf_fromTheFile\n", monkeypatch)
    assert environment["HF_TOKEN"] == HF
    assert redact(f"{HF} hf_fromTheFile") == "*** ***"


@pytest.mark.parametrize(
    "line",
    [
        "MY_DATABASE_PASSWORD=swordfish",
        "MY_DATABASE='postgres://me:swordfish@host'",
        "MINE=hf_swordfish",
        "OTHER=sk-swordfish",
    ],
)
def test_a_value_of_a_dotenv_is_secret_by_its_name_or_its_looks(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tmp_path, f"{line}\n", monkeypatch)
    value = line.partition("=")[2].strip("'")
    assert redact(f"to {value}, 1 time") == "to ***, 1 time"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("WANDB_PROJECT=sft_research", "_target_: sft_research.lora.Lora"),
        ("HF_ENDPOINT=https://huggingface.co:443", "https://huggingface.co:443/a/b@main"),
        ("EMPTY=", "nothing"),
        ("SOME_TOKEN=short", "in short"),
    ],
)
def test_an_ordinary_value_of_a_dotenv_is_not_struck_out(
    line: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tmp_path, f"{line}\n", monkeypatch)
    assert redact(text) == text


def test_without_a_dotenv_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = dict(environment)
    secrets.load()
    assert environment == before


def test_secrets_are_struck_out_however_deep_and_the_rest_is_untouched() -> None:
    value = {"url": f"https://u:{HF}@hub", "list": [1, None, True, {"key": WANDB}], "pair": (HF, 0.5)}
    assert redact(value) == {
        "url": "https://u:***@hub",
        "list": [1, None, True, {"key": "***"}],
        "pair": ["***", 0.5],
    }


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "OPENAI_API_KEY", "MY_APIKEY", "aws_secret_access", "DB_PASSWORD", "GIT_CREDENTIALS"]
)
def test_a_variable_with_such_a_name_is_secret(name: str, environment: dict[str, str]) -> None:
    environment[name] = "v3ry-s3cret"
    assert redact("is v3ry-s3cret here") == "is *** here"


@pytest.mark.parametrize(
    ("name", "value"), [("HOME", "/home/somebody"), ("HF_TOKEN", "false"), ("X_KEY", "abcdefg")]
)
def test_other_names_and_short_values_are_not_struck_out(
    name: str, value: str, environment: dict[str, str]
) -> None:
    environment[name] = value
    assert redact(f"it is {value}") == f"it is {value}"


def test_a_secret_that_holds_another_goes_whole(environment: dict[str, str]) -> None:
    environment["A_TOKEN"], environment["B_TOKEN"] = "secret", "secret-and-more"
    assert redact("secret-and-more secret") == "*** ***"


@given(before=st.text(), after=st.text())
def test_no_text_around_a_secret_saves_it(before: str, after: str) -> None:
    assert HF not in redact(before + HF + after)


def test_the_stream_strikes_out_what_is_written_to_it() -> None:
    kept = io.StringIO()
    stream = Redacted(kept)
    print("logging in with", HF, {"key": WANDB}, file=stream)  # type: ignore[call-overload]
    stream.flush()
    assert kept.getvalue() == "logging in with *** {'key': '***'}\n"
    assert (stream.isatty(), stream.encoding) == (False, "utf-8")


def test_the_stream_has_the_file_number_of_the_file_beneath(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        assert Redacted(file).fileno() == file.fileno()


def test_every_place_of_a_key_in_a_text_is_known() -> None:
    assert secrets.spans(f"a {HF}, {HF}") == [(2, 17), (19, 34)]
    assert secrets.spans("a") == []
