"""A configuration that somebody else may have written names only what is harmless to call.

`--config-dir RUN --config-name config` composes the config.yaml of a run's folder. Each `_target_` in it is
imported and called, so a stranger's folder would run a stranger's code; and what Hydra itself reads in it
(callbacks, logging, resolvers) is run before ours. So it is read as plain YAML first. What is typed, and the
options that our own conf/train.yaml finds in --config-dir, are the user's: those may name any class.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from sft_research.config import CONF_DIR, ConfigError

OPT_IN = "SFT_TRUST_CONFIG"  # a variable: a key could be set by the very file that is to be trusted
# Constructors that make a setting, a source of rows or an optimizer of their arguments, and do no more.
ALLOWED = frozenset(
    [
        *(f"sft_research.backend.{name}" for name in ("Transformers", "Unsloth")),
        *(f"sft_research.dataset.{name}" for name in ("File", "Hub")),
        *(
            f"sft_research.dataset_format.{name}"
            for name in ("Chat", "Instruction", "ShareGPT", "Template", "Thinking")
        ),
        *(f"sft_research.lora.{name}" for name in ("FullFineTuning", "Lora")),
        *(f"sft_research.mixture.{name}" for name in ("Mixture", "Part")),
        *(f"sft_research.tracking.{name}" for name in ("NoTracking", "TensorBoard", "Trackio", "Wandb")),
        "sft_research.arithmetic.Arithmetic",
        "sft_research.evaluate.Evaluation",
        "sft_research.model.Model",
        "sft_research.packing.Packing",
        *(
            f"bitsandbytes.optim.{name}"
            for name in ("Adam8bit", "AdamW", "AdamW8bit", "Lion", "Lion8bit", "PagedAdamW", "PagedAdamW8bit")
        ),
        *(f"torch.optim.{name}" for name in ("Adam", "AdamW", "Muon", "RMSprop", "SGD")),
        "trl.SFTConfig",
    ]
)
FIX = f"Fix: read it, and if you trust it: {OPT_IN}=1 in the environment"


def require_trusted(arguments: Sequence[str]) -> None:
    """Raise ConfigError where the command line composes a file other than conf/train.yaml that may run code."""
    from hydra._internal.utils import get_args_parser  # as Hydra will: it takes abbreviated flags too

    asked, _ = get_args_parser().parse_known_args(list(arguments))
    if asked.config_path and Path(asked.config_path).resolve() != CONF_DIR:
        raise ConfigError(
            f"--config-path {asked.config_path} leaves out conf/. Fix: --config-dir, for your options"
        )
    name = (asked.config_name or "train").removesuffix(".yaml")
    file = Path(asked.config_dir or "") / f"{name}.yaml"
    if name == "train" or not file.is_file() or os.environ.get(OPT_IN) == "1":
        return
    own = (
        file.parents[len(Path(name).parts) - 1] / "hydra"
    )  # config.yaml, env/, job_logging/, ... of Hydra's own
    shadows = [f"{own} is beside it, and Hydra takes its own settings from there"] if own.exists() else []
    if problems := [*shadows, *dangers(file)]:
        raise ConfigError("\n".join(f"{file}: {problem}. {FIX}" for problem in problems))


def require_inside(folder: Path) -> None:
    """Raise ConfigError where a link in a run's folder leads out of it: who goes on there would write where it leads.

    W&B's own links, in the folders of its runs, are left alone: each process of a run makes such a folder anew.
    """
    home = os.path.realpath(folder)
    for place, folders, files in os.walk(folder):
        for link in (Path(place, name) for name in (*folders, *files)):
            found = os.path.realpath(link)
            if link.is_symlink() and not Path(found).is_relative_to(home):
                raise ConfigError(
                    f"{link} leads out of the run's folder, to {found}. Fix: rm '{link}', or rerun=true, which "
                    "keeps the folder aside"
                )
        if Path(place).parent == folder / "wandb":
            folders.clear()


def dangers(file: Path) -> Iterator[str]:
    """What in a config file could run code that is not ours when it is composed and built."""
    text = file.read_text("utf-8")
    found: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    if not isinstance(found, dict):
        yield "it is no run's configuration"
        return
    for key in ("hydra", "defaults"):
        if key in found:
            yield f"{key}: a run's configuration has none, and Hydra acts on it"
    if re.search(r"^\s*#\s*@package", text, re.MULTILINE):
        yield "# @package: a run's configuration has none, and Hydra acts on it"
    for path, value in _leaves(found):
        if path.rpartition(".")[2] == "_target_" and value not in ALLOWED:
            yield f"{path}={value}: no class of this package or its optimizers, and building it runs its code"
        elif isinstance(value, str) and "${" in value:
            yield f"{path}={value!r}: a run's configuration is resolved, and what stands behind this is not known"


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    inside: Any = ()
    if isinstance(node, dict):
        inside = node.items()
        for key in node:
            yield f"{path}.{key}".lstrip("."), node[key]
    elif isinstance(node, list):
        inside = enumerate(node)
    for key, value in inside:
        yield from _leaves(value, f"{path}.{key}".lstrip("."))
