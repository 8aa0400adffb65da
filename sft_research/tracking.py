"""Who records the curves: Weights & Biases, Trackio, TensorBoard, or metrics.jsonl alone.

A tracker has three verbs: `start` with what the run is, `log` once a step, `finish` with the exit
status, also when training fails. A run that goes on logs its steps from the first again, and a tracker
takes those it has not got: its record has no gap and no step twice.
"""

from __future__ import annotations

import logging
import netrc
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from sft_research import secrets

log = logging.getLogger("sft_research")
UPLOAD_S = 300  # a run ends after this long without W&B's server; what is left is on disk, for `wandb sync`


@dataclass(frozen=True)
class About:
    """What a tracker is told of a run; `config` is resolved, plain and free of secrets."""

    name: str
    group: str  # the grid, or the experiment of a run that is alone
    folder: Path
    config: dict[str, Any]
    id: str | None = None  # the same in every process of a run
    goes_on: bool = False  # whether an earlier process has logged already
    experiment: str = "default"


class Tracker(Protocol):
    def start(self, about: About) -> None: ...
    def log(self, values: dict[str, float], step: int) -> None: ...
    def finish(self, exit_code: int) -> None: ...
    def where(self) -> str:
        """One line for a person: where the curves are."""
        ...


@dataclass
class Wandb:
    """The real client. `auto`: as WANDB_MODE says, else online where a key is configured, else offline."""

    project: str
    entity: str | None = None
    mode: Literal["auto", "online", "offline"] = "auto"
    tags: list[str] = field(default_factory=list)
    _run: Any = field(default=None, init=False, repr=False)
    _first: int = field(default=0, init=False, repr=False)  # step that the server has not got

    def start(self, about: About) -> None:
        import wandb

        # What is offline is written anew, whole: two files of one run would share steps.
        for old in about.folder.glob(f"wandb/offline-run-*-{about.id}"):
            shutil.rmtree(old)
        try:
            self._run = self._init(about, wandb_mode(self.mode))
        except wandb.errors.CommError as error:
            log.warning("W&B cannot be reached (%s): it records offline", str(error).partition("\n")[0])
            wandb.teardown()  # its service still holds the run's id
            self._run = self._init(about, "offline")
        self._first = self._run.step
        self._run.define_metric("loss_tokens", hidden=True)
        for part in ("train/*", "eval/*", "lora/*"):
            self._run.define_metric(part, step_metric="loss_tokens")

    def _init(self, about: About, mode: Any) -> Any:
        import wandb

        return wandb.init(
            project=self.project,
            entity=self.entity,
            id=about.id,
            resume="allow" if about.goes_on else None,
            name=about.name[:128],
            group=about.group[:128],
            job_type="train",
            tags=[secrets.redact(tag)[:64] for tag in (about.experiment, *self.tags)],
            config=about.config,
            dir=about.folder,
            mode=mode,
            reinit="create_new",
            # The run has its own log and its own record of the machine, both free of secrets.
            settings=wandb.Settings(
                silent=True,
                console="off",
                x_disable_meta=True,
                disable_git=True,
                save_code=False,
                finish_timeout=UPLOAD_S,
            ),
        )

    def log(self, values: dict[str, float], step: int) -> None:
        if step >= self._first:
            self._run.log(values, step=step)

    def finish(self, exit_code: int) -> None:
        self._run.finish(exit_code=exit_code)

    def where(self) -> str:
        if self._run.disabled:
            return "metrics.jsonl; WANDB_MODE=disabled turned W&B off"
        if not self._run.offline:
            return self._run.url
        return f"W&B is offline; to upload: wandb sync {Path(self._run.dir).parent}"


@dataclass
class Trackio:
    project: str
    _trackio: Any = field(default=None, init=False, repr=False)
    _first: int = field(default=0, init=False, repr=False)

    def start(self, about: About) -> None:
        import trackio

        self._trackio = trackio
        resume = "allow" if about.goes_on else "never"
        run = trackio.init(
            project=self.project, name=about.name, group=about.group, config=about.config, resume=resume
        )
        self._first = run._next_step

    def log(self, values: dict[str, float], step: int) -> None:
        if step >= self._first:
            self._trackio.log(values, step=step)

    def finish(self, exit_code: int) -> None:
        self._trackio.finish()

    def where(self) -> str:
        return f"trackio show --project {self.project}"


@dataclass
class TensorBoard:
    _writer: Any = field(default=None, init=False, repr=False)
    _folder: Path | None = field(default=None, init=False, repr=False)

    def start(self, about: About) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = about.folder / "tensorboard"
        shutil.rmtree(self._folder, ignore_errors=True)  # written anew, whole
        self._writer = SummaryWriter(self._folder)

    def log(self, values: dict[str, float], step: int) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)

    def finish(self, exit_code: int) -> None:
        self._writer.close()

    def where(self) -> str:
        return f"tensorboard --logdir {self._folder}"


@dataclass
class NoTracking:
    def start(self, about: About) -> None: ...

    def log(self, values: dict[str, float], step: int) -> None: ...

    def finish(self, exit_code: int) -> None: ...

    def where(self) -> str:
        return "metrics.jsonl"


def wandb_mode(asked: str) -> Any:
    """What `auto` comes to; any other mode is itself."""
    if asked != "auto":
        return asked
    return os.environ.get("WANDB_MODE") or ("online" if wandb_key_is_configured() else "offline")


def wandb_key_is_configured() -> bool:
    """WANDB_API_KEY, or `wandb login`'s line in ~/.netrc; asked without importing wandb."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(host()) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def host() -> str:
    """Of W&B's server."""
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
