"""The Hydra machinery: where the config files are, one composed run, and how a part is built."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sft_research import secrets

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "conf").is_dir():  # installed as a wheel, which carries conf/ and experiments/ inside
    ROOT = Path(__file__).resolve().parent
CONF_DIR = ROOT / "conf"
LONGEST = 200  # characters of a folder's name, of the 255 bytes that file systems take: a lock lies beside it
MAIN = "train"  # conf/train.yaml, from which a run is composed

# Lets conf/train.yaml find experiments/ whatever directory the run is started from.
OmegaConf.register_new_resolver("repo_root", lambda: str(ROOT), replace=True)
# For --help, which leaves out the groups that Hydra keeps for itself and those outside conf/.
OmegaConf.register_new_resolver(
    "options_in",
    lambda folder: ", ".join(sorted(f.stem for f in (ROOT / folder).glob("*.yaml"))),
    replace=True,
)

# They say where a run is and rests, who watches it and whether it is proven first; they do not change its numbers
# or its name.
NOT_IDENTITY = ("runs_dir", "rerun", "tracking", "preflight", "plan", "pause_at")


class ConfigError(Exception):
    """The run cannot start as it is configured: the fact, the numbers, and the override that fixes it."""


@dataclass(frozen=True)
class Run:
    """One composed run: its config, and what was typed to get it."""

    cfg: DictConfig
    overrides: tuple[str, ...]
    experiment: str
    config_dir: str | None = None  # with options of one's own
    config_name: str = MAIN  # another: that of a run's folder, which this repeats

    @property
    def command(self) -> str:
        """What composes this run again, secrets struck out."""
        return secrets.redact(shlex.join(["python", *self.words]))

    @property
    def words(self) -> list[str]:
        """The same as an interpreter takes it, with secrets: never to be shown."""
        flags = ["--config-dir", self.config_dir] if self.config_dir else []
        flags += ["--config-name", self.config_name] if self.config_name != MAIN else []
        return ["-m", "sft_research.train", *flags, *self.overrides]

    @property
    def name(self) -> str:
        """A folder name that says what was overridden: `lora.r=32,optimizer.lr=0.001`, or `default`."""
        repeated = Path(self.config_dir or ".").resolve()
        of = [f"{repeated.parent.name}-{repeated.name}"] if self.config_name != MAIN else []
        return folder_name(self.overrides, of)

    @property
    def folder(self) -> Path:
        return Path(self.cfg.runs_dir) / self.experiment / self.name

    @property
    def id(self) -> str:
        """Hash of what decides the result: the config, and the data and weights that it names."""
        return str(self.identity["id"])

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The id, and what it was made of, as `identity.of` gives them."""
        from sft_research import identity

        return identity.of(self.resolved, self.folder)

    @property
    def preflight(self) -> bool:
        """`preflight=off` arrives as a word from the command line, and as a boolean from YAML."""
        return self.cfg.preflight in (True, "on")

    @property
    def resolved(self) -> dict[str, Any]:
        plain = OmegaConf.to_container(self.cfg, resolve=True)
        assert isinstance(plain, dict)
        return {str(key): value for key, value in plain.items()}


def folder_name(overrides: Sequence[str], of: Sequence[str] = ()) -> str:
    """What was overridden, readable and never too long for a file system: `lora.r=32,optimizer.lr=0.001`."""
    dropped = (*NOT_IDENTITY, "experiments", "hydra")
    last = {override.lstrip("+~").partition("=")[0]: override for override in overrides}  # which counts
    kept = sorted(_plain(o) for key, o in last.items() if re.split(r"[.=/@]", key)[0] not in dropped)
    text = secrets.redact(",".join([*of, *kept])) or "default"
    clean = re.sub(r"[^\w.,=+-]+", "_", text, flags=re.ASCII)
    if clean == text and len(text) <= LONGEST:
        return text
    # What was replaced or cut off still tells two apart.
    return f"{clean[: LONGEST - 10]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _plain(override: str) -> str:
    """`lr=1e-2` and `lr=0.01`, as a grid writes it, are one run."""
    key, equals, value = override.partition("=")
    for number in (int, float):
        try:
            return f"{key}{equals}{number(value)}"
        except ValueError:
            continue
    return override


def build(node: Any, **more: Any) -> Any:
    """Call the `_target_` of a config node with the node's keys.

    `_convert_="all"`: plain lists and dicts, since PEFT and W&B write theirs as JSON.
    """
    from hydra.utils import instantiate

    return instantiate(node, _convert_="all", **more)


def compose(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Run:
    """Compose a run as the command line does, in a process that Hydra did not start."""
    return _run(with_hydra(overrides, config_dir), overrides, config_dir)


def compose_one(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Run:
    """The same where one run is wanted; raises ConfigError for a grid, of which it would be a run by chance."""
    from hydra.types import RunMode

    cfg = with_hydra(overrides, config_dir)
    if cfg.hydra.mode == RunMode.MULTIRUN:
        varied = cfg.hydra.sweeper.params or {}
        grid = " ".join(f"{key}={values}" for key, values in varied.items())
        one = " ".join(["hydra.mode=RUN", *(f"{key}=..." for key in varied)])
        raise ConfigError(
            f"{' '.join(overrides)} is a grid of {grid or 'runs'}, and this makes one run. "
            f"Fix: python -m sft_research.train -m {shlex.join(overrides)}, or {one}"
        )
    return _run(cfg, overrides, config_dir)


def with_hydra(overrides: Sequence[str], config_dir: str | Path | None = None) -> DictConfig:
    """What Hydra composes of these overrides, its own part included."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    extra = []
    if config_dir:
        # Quoted for Hydra's grammar: a path may hold commas, brackets and quotes.
        found = [str(folder).replace("'", r"\'") for folder in (ROOT, Path(config_dir).resolve())]
        extra = [f"hydra.searchpath=['file://{found[0]}','file://{found[1]}']"]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return hydra_compose(MAIN, [*overrides, *extra], return_hydra_config=True)


def config_dir_of(hydra_config: Any) -> str | None:
    """The folder that `--config-dir` named."""
    sources = hydra_config.runtime.config_sources
    return next((source.path for source in sources if source.provider == "command-line"), None)


def _run(cfg: DictConfig, overrides: Sequence[str], config_dir: str | Path | None) -> Run:
    experiment = cfg.hydra.runtime.choices.get("experiments")
    folder = str(config_dir) if config_dir else None
    return Run(without_hydra(cfg), tuple(overrides), experiment or "default", folder)


def without_hydra(cfg: DictConfig) -> DictConfig:
    """The run's own part of a config that Hydra composed."""
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    if "devices" not in own:  # of a run's folder that is older than the key
        OmegaConf.set_struct(own, False)
        own.devices = 1
    OmegaConf.set_struct(own, True)
    return own
