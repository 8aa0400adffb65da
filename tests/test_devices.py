"""devices=N is refused in words where other settings, the machine or a launcher do not fit it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hydra_plugins.sft_research_launcher import LocalLauncher
from sft_research import devices, gpus, hardware
from sft_research.check import check
from sft_research.config import ConfigError, build, compose, with_hydra
from sft_research.devices import in_gres, only, require_as_many
from tests.command_line import composed, train

VARIABLES = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", gpus.NAMES)


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU, and nobody has started ranks."""
    monkeypatch.setattr(hardware, "gpu", lambda: False)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def with_gpus(monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    monkeypatch.setattr(hardware, "gpu", lambda: True)
    monkeypatch.setenv(gpus.NAMES, names)


def said(*overrides: str) -> list[str]:
    cfg = composed(*overrides)
    return [message for rule in devices.RULES for message in rule(cfg)]


# Settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "fact", "fix"),
    [
        (
            "training.on_oom=halve",
            "training.on_oom=halve with devices=2: a rank that",
            "training.on_oom=error",
        ),
        (
            "+training.average_tokens_across_devices=false",
            "training.average_tokens_across_devices=false with devices=2: ",
            "training.average_tokens_across_devices=true",
        ),
        (
            "+training.fsdp=full_shard",
            "training.fsdp with devices=2: each device holds the whole model here",
            "~training.fsdp",
        ),
    ],
)
def test_what_ranks_cannot_do_together_is_refused(override: str, fact: str, fix: str) -> None:
    (message,) = said("devices=2", override)
    assert message.startswith(fact)
    assert f"Fix: {fix}" in message
    assert said("devices=1", override) == []


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("devices=0", "devices=0 is out of range. Fix: devices=..., GPUs of this machine, from 1 to 1024"),
        ("devices=two", "devices='two' is of the wrong type: it takes int. Fix: devices=..., as int"),
    ],
)
def test_the_number_of_devices_is_a_whole_one_from_one(typed: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(composed(typed))
    assert str(refused.value) == message


def test_an_older_folders_config_has_one_device(tmp_path: Path) -> None:
    """And its id is that of a run that says so: a run of one device is what it always was."""
    from sft_research import identity
    from sft_research.config import without_hydra

    cfg = composed().copy()
    del cfg._content["devices"]
    assert without_hydra(cfg).devices == 1
    config = compose().resolved
    older = {key: value for key, value in config.items() if key != "devices"}
    assert identity.of(config, tmp_path)["id"] == identity.of(older, tmp_path)["id"]
    assert identity.of(config | {"devices": 2}, tmp_path)["id"] != identity.of(older, tmp_path)["id"]


# The machine --------------------------------------------------------------------------------------


def test_more_devices_than_gpus_are_refused_and_a_cpu_takes_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert said("devices=4") == []
    with_gpus(monkeypatch, "0,2,5")
    assert said("devices=3") == []
    assert said("devices=4") == [
        "devices=4, and there are 3 GPUs (CUDA_VISIBLE_DEVICES=0,2,5). Fix: devices=3"
    ]
    monkeypatch.setenv(gpus.NAMES, "")  # hidden: the CPU trains
    assert said("devices=4") == []


def test_a_run_sees_no_more_gpus_than_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers would copy the model to all that it sees, Unsloth spread it over them."""
    with_gpus(monkeypatch, "5,2,0")
    with only(2):
        assert os.environ[gpus.NAMES] == "5,2"
    with only(3):
        assert os.environ[gpus.NAMES] == "5,2,0"
    assert os.environ[gpus.NAMES] == "5,2,0"
    monkeypatch.delenv(gpus.NAMES)
    monkeypatch.setattr(gpus, "visible", lambda: ["0", "1"])
    with only(1):
        assert os.environ[gpus.NAMES] == "0"
    assert gpus.NAMES not in os.environ


# torchrun -----------------------------------------------------------------------------------------


def test_what_torchrun_starts_must_be_what_the_run_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert said() == []
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert said("devices=2") == []
    assert said() == [
        "WORLD_SIZE=2, and devices=1: torchrun has started 2 processes of a run that takes 1. Fix: devices=2, or "
        "python -m sft_research.train without torchrun, which starts them itself"
    ]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert said("devices=2") == [
        "WORLD_SIZE=2, of which 1 are on this machine: a run is on one. "
        "Fix: torchrun --standalone --nproc-per-node=1 with devices=1"
    ]


def test_a_refusal_is_part_of_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="WORLD_SIZE=3, and devices=1"):
        check(composed())


def test_torchrun_drives_no_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its points would inherit its variables, and wait for ranks that nobody starts."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        ConfigError, match=r"^WORLD_SIZE=2: each of these processes would drive the grid\. Fix: "
    ):
        LocalLauncher(1, 1).require_devices([2])


# Launchers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus_a_run", "key", "run_devices", "fix"),
    [
        (4, "gpus=4", 1, "devices=4, or hydra.launcher.gpus=1"),
        (1, "gpus=1", 2, "devices=1, or hydra.launcher.gpus=2"),
        (4, "gres=gpu:a100:4", 2, "devices=4, or hydra.launcher.gres=gpu:a100:2"),
        (1, "gres=gpu", 2, "devices=1, or hydra.launcher.gres=gpu:2"),
        (0.5, "gpus=0.5", 2, "devices=1, or hydra.launcher.gpus=2"),
        (2, "gpus=2", 2, None),
        (0.5, "gpus=0.5", 1, None),  # Ray lends shares
        (0, "gpus=0", 2, None),  # two processes on a CPU
    ],
)
def test_a_launcher_gives_a_run_the_gpus_that_it_takes(
    gpus_a_run: float, key: str, run_devices: int, fix: str | None
) -> None:
    if fix is None:
        require_as_many(gpus_a_run, key, [run_devices])
        return
    with pytest.raises(ConfigError) as refused:
        require_as_many(gpus_a_run, key, [run_devices])
    assert str(refused.value) == (
        f"hydra.launcher.{key}, and devices={run_devices}: a run would be given {gpus_a_run:g} GPUs for "
        f"{run_devices} processes. Fix: {fix}"
    )


@pytest.mark.parametrize(
    ("gres", "count"),
    [
        (None, 0),
        ("gpu", 1),
        ("gpu:2", 2),
        ("gpu:a100:4", 4),
        ("gpu:a100", 1),
        ("tmpfs:9,gpu:3(S:0)", 3),
        ("fpga:2", 0),
    ],
)
def test_gpus_are_counted_in_what_slurm_is_asked_for(gres: str | None, count: int) -> None:
    assert in_gres(gres) == count


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("local", (1, "gpus=1")),
        ("local hydra.launcher.gpus=2", (2, "gpus=2")),
        ("slurm", (0, "gres=None")),
        ("slurm hydra.launcher.gpus=4", (4, "gpus=4")),
        ("slurm hydra.launcher.gres=gpu:a100:4", (4, "gres=gpu:a100:4")),
        ("slurm_gpu", (1, "gpus=1")),
        ("ray", (0, "gpus=0")),
        ("ray hydra.launcher.gpus=0.5", (0.5, "gpus=0.5")),
    ],
)
def test_what_a_launcher_gives_is_what_it_was_told(
    typed: str, given: tuple[float, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gpus.NAMES, "0,1")
    launcher = build(with_hydra([*f"hydra/launcher={typed}".split()], None).hydra.launcher)
    assert launcher._gpus() == given
    monkeypatch.setenv(gpus.NAMES, "")  # a machine without: a local grid asks for none
    assert launcher._gpus()[0] == (0 if typed.startswith("local") else given[0])


def test_a_grid_of_such_runs_is_refused_before_anything_starts(tmp_path: Path) -> None:
    typed = ["-m", "model=tiny", "lora.r=8,16", "hydra/launcher=slurm", "hydra.launcher.gres=gpu:a100:4"]
    done = train(typed, tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("hydra.launcher.gres=gpu:a100:4, and devices=1: ")
    assert not (tmp_path / "runs").exists()
