"""Is what the run names there? A local path at once; a hub within seconds, not after minutes of retries."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

TIMEOUT_S = 8  # one question a name: a model and a dataset are refused within 20 s


def local_files(cfg: DictConfig) -> Iterator[str]:
    """A path that is not there, a folder that is not a model, a length past its positions."""
    model = _names(cfg)[0]
    if _is_path(model):
        config = Path(model).expanduser() / "config.json"
        if not config.is_file():
            missing = "there is no such folder" if not config.parent.is_dir() else "it has no config.json"
            yield f"model.name={model}: {missing}. Fix: model.name=FOLDER of a saved model, or model=smollm2"
        else:
            yield from past_positions(json.loads(config.read_text()), cfg.model.max_length, model)
    for key in ("path", "held_out"):
        place = OmegaConf.select(cfg, f"dataset.{key}", throw_on_missing=False)
        if _is_path(place) and not glob(os.path.expanduser(str(place))):
            yield f"dataset.{key}={place}: there is no such file or folder. Fix: dataset.{key}=PATH"


def past_positions(config: dict[str, Any], max_length: int, name: str) -> Iterator[str]:
    """Rows longer than the positions a model was made with (`config`: its config.json)."""
    limit = config.get("max_position_embeddings")
    if limit and max_length > limit:
        yield (
            f"model.max_length={max_length} is longer than the {limit} positions of {name}. "
            f"Fix: model.max_length={limit}"
        )


def unreachable(cfg: DictConfig) -> Iterator[str]:
    """Names that only the hub has, asked for once: no answer, no such repository, no access."""
    model, data = _names(cfg)
    for kind, key, name in (("models", "model.name", model), ("datasets", "dataset.path", data)):
        if isinstance(name, str) and not _is_path(name) and ":" not in name and not _is_cached(kind, name):
            yield from _ask(kind, key, name)


def _names(cfg: DictConfig) -> tuple[Any, Any]:
    hub_data = str(cfg.dataset.get("_target_")).startswith("sft_research.dataset.")
    name = OmegaConf.select(cfg, "model.name", throw_on_missing=False)
    return name, OmegaConf.select(cfg, "dataset.path", throw_on_missing=False) if hub_data else None


def _is_path(name: Any) -> bool:
    """`./x`, `/x`, `~/x`, `x.jsonl`, a glob, or anything that exists; `org/name` is the hub's otherwise."""
    if not isinstance(name, str) or ":" in name:
        return False
    looks = name.startswith((".", "/", "~")) or "*" in name or name.count("/") > 1
    return looks or Path(name).suffix in (".jsonl", ".json", ".csv", ".parquet") or Path(name).exists()


def _is_cached(kind: str, name: str) -> bool:
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"
    )
    cache = Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub"))
    return any(cache.glob(f"{kind}--{name.replace('/', '--')}/snapshots/*/*"))


def _ask(kind: str, key: str, name: str) -> Iterator[str]:
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    local = f"Fix: {key}=FOLDER, a local copy" + (", or model=smollm2" if kind == "models" else "")
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        yield f"{key}={name} is not in the local cache and HF_HUB_OFFLINE is set. {local}"
        return
    request = urllib.request.Request(f"{endpoint}/api/{kind}/{name}")
    if token := os.environ.get("HF_TOKEN"):
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            return
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):
            yield (
                f"{key}={name}: the hub says {error.code}, so there is no such {kind[:-1]} or it is gated. "
                f"Check its spelling, and HF_TOKEN in the environment or a .env file. {local}"
            )
        else:
            yield f"{key}={name}: the hub at {endpoint} answers {error.code} {error.reason}. {local}"
    except (OSError, ValueError) as error:
        yield f"{key}={name} is needed, but the hub at {endpoint} cannot be reached ({error}). {local}"
