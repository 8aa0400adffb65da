"""What a Ray cluster cannot do is said at once; grids on a real one: tests/cluster."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sft_research import ray
from sft_research.config import ConfigError
from sft_research.ray import Ray
from tests.grids import grid

FIX = (
    "Fix: the HOST:PORT that `ray start --head` has printed, hydra.launcher.address=auto on a node of the cluster, "
    "or null for a Ray of its own here"
)


def refusal(engine: Ray, library: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """What is said of a grid of one point, with this in the place of Ray's own module."""
    monkeypatch.setattr(ray, "library", lambda *_: library)
    made = grid(tmp_path, {"a": ""})
    with pytest.raises(ConfigError) as refused:
        engine.start(made, made.points)
    return str(refused.value)


def never(**_: Any) -> None:
    raise AssertionError("Ray was asked, which takes it many minutes")


@pytest.mark.parametrize(
    "given", ["{}", "ray://{}", "auto, of the environment", "auto, of the latest ray start"]
)
def test_an_address_where_nobody_listens_is_refused_before_ray_looks_for_it(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        place = f"127.0.0.1:{bound.getsockname()[1]}"
        if given.endswith("environment"):
            monkeypatch.setenv("RAY_ADDRESS", place)
        elif given.endswith("start"):
            (tmp_path / "ray").mkdir()
            (tmp_path / "ray" / "ray_current_cluster").write_text(f"{place}\n")
        address = given.partition(",")[0].format(place)
        engine = Ray(address, {"num_cpus": 1, "num_gpus": 0})
        said = refusal(engine, SimpleNamespace(init=never), monkeypatch, tmp_path)
    shown = place if address == "auto" else address
    assert said == f"hydra.launcher.address={shown}: [Errno 111] Connection refused. {FIX}"


def test_without_an_address_a_ray_is_started_here_whatever_others_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    asked: list[str] = []

    def init(address: str, **_: Any) -> None:
        asked.append(address)
        raise ConnectionError("none")

    refusal(Ray(None, {}), SimpleNamespace(init=init), monkeypatch, tmp_path)
    assert asked == ["local"]


def test_a_cluster_that_ray_does_not_find_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise ConnectionError(
            "Could not find any running Ray instance.\nPlease specify the one to connect to"
        )

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    said = refusal(Ray("auto", {}), SimpleNamespace(init=init), monkeypatch, tmp_path)
    assert said == f"hydra.launcher.address=auto: Could not find any running Ray instance. {FIX}"


NODES = [
    {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0, "memory": 2.0**34}},
    {"Alive": True, "Resources": {"CPU": 64.0, "memory": 2.0**36}},
    {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0, "memory": 2.0**36}},
]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"num_gpus": 2}, "CPU 4, GPU 2: CPU 64, GPU 0; CPU 8, GPU 1."),
        ({"num_cpus": 16, "num_gpus": 1}, "CPU 16, GPU 1: CPU 64, GPU 0; CPU 8, GPU 1."),  # on no one node
        ({"resources": {"a100": 1}}, "CPU 4, a100 1: CPU 64, a100 0; CPU 8, a100 0."),
        ({"memory": 2**37}, "CPU 4, memory 1.37439e+11: "),
    ],
)
def test_what_no_node_has_is_refused(
    asked: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray would wait for it for ever."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    library = SimpleNamespace(init=lambda **_: None, nodes=lambda: NODES)
    engine = Ray(None, {"num_cpus": 4, "num_gpus": 0} | asked)
    assert refusal(engine, library, monkeypatch, tmp_path).startswith(
        f"no node of the Ray cluster has {said}"
    )


def test_a_ray_that_was_shut_down_is_not_asked_again() -> None:
    """It would start a new one."""
    engine = Ray(None, {})
    calls: list[str] = []
    engine._ray = SimpleNamespace(shutdown=lambda: calls.append("shutdown"), wait=never)
    engine._tasks = {"task": grid(Path(), {"a": ""}).points[0]}
    engine.stop(2)
    assert (list(engine.poll()), calls, engine.idle) == ([], ["shutdown"], True)


def test_what_a_search_adds_joins_what_goes_on_in_the_same_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def remote(**_: Any) -> Any:
        return lambda run: SimpleNamespace(remote=lambda point: f"task of {point.label}")

    library = SimpleNamespace(init=lambda **_: asked.append("init"), nodes=lambda: NODES, remote=remote)
    monkeypatch.setattr(ray, "library", lambda *_: library)
    made = grid(tmp_path, dict.fromkeys("abc", ""))
    engine = Ray(None, {"num_cpus": 4, "num_gpus": 0})
    engine.start(made, made.points[:2])
    engine.start(made, made.points[2:])
    assert asked == ["init"]
    assert [point.label for point in engine._tasks.values()] == ["a", "b", "c"]
