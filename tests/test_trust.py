"""A folder from a stranger runs none of its code: not its config's, not its checkpoint's, not its model's."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from sft_research.config import CONF_DIR, ConfigError, compose
from sft_research.lock import held
from sft_research.record import Folder
from sft_research.trust import ALLOWED, OPT_IN, dangers, require_inside, require_trusted
from tests.command_line import train
from tests.runs import TINY, Done
from tests.runs import train as trained_here
from tests.trainers import make

# Imported or called, it leaves a trace where the process was started.
EVIL = "open('ran', 'w').close()\n\n\ndef call(*_, **__):\n    open('ran', 'w').close()\n"


def stranger(place: Path, **changes: Any) -> Path:
    """A run's folder with these keys of its config.yaml changed, beside a module that leaves a trace."""
    (place / "evil.py").write_text(EVIL)
    folder = place / "received"
    folder.mkdir()
    cfg = OmegaConf.to_container(compose(["model=tiny", "tracking=none"]).cfg, resolve=True)
    assert isinstance(cfg, dict)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml({**cfg, **changes}))
    return folder


HOSTILE = {
    "a part": ({"lora": {"_target_": "evil.call"}}, "lora._target_=evil.call: "),
    "deep inside": (
        {
            "dataset_format": {
                "_target_": "sft_research.dataset_format.Chat",
                "x": [{"y": {"_target_": "os.system"}}],
            }
        },
        "dataset_format.x.0.y._target_=os.system: ",
    ),
    "a callback of Hydra": (
        {"hydra": {"callbacks": {"mine": {"_target_": "evil.call"}}}},
        "hydra: a run's configuration has none",
    ),
    "logging of Hydra": (
        {"hydra": {"job_logging": {"version": 1, "handlers": {"h": {"()": "evil.call"}}}}},
        "hydra: a run's configuration has none",
    ),
    "a node made of text": (
        {"lora": "${oc.decode:'{_target_: evil.call}'}"},
        "lora=\"${oc.decode:'{_target_: evil.call}'}\": ",
    ),
    "a target from the environment": (
        {"lora": {"_target_": "${oc.env:HOME}"}},
        "lora._target_=${oc.env:HOME}: ",
    ),
    "another file": ({"defaults": ["/evil"]}, "defaults: a run's configuration has none"),
}


