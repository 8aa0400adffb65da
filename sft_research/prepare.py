"""The rows of a run as tokens, from the cache where nothing that decides them has changed."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from omegaconf import DictConfig, OmegaConf

from sft_research import cache
from sft_research.check import targets
from sft_research.config import ConfigError, build
from sft_research.dataset import Rows
from sft_research.readers import Broken
from sft_research.tokens import Data, encode

log = logging.getLogger(__name__)
# Modules that decide what a row becomes: a change in one of them misses the cache.
DECIDING = ("columns", "dataset", "dataset_format", "files", "pieces", "readers", "tokens", "turns")


@dataclass(frozen=True)
class Prepared:
    """The data of a run, the fingerprint of its rows, and where the tokens came from."""

    data: Data
    fingerprint: str
    from_cache: bool
    seconds: float


def prepare(cfg: DictConfig, tokenizer: Any, added_tokens: list[int]) -> Prepared:
    """Rows -> format -> tokens, or the tokens of an earlier run with the same of all three.

    Raises ConfigError for rows that cannot be taken, with their files, lines and reasons.
    """
    began = time.perf_counter()
    source, to_example = build(cfg.dataset), build(cfg.dataset_format)
    rows: Rows | None = None
    if hasattr(source, "fingerprint"):  # content that is known without reading rows
        fingerprint = source.fingerprint()
    else:
        rows = source.load()
        fingerprint = rows.fingerprint
    cut = not build(cfg.packing).keeps_long_rows
    key = _key(cfg, tokenizer, fingerprint, cut)
    found = cache.read(key)
    tokens = found
    if tokens is None:
        rows = rows or source.load()
        tokens = cache.write(key, _tokens(rows, to_example, tokenizer, cfg.model.max_length, cut))
    evaluated = cfg.training.get("eval_strategy", "no") != "no" or cfg.evaluation.questions > 0
    if evaluated and not tokens.held_out.examples:
        (rows or source.load()).require(evaluated)
        raise ConfigError(
            f"{_listed(tokens.held_out.bad)}\nNo held-out row is left. "
            "Fix: mend them, or training.eval_strategy=no evaluation.questions=0"
        )
    seconds = time.perf_counter() - began
    count = len(tokens.train.examples) + len(tokens.held_out.examples)
    log.info("%s", f"{count:,} rows as tokens in {seconds:.1f} s{', from the cache' if found else ''}")
    data = Data(tokenizer, tokens.train, tokens.held_out, added_tokens, tokens.checkable)
    return Prepared(data, fingerprint, found is not None, seconds)


def _tokens(rows: Rows, to_example: Any, tokenizer: Any, max_length: int, cut: bool) -> cache.Tokens:
    rows.require(evaluated=False)
    train = encode(rows.train, to_example, tokenizer, max_length, "training", cut=cut)
    held_out = encode(rows.held_out, to_example, tokenizer, max_length, "held-out")
    bad = [*train.bad, *held_out.bad]
    if bad and rows.on_bad_row == "error":
        raise ConfigError(f"{_listed(bad)}\nFix: mend them, or dataset.on_bad_row=skip to leave them out")
    if not train.examples:
        raise ConfigError(
            f"{_listed(bad)}\nNo training row is left. Fix: dataset_format=... for these columns"
        )
    return cache.Tokens(train, held_out, rows.checkable)


def _key(cfg: DictConfig, tokenizer: Any, fingerprint: str, cut: bool) -> str:
    """Hash of all that decides a row's tokens."""
    data: Any = OmegaConf.to_container(cfg.dataset, resolve=True)
    # A moved file has the same fingerprint. A split has a name, and skipped rows are kept with their places.
    movable = (
        () if data.get("on_bad_row") == "skip" else ("path",) if "split" in data else ("path", "held_out")
    )
    for key in movable:
        if isinstance(data.get(key), str):
            del data[key]
    settings = [data, OmegaConf.to_container(cfg.dataset_format, resolve=True), cfg.model.max_length, cut]
    template = str(tokenizer.chat_template or "")
    marks = [template, tokenizer.eos_token_id, tokenizer.bos_token_id]
    own = {node._target_ for part in (cfg.dataset, cfg.dataset_format) for _, node in targets(part)}
    theirs = {target.partition(".")[0] for target in own} - {"sft_research"}
    beside = {name for name in sys.modules if name.partition(".")[0] in theirs and _file(name)}  # its helpers
    modules = {f"sft_research.{name}" for name in DECIDING} | own | beside
    today = time.strftime("%Y-%m-%d") if "strftime_now" in template else ""  # Llama 3.2's says the date
    digest = xxhash.xxh3_128()
    for part in (
        fingerprint,
        json.dumps([settings, marks], sort_keys=True),
        _vocabulary(tokenizer),
        today,
        *(_source(name) for name in sorted(modules)),
    ):
        digest.update(part.encode(errors="surrogatepass") + b"\0")
    return digest.hexdigest()


def _vocabulary(tokenizer: Any) -> str:
    if tokenizer.is_fast:
        text: str = tokenizer.backend_tokenizer.to_str()
        return text
    return json.dumps([type(tokenizer).__name__, tokenizer.get_vocab()], sort_keys=True)


def _source(target: str) -> str:
    """The source of the module of a target that is ours or the user's own, the name of a library's."""
    module = target
    while module and module not in sys.modules:  # of `my_package.Format.from_file` too
        module = module.rpartition(".")[0]
    file = _file(module)
    return Path(file).read_text(errors="replace") if file else target


def _file(module: str) -> str:
    """Of a module that is ours or the user's own; empty for a library's."""
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    own = module.startswith("sft_research.") or (file.endswith(".py") and "site-packages" not in file)
    return file if own else ""


def _listed(bad: Sequence[Broken]) -> str:
    first = "\n".join(f"  {row.where}: {row.reason:.300}" for row in bad[:10])
    return f"{len(bad)} bad row{'s' if len(bad) > 1 else ''}{', the first ten' if len(bad) > 10 else ''}:\n{first}"
