"""What decides a run's result: its config, with each name in it replaced by what the name holds now.

A local path becomes the fingerprint of its content, so that a moved file is the same data and a changed one
is not; a name of the hub gets the commit that is in the local cache. A file whose size and time are those
the run's folder has noted is not read again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sft_research import files, hub
from sft_research.config import NOT_IDENTITY, Run
from sft_research.untrusted import read_json

NAME = "identity.json"


def of(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """{"id", "inputs": {key: {"content", "files"}}} of a resolved config; `folder` may hold what was noted."""
    noted = read(folder).get("inputs", {})
    decides = json.loads(json.dumps({k: v for k, v in config.items() if k not in NOT_IDENTITY}))
    if decides.get("devices") == 1:  # said or not: it is what every run was before there were several
        del decides["devices"]
    inputs = {}
    for key, node, name in list(_names(decides)):
        inputs[key] = _content(node[name], node.get("revision"), noted.get(key), name == "name")
        if inputs[key]["files"]:
            node[name] = None  # where it lies decides nothing
    contents = {key: found["content"] for key, found in inputs.items()}
    text = json.dumps([decides, contents], sort_keys=True)
    return {"id": hashlib.sha256(text.encode()).hexdigest()[:12], "inputs": inputs}


def read(folder: Path) -> dict[str, Any]:
    """What a run noted of itself when it began; empty where nothing is, or half of it."""
    return read_json(folder / NAME)


def model_revision(run: Run) -> str | None:
    """Fingerprint of a local folder, or the commit of a name of the hub, once it is in the cache."""
    model = run.cfg.model
    return run.identity["inputs"]["model.name"]["content"] or _commit(model.name, model.get("revision"), True)


def _names(decides: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(dotted key, its node, its last word) of what names data or weights."""
    model = decides.get("model")
    for name in ("name", "chat_template"):
        if isinstance(model, dict) and isinstance(model.get(name), str):
            yield f"model.{name}", model, name
    yield from _paths(decides.get("dataset"), "dataset")


def _paths(node: Any, where: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    if isinstance(node, list):
        node = dict(enumerate(node))
    if not isinstance(node, dict):
        return
    for name, value in node.items():
        # A hub's held_out is the name of a split.
        is_place = name == "path" or (name == "held_out" and node.get("_target_") == hub.FILE)
        if is_place and isinstance(value, str):
            yield f"{where}.{name}", node, name
        else:
            yield from _paths(value, f"{where}.{name}")


def _content(value: str, revision: Any, noted: Any, is_model: bool) -> dict[str, Any]:
    """What a name holds now: {"content": hash or commit or None, "files": {path: [size, time]}}."""
    if is_model and ":" in value:  # made here, of what the name says
        return {"content": value, "files": {}}
    found = _stamps(value)
    if found:
        if noted and noted["files"] == found:
            return dict(noted)
        try:
            return {"content": files.fingerprint(value), "files": found}
        except OSError:  # said with its cause where the rows or weights themselves are read
            return {"content": None, "files": found}
    # A name that was in no cache when the run began stays unknown to it.
    if noted is not None and noted["content"] is None:
        return {"content": None, "files": {}}
    # One that another machine's cache has, where the run was made, is as well known.
    commit = _commit(value, revision, is_model) or (noted and noted["content"])
    return {"content": commit, "files": {}}


def _stamps(pattern: str) -> dict[str, list[int]]:
    """Size and time of change of every file that a path, a glob or a folder names."""
    return {str(f): [f.stat().st_size, f.stat().st_mtime_ns] for f in files.inside(pattern)}


def _commit(name: str, revision: Any, is_model: bool) -> str | None:
    """The commit that the local cache of the hub has for a name."""
    kind = "models" if is_model else "datasets"
    file = hub.cache() / f"{kind}--{name.replace('/', '--')}" / "refs" / str(revision or "main")
    return file.read_text().strip() if file.is_file() else revision