@pytest.mark.parametrize(("changes", "said"), HOSTILE.values(), ids=HOSTILE)
def test_what_could_run_code_is_found(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    (found, *_) = list(dangers(stranger(tmp_path, **changes) / "config.yaml"))
    assert found.startswith(said)


def test_a_package_line_is_found(tmp_path: Path) -> None:
    file = stranger(tmp_path) / "config.yaml"
    assert list(dangers(file)) == []
    file.write_text("# @package hydra\n" + file.read_text())
    assert next(dangers(file)).startswith("# @package: ")


@pytest.mark.parametrize("kind", ["a part", "a callback of Hydra", "logging of Hydra"])
def test_a_strangers_config_is_refused_before_its_code_is_imported(kind: str, tmp_path: Path) -> None:
    folder = stranger(tmp_path, **HOSTILE[kind][0])
    done = train(["--config-dir", str(folder), "--config-name", "config"], tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{folder / 'config.yaml'}: {HOSTILE[kind][1]}" in done.stderr
    assert "SFT_TRUST_CONFIG=1" in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "flags",
    ["--config-dir {} --config-name config", "--config-d={} --config-n=config.yaml", "-cd {} -cn config"],
)
def test_every_spelling_of_the_flags_is_seen(
    flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = flags.format(stranger(tmp_path, lora={"_target_": "evil.call"})).split()
    with pytest.raises(ConfigError, match=r"lora\._target_=evil\.call"):
        require_trusted([*arguments, "seed=1"])
    monkeypatch.setenv(OPT_IN, "1")
    require_trusted(arguments)


def test_a_replaced_conf_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"leaves out conf/"):
        require_trusted(["--config-path", str(stranger(tmp_path)), "--config-name", "train"])


@pytest.mark.parametrize("file", ["config", "env/default", "job_logging/default"])
def test_hydras_own_settings_in_a_strangers_folder_are_refused(file: str, tmp_path: Path) -> None:
    folder = stranger(tmp_path)
    place = folder / "hydra" / f"{file}.yaml"
    place.parent.mkdir(parents=True)
    place.write_text("# @package _global_\nhydra: {callbacks: {mine: {_target_: evil.call}}}\n")
    with pytest.raises(ConfigError, match=f"{folder / 'hydra'} is beside it"):
        require_trusted(["--config-dir", str(folder), "--config-name", "config"])
    with pytest.raises(ConfigError, match=f"{folder / 'hydra'} is beside it"):
        require_trusted(["--config-dir", str(tmp_path / "received"), "--config-name", "../received/config"])


def test_a_run_of_ours_is_composed_from_its_folder(tmp_path: Path) -> None:
    done = train(["--config-dir", str(stranger(tmp_path)), "--config-name", "config", "lora.r=0"], tmp_path)
    assert done.stderr.splitlines() == ["lora.r=0 is out of range. Fix: lora.r=..., a rank, from 1 to 4096"]


def test_all_that_conf_names_is_allowed() -> None:
    named = {
        value
        for file in CONF_DIR.rglob("*.yaml")
        if "hydra" not in file.parts
        for line in file.read_text().splitlines()
        if (value := line.partition("_target_: ")[2].partition(",")[0].strip())
    }
    assert named - ALLOWED == set()
    assert len(named) > 25


def test_options_of_ones_own_may_name_any_class(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "class Format:\n    def __init__(self, mark: str):\n        self.mark = mark\n"
    )
    (tmp_path / "options" / "dataset_format").mkdir(parents=True)
    (tmp_path / "options" / "dataset_format" / "mine.yaml").write_text("_target_: mine.Format\nmark: x\n")
    typed = ["--config-dir", "options", "dataset_format=mine", "lora.r=0"]
    done = train(typed, tmp_path)
    assert done.stderr.splitlines() == ["lora.r=0 is out of range. Fix: lora.r=..., a rank, from 1 to 4096"]


# Links ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "link",
    ["train.log", "checkpoints", "checkpoints/checkpoint-4/optimizer.pt", ".environment.json.tmp", "wandb"],
)
def test_a_link_that_leads_out_of_a_folder_is_refused_and_nothing_is_written(
    link: str, tmp_path: Path
) -> None:
    """Named so, a run that goes on would write to it, or empty it."""
    (tmp_path / "mine").mkdir()
    mine = tmp_path / "mine" / "file"
    mine.write_text("mine\n")
    folder = Folder(compose(["model=tiny", f"runs_dir={tmp_path / 'runs'}"]))
    (folder.path / link).parent.mkdir(parents=True)
    folder.write_json("identity.json", folder.run.identity | {"tracker_id": "0123456789ab"})
    to = mine.parent if link in ("checkpoints", "wandb") else mine
    (folder.path / link).symlink_to(to)
    before = sorted(path.relative_to(folder.path) for path in folder.path.rglob("*"))
    with pytest.raises(ConfigError) as refused, folder.open():
        pass
    assert str(refused.value) == (
        f"{folder.path / link} leads out of the run's folder, to {to}. Fix: rm '{folder.path / link}', or "
        "rerun=true, which keeps the folder aside"
    )
    assert sorted(path.relative_to(folder.path) for path in folder.path.rglob("*")) == before
    with Folder(compose(["model=tiny", f"runs_dir={tmp_path / 'runs'}", "rerun=true"])).open():
        pass  # as the message says
    assert [path.name for path in mine.parent.iterdir()] == ["file"]
    assert mine.read_text() == "mine\n"


