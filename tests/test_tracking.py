"""What the trackers recorded, read back with their own readers."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sft_research.config import build, compose
from sft_research.recording import about, recording
from sft_research.stopping import Stopped
from sft_research.tracking import (
    About,
    TensorBoard,
    Wandb,
    wandb_key_is_configured,
    wandb_mode,
)
from tests.forked import Forker, rows
from tests.runs import TINY, Done, python

# A seed a tracker: who watches is no part of a run's identity, so the same run would only be reported.


def records(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's offline file, as `wandb leet inspect` reads them."""
    file = next(folder.glob("wandb/offline-run-*/run-*.wandb"))
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(file)]
    read = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in read.stdout.splitlines()]


def of_kind(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in found if record["type"] == kind]


def test_wandb_holds_what_metrics_jsonl_holds(trained: Callable[..., Done]) -> None:
    run = trained("tracking=wandb", "seed=1")
    merged: dict[int, dict[str, float]] = {}
    for row in run.metrics:
        merged.setdefault(int(row["step"]), {}).update(row)
    history = of_kind(records(run.folder), "history")
    assert [item["item"]["_step"] for item in history] == sorted(merged)
    for item in history:
        mine = merged[item["item"]["_step"]]
        theirs = {key: value for key, value in item["item"].items() if not key.startswith("_")}
        assert set(theirs) == set(mine) - {"step", "seconds", "time"}
        assert all(math.isclose(theirs[key], mine[key], rel_tol=1e-9) for key in theirs)


def test_wandb_knows_the_name_group_config_and_x_axis(trained: Callable[..., Done]) -> None:
    run = trained("tracking=wandb", "seed=1")
    found = records(run.folder)
    about = of_kind(found, "run")[0]
    assert (about["display_name"], about["run_group"], about["project"]) == (
        run.folder.name[:128],
        "default",
        "sft_research",
    )
    assert about["tags"] == ["default"]
    lora = about["config"]["update"]["lora"]
    assert (lora["r"], lora["alpha"], lora["scale"]) == (16, 16, 1.0)
    axes = {m["glob_name"]: m["step_metric"] for m in of_kind(found, "metric") if "glob_name" in m}
    assert axes == {"train/*": "loss_tokens", "eval/*": "loss_tokens", "lora/*": "loss_tokens"}
    assert of_kind(found, "exit")[0].get("exit_code", 0) == 0


def test_the_group_of_a_point_is_its_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = compose(["model=tiny", "lora.alpha=r", "seed=1"])
    folder: Any = SimpleNamespace(path=tmp_path, tracker_id="0123", goes_on=True)
    adapter = build(run.cfg.lora)
    assert about(run, folder, adapter).group == "default"
    monkeypatch.setenv("SFT_GRID", "default/seed=1,2")
    found = about(run, folder, adapter)
    assert (found.group, found.experiment, found.goes_on) == ("default/seed=1,2", "default", True)
    assert (found.config["lora"]["alpha"], found.config["lora"]["scale"]) == (16, 1.0)


def test_each_training_step_is_recorded_once_with_the_standard_keys(trained: Callable[..., Done]) -> None:
    run = trained("tracking=wandb", "seed=1")
    steps = [row for row in run.metrics if "train/loss" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4, 5, 6]
    assert set(steps[0]) == {
        "step",
        "loss_tokens",
        "tokens",
        "seconds",
        "time",
        "train/loss",
        "train/learning_rate",
        "train/grad_norm",
        "train/entropy",
        "train/token_accuracy",
        "train/tokens_per_second",
        "packing/real_tokens",
        "packing/examples",
        "lora/scale",
    }


