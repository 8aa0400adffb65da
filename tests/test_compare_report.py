"""A comparison as a report of W&B: what is sent to its server, and what is said where there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from sft_research import compare_report
from sft_research.compare_report import groups, place_of, save
from sft_research.comparison import compare
from sft_research.config import ConfigError
from sft_research.past_grids import find
from sft_research.points import METRICS
from sft_research.verdict import verdict
from tests.command_line import python
from tests.compared import grid, run
from tests.swept import point, sweep

KEY = "0123456789" * 4
COMPARE_TWICE = """
import sys
from sft_research.compare import main
for place in ("team/none", "team/project"):
    sys.argv = ["compare", "runs/ranks", "--wandb", place]
    try:
        main()
    except SystemExit as exit:
        print("ended with", exit.code)
"""


@dataclass
class Server:
    """W&B's, as far as a report needs it: there is one project, `team/project`."""

    address: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "1", "name": "project", "entityName": "team"}
        if "mutation upsertView" in query:
            self.asked.append(variables)
            view = {"id": "Vmlldzox", "type": "runs", "name": "n", "description": "", "project": project}
            view |= {"displayName": variables["displayName"], "spec": variables["spec"]}
            return {"upsertView": {"view": view | {"updatedAt": "2026-01-01T00:00:00"}, "inserted": True}}
        if "query ProjectInternalId" in query:
            found = {"id": "1", "internalId": "2"} if variables["projectName"] == "project" else None
            return {"project": found}
        if "query GetProjects" in query:
            node = project | {"createdAt": "2026-01-01", "isBenchmark": False, "user": None}
            page = {"endCursor": None, "hasNextPage": False}
            return {"models": {"edges": [{"cursor": "c", "node": node}], "pageInfo": page}}
        return {
            "viewer": {"id": "1", "username": "u", "entity": "team", "flags": "{}", "teams": {"edges": []}}
        }


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/graphql":
                asked = json.loads(said)
                said = json.dumps(
                    {"data": found.answer(asked["query"], asked.get("variables") or {})}
                ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def do_GET(self) -> None:
            self.send_error(404)  # it answers

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        found.address = f"http://127.0.0.1:{listening.server_port}"
        Thread(target=listening.serve_forever, daemon=True).start()
        yield found
        listening.shutdown()


def ranks(place: Path) -> None:
    """A grid of two ranks by two rates, and a third rank that is to come."""
    losses = {(4, 1e-3): [0.5], (4, 1e-2): [0.6], (8, 1e-3): [0.4], (8, 1e-2): [0.7]}
    grid(place / "runs" / "ranks", losses)
    sweep(place / "runs" / "ranks", [point(r, lr) for r in (4, 8, 16) for lr in (1e-3, 1e-2)])


@pytest.fixture(scope="module")
def done(server: Server, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """A real process with W&B's real client; it first names a project that is not there."""
    place = tmp_path_factory.mktemp("report")
    ranks(place)
    environment = {k: v for k, v in os.environ.items() if k != "WANDB_MODE"}
    environment |= {"WANDB_BASE_URL": server.address, "WANDB_API_KEY": KEY, "HOME": str(place)}
    command = [sys.executable, "-c", COMPARE_TWICE]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def sent(server: Server, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    (asked,) = server.asked
    return asked | {"spec": json.loads(asked["spec"])}


def panels(sent: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    (of_panels,) = [block for block in sent["spec"]["blocks"] if block["type"] == "panel-grid"]
    found = of_panels["metadata"]["panelBankSectionConfig"]["panels"]
    return [panel["config"] for panel in found if panel["viewType"] == kind]


def test_the_report_is_saved_and_its_address_said(
    server: Server, done: subprocess.CompletedProcess[str], sent: dict[str, Any]
) -> None:
    assert (sent["entityName"], sent["projectName"], sent["type"]) == ("team", "project", "runs")
    title = "ranks/g: Not decided: r=8 lr=0.001 is ahead of r=4 lr=0.001, with one seed each (4 of 6 runs)"
    assert sent["displayName"] == title
    last = done.stdout.rstrip().splitlines()[-1]
    assert last.startswith(f"  report    {server.address}/team/project/reports/ranks")
    assert last.endswith("--Vmlldzox")


def test_a_project_that_is_not_there_is_said_in_one_line(done: subprocess.CompletedProcess[str]) -> None:
    assert "ended with 2\n" in done.stdout
    (said,) = done.stderr.splitlines()
    assert said.startswith(
        "W&B took no report: Run set 'runs of this comparison' project 'team/none' not found."
    )
    assert said.endswith("Fix: a project that has runs, as team/none, and a key that may write to it")
    assert KEY not in done.stdout + done.stderr


def test_its_runs_are_those_of_the_grid(sent: dict[str, Any]) -> None:
    (of_panels,) = [block for block in sent["spec"]["blocks"] if block["type"] == "panel-grid"]
    (runs,) = of_panels["metadata"]["runSets"]
    assert (runs["project"]["entityName"], runs["project"]["name"]) == ("team", "project")
    (only,) = runs["filters"]["filters"]
    assert (only["key"], only["op"], only["value"]) == (
        {"section": "run", "name": "group"},
        "IN",
        ["ranks/g"],
    )
    (order,) = runs["sort"]["keys"]
    assert (order["key"], order["ascending"]) == ({"section": "summary", "name": "eval/loss"}, True)


def test_curves_lie_over_loss_tokens_and_are_grouped_by_each_setting(sent: dict[str, Any]) -> None:
    said = [
        (p["xAxis"], p["metrics"], p.get("groupBy"), p.get("groupAgg"))
        for p in panels(sent, "Run History Line Plot")
    ]
    assert said == [
        ("loss_tokens", ["eval/loss"], "lora.value.r", "mean"),
        ("loss_tokens", ["eval/loss"], "optimizer.value.lr", "mean"),
        ("loss_tokens", ["train/loss"], None, None),
    ]


def test_points_lie_over_their_settings(sent: dict[str, Any]) -> None:
    (scatter,) = panels(sent, "Scatter Plot")
    axes = [scatter[f"{axis}Axis"] for axis in "xyz"]
    assert axes == ["config:optimizer.value.lr", "summary:eval/loss", "config:lora.value.r"]
    assert scatter["xAxisLogScale"] is True
    (parallel,) = panels(sent, "Parallel Coordinates Plot")
    assert [column["accessor"] for column in parallel["columns"]] == [
        "config:lora.value.r",
        "config:lora.value.alpha",
        "config:lora.value.scale",
        "config:optimizer.value.lr",
        "summary:eval/loss",
    ]
    (importance,) = panels(sent, "Parameter Importance")
    assert importance["targetKey"] == "eval/loss"


def test_the_verdict_stands_above_the_panels(sent: dict[str, Any]) -> None:
    said = json.dumps(sent["spec"]["blocks"])
    assert "Of 6 runs that the grid plans, 4 are finished, 2 never started" in said
    assert "loss tokens 300" in said


# Without a server ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"WANDB_API_KEY": ""},
            "--wandb has no key for api.wandb.ai. Fix: wandb login, or WANDB_API_KEY=...",
        ),
        (
            {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"},
            "W&B cannot be reached at http://127.0.0.1:9: [Errno 111] Connection refused. Fix: WANDB_BASE_URL=ADDRESS, "
            "or leave out --wandb and send the page of --out",
        ),
        (
            {"WANDB_MODE": "offline"},
            "--wandb needs W&B's server, and WANDB_MODE=offline. Fix: WANDB_MODE=online",
        ),
    ],
)
def test_without_a_server_the_rest_is_done(tmp_path: Path, environment: dict[str, str], said: str) -> None:
    """In a process in which importing W&B's client is fatal."""
    ranks(tmp_path)
    environment = {"HOME": str(tmp_path), "WANDB_MODE": "online"} | environment
    done = python(["-m", "sft_research.compare", "runs", "--wandb", "team/project"], tmp_path, **environment)
    assert (done.returncode, done.stderr) == (2, f"{said}\n")
    assert "\n  1       8         0.001  0.4000" in done.stdout


def test_without_its_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path)
    found = compare(find([tmp_path]), METRICS["loss"])
    monkeypatch.setattr(compare_report, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r'needs wandb-workspaces\. Fix: pip install -e "\.\[report\]", or leave out'
    ):
        save(found, verdict(found), ("team", "project"), "")


def test_a_project_is_named_by_two_words(tmp_path: Path) -> None:
    assert place_of("my-team/sft_research") == ("my-team", "sft_research")
    done = python(["-m", "sft_research.compare", "runs", "--wandb", "project"], tmp_path)
    said = "--wandb project names no project. Fix: --wandb ENTITY/PROJECT\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_runs_are_called_by_their_grids_or_by_their_experiment(tmp_path: Path) -> None:
    """As `recording.about` calls them."""
    run(tmp_path / "one", r=4)
    sweep(tmp_path / "one", [point(4)], "lora.r=4")
    sweep(tmp_path / "one", [point(4), point(8)], "lora.r=4,8")
    run(tmp_path / "two", r=8)
    assert groups(compare(find([tmp_path]), METRICS["loss"])) == ["one/lora.r=4", "one/lora.r=4,8", "two"]