def test_links_inside_a_folder_and_those_of_wandb_are_no_danger(tmp_path: Path) -> None:
    inside = tmp_path / "folder" / "wandb" / "offline-run-1" / "logs"
    inside.mkdir(parents=True)
    (inside / "debug-core.log").symlink_to(tmp_path / "cache.log")  # as W&B leaves it
    (inside.parents[1] / "latest-run").symlink_to("offline-run-1")
    (tmp_path / "folder" / "metrics.jsonl").symlink_to("not/there")
    require_inside(tmp_path / "folder")
    (tmp_path / "link").symlink_to("folder")  # one's own, on another disk
    require_inside(tmp_path / "link")
    (inside.parents[1] / "debug.log").symlink_to("../../cache.log")
    for folder in ("folder", "link"):
        with pytest.raises(ConfigError, match=r"debug\.log leads out of the run's folder"):
            require_inside(tmp_path / folder)


def test_a_lock_and_a_picture_are_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine\n")
    (tmp_path / "lock").symlink_to("mine")
    with pytest.raises(ConfigError, match="lock is a symbolic link"), held(tmp_path / "lock", tmp_path):
        pass
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    (tmp_path / "run" / "curves.png").symlink_to("../mine")
    command = [sys.executable, "-m", "sft_research.curves", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "run/curves.png is a link to ../mine. Fix: give OUT.png\n")
    assert (tmp_path / "mine").read_text() == "mine\n"


# Checkpoints and models ----------------------------------------------------------------------------


class Trace:
    """Unpickled, it leaves a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (open, (str(self.file), "w"))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"])
def test_a_checkpoint_runs_no_code_when_training_goes_on_from_it(name: str, tmp_path: Path) -> None:
    settings = ["training.max_steps=2", "training.eval_strategy=no", "training.save_strategy=steps"]
    trainer = make(tmp_path, *settings, "training.save_steps=1", "training.on_oom=error")
    trainer.train()
    checkpoint = tmp_path / "checkpoint-1"
    ran = tmp_path / "ran"
    assert (checkpoint / name).is_file()
    torch.save({"state": Trace(ran)}, checkpoint / name)
    if name == "training_args.bin":  # nothing reads it
        trainer.train(resume_from_checkpoint=str(checkpoint))
    else:
        with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
            trainer.train(resume_from_checkpoint=str(checkpoint))
    assert not ran.exists()
    torch.load(checkpoint / name, weights_only=False)  # it would have
    assert ran.exists()


@pytest.mark.parametrize(
    ("lora", "file"), [("default", "adapter_model.safetensors"), ("none", "model.safetensors")]
)
def test_weights_are_safetensors(lora: str, file: str, trained: Callable[..., Done]) -> None:
    saving = ["training.save_strategy=steps", "training.save_steps=6", "training.eval_strategy=no"]
    done = trained("tracking=none", "backend=transformers", f"lora={lora}", *saving)
    assert (Path(done.result["weights"]).name, done.folder.joinpath("adapter").exists()) == (
        ("adapter", True) if lora == "default" else ("model", False)
    )
    places = (done.folder / Path(done.result["weights"]).name, done.folder / "checkpoints" / "checkpoint-6")
    for place in places:
        assert (place / file).is_file()
        pickled = {path.name for path in place.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")}
        assert pickled <= {"optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"}


def test_code_of_a_model_is_not_run(tiny_folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_folder, model)
    (model / "evil.py").write_text(EVIL)
    config = json.loads((model / "config.json").read_text())
    classes = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (model / "config.json").write_text(json.dumps({**config, "model_type": "strange", "auto_map": classes}))
    own = [o for o in TINY if o != "model=tiny"]
    done = trained_here(
        ["model=tiny", f"model.name={model}", "backend=transformers", "tracking=none", *own], tmp_path
    )
    assert done.status == 1, done.out + done.err
    assert not (tmp_path / "ran").exists()
    assert f"{model} brings Python code of its own, and code of a checkpoint is never run" in done.err