def test_a_wandb_run_that_was_killed_goes_on_under_its_id_without_a_gap_or_a_step_twice(
    forker: Forker, tmp_path: Path
) -> None:
    overrides = (*TINY, "backend=transformers", "tracking=wandb")
    folder = tmp_path / compose(overrides).folder
    assert forker.run(overrides, tmp_path, stage="saving", at=30).killed  # of the checkpoint of step 4
    (first,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    assert forker.run(overrides, tmp_path).status == 0
    (second,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    assert (first.name, first != second) == (second.name, True)
    history = [record["item"] for record in of_kind(records(folder), "history")]
    assert [item["_step"] for item in history] == [0, 1, 2, 3, 4, 5, 6]
    assert [item["train/loss"] for item in history if "train/loss" in item] == [
        row["train/loss"] for row in rows(folder) if "train/loss" in row
    ]


GOES_ON = """
from pathlib import Path
from sft_research.recording import recording
from sft_research.tracking import About, TensorBoard, Trackio

for goes_on in (False, True):
    about = About("a run", "a group", Path("."), {}, id="0123", goes_on=goes_on)
    with recording(TRACKER, about) as steps:
        for step in range(5 if goes_on else 3):
            steps.log({"train/loss": 1.0 + step}, step)
"""


def test_tensorboard_takes_what_it_has_not_got(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    python(GOES_ON.replace("TRACKER", "TensorBoard()"), tmp_path)
    scalars = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("train/loss")
    assert [(event.step, event.value) for event in scalars] == [(step, 1.0 + step) for step in range(5)]


def test_trackio_takes_what_it_has_not_got(tmp_path: Path) -> None:
    import sqlite3

    python(GOES_ON.replace("TRACKER", 'Trackio("sft_research")'), tmp_path, TRACKIO_DIR=str(tmp_path))
    with sqlite3.connect(tmp_path / "sft_research.db") as database:
        found = database.execute("select step, metrics from metrics order by step").fetchall()
    assert [(step, json.loads(row)["train/loss"]) for step, row in found] == [
        (step, 1.0 + step) for step in range(5)
    ]


def test_a_run_that_is_stopped_keeps_its_last_step_for_when_it_goes_on(tmp_path: Path) -> None:
    about = About("a run", "a group", tmp_path, {}, id="0123")
    with pytest.raises(Stopped), recording(TensorBoard(), about) as steps:  # noqa: PT012
        steps.log({"train/loss": 1.0}, 1)
        steps.log({"train/loss": 2.0}, 2)
        raise Stopped(signal.SIGTERM, 2)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1]


def test_wandb_is_told_of_a_failure(tmp_path: Path) -> None:
    about = About("a run", "a group", tmp_path, {"lora": {"r": 8}})
    with pytest.raises(ZeroDivisionError), recording(Wandb("sft_research", mode="offline"), about) as tracker:
        tracker.log({"train/loss": 1 / 0}, 1)
    assert of_kind(records(tmp_path), "exit")[0]["exit_code"] == 1


def test_offline_says_how_to_sync(trained: Callable[..., Done]) -> None:
    run = trained("tracking=wandb", "seed=1")
    folder = next(run.folder.glob("wandb/offline-run-*"))
    assert f"wandb sync {folder.relative_to(run.folder.parents[2])}" in run.out


@pytest.mark.parametrize(
    ("asked", "environment", "key", "mode"),
    [
        ("auto", "", "", "offline"),
        ("auto", "", "a-key", "online"),
        ("auto", "offline", "a-key", "offline"),
        ("auto", "disabled", "a-key", "disabled"),
        ("online", "offline", "", "online"),
        ("offline", "online", "a-key", "offline"),
    ],
)
def test_the_environment_decides_only_what_the_config_leaves_to_it(
    asked: str, environment: str, key: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", environment)
    monkeypatch.setenv("WANDB_API_KEY", key)
    assert wandb_mode(asked) == mode


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("offline", "W&B is offline; to upload: wandb sync {folder}/wandb/offline-run-"),
        ("disabled", "metrics.jsonl; WANDB_MODE=disabled turned W&B off"),
    ],
)
def test_where_the_curves_are_is_said_of_the_mode_that_was_used(
    mode: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("WANDB_API_KEY", "local-" + "0" * 40)
    with recording(Wandb("sft_research"), About("a run", "a group", tmp_path, {})) as tracker:
        tracker.log({"train/loss": 1.0}, 1)
    assert tracker.where().startswith(said.format(folder=tmp_path))


def test_tensorboard_holds_the_losses(trained: Callable[..., Done]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = trained("tracking=tensorboard", "seed=2")
    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    recorded = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert [step for step, _ in recorded] == [1, 2, 3, 4, 5, 6]
    assert [value for _, value in recorded] == pytest.approx(run.series("train/loss"), rel=1e-6)


def test_trackio_holds_the_losses(
    tmp_path_factory: pytest.TempPathFactory, trained: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path_factory.mktemp("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(place))
    run = trained("tracking=trackio", "backend=transformers", "seed=3")
    import sqlite3

    with sqlite3.connect(place / "sft_research.db") as database:
        rows = [json.loads(row[0]) for row in database.execute("select metrics from metrics order by step")]
    assert [row["train/loss"] for row in rows if "train/loss" in row] == run.series("train/loss")


@pytest.mark.parametrize(
    ("key", "line", "configured"),
    [
        ("", "", False),
        ("a-key", "", True),
        ("", "machine api.wandb.ai login user password x", True),
        ("", "machine example.org login user password x", False),
    ],
)
def test_a_key_is_found_in_the_environment_or_in_netrc(
    key: str, line: str, configured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", key)
    (tmp_path / ".netrc").write_text(f"{line}\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert wandb_key_is_configured() is configured
