"""All that the page and the pictures show, as plain values: texts are bounded, curves thinned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sft_research.comparison import Comparison, Ranked
from sft_research.edges import NAMES
from sft_research.lacking import lacking
from sft_research.pairs import best_of, heatmaps
from sft_research.past_runs import PastRun
from sft_research.points import deciding
from sft_research.untrusted import line, number
from sft_research.verdict import Verdict

MOST_ROWS = 1_000  # of a run's curves; evaluations are always kept
MOST_SAMPLES, LONGEST = 16, 1_500  # questions a run, characters of a text
AXES = {"loss_tokens": "loss tokens", "step": "steps", "seconds": "seconds of training"}
SERIES = {
    "eval/loss": "held-out loss, nats a token",
    "train/loss": "training loss, nats a token",
    "train/learning_rate": "learning rate",
    "train/grad_norm": "gradient norm",
    "eval/exact_match": "right answers, share",
    "train/tokens_per_second": "real tokens a second",
}
FACTS = {
    "steps": "steps",
    "loss_tokens": "loss tokens",
    "train_seconds": "seconds of training",
    "tokens_per_second": "real tokens a second",
    "peak_memory_gib": "GiB at the peak",
    "trainable_parameters": "weights trained",
    "lora_scale": "LoRA scale",
}


def data(c: Comparison, verdict: Verdict, command: str) -> dict[str, Any]:
    """For JSON: nothing in it is markup, and nothing is longer than it says."""
    configs = [deciding(run) for run in c.runs if run.is_there]
    keys = sorted({key for config in configs for key in config})
    common = {k: configs[0].get(k) for k in keys if len({repr(config.get(k)) for config in configs}) == 1}
    ranked = [row for section in c.sections for row in section.ranked]
    home = {id(run): at for at, row in enumerate(ranked) for run in row.point.runs.values()}
    texts: dict[str, int] = {}
    return {
        "title": verdict.title,
        "findings": [vars(finding) for finding in verdict.findings],
        "metric": vars(c.metric),
        "keys": c.keys,
        "lead": next((effect.key for effect in verdict.effects), c.keys[0] if c.keys else None),
        "names": {key: NAMES.get(key, key) for key in c.keys},
        "contract": c.contract,
        "seeds": c.seeds,
        "sections": _sections(c),
        "points": [_point(row) for row in ranked],
        "runs": [_run(run, home.get(id(run), -1), c, common, texts) for run in c.runs if run.is_there],
        "planned": len(c.runs),
        "lacking": [[state, lines[:200], len(lines)] for state, lines in lacking(c)],
        "notes": c.notes,
        "axes": AXES,
        "series": {k: v for k, v in SERIES.items() if any(k in row for run in c.runs for row in run.metrics)},
        "heatmaps": list(heatmaps(c)),
        "best_lr": best_of(c, "optimizer.lr", "lora.r"),
        "common": common,
        "texts": list(texts),
        "command": command,
    }


def _sections(c: Comparison) -> list[dict[str, Any]]:
    made, start = [], 0
    for section in c.sections:
        made.append({"differs": section.differs, "start": start, "count": len(section.ranked)})
        start += len(section.ranked)
    return made


def _point(row: Ranked) -> dict[str, Any]:
    return {
        "label": row.point.label,
        "settings": row.point.settings,
        "mean": row.mean,
        "spread": row.spread,
        "values": list(row.values.values()),
        "whole": row.is_whole,
        "note": row.note,
    }


def _run(
    run: PastRun, point: int, c: Comparison, common: dict[str, Any], texts: dict[str, int]
) -> dict[str, Any]:
    git = run.environment.get("git")
    made_by = {
        "code": git.get("commit", "")[:12]
        if isinstance(git, dict) and isinstance(git.get("commit"), str)
        else "",
        "machine": line(run.environment.get("gpus") or run.environment.get("cpu") or ""),
        "command": line(run.result.get("command", ""), LONGEST),
        "folder": line(run.folder, 300),
    }
    cause = run.failure.get("cause")
    fixes = cause.get("fixes") if isinstance(cause, dict) else None
    return {
        "label": c.labels[run.folder],
        "name": line(run.name, 300),
        "seed": line(run.seed, 20),
        "point": point,
        "state": run.state,
        "why": run.why,
        "fixes": [line(_words(fix), 300) for fix in fixes[:5]] if isinstance(fixes, list) else [],
        "scores": {
            w: {k: run.score(k, w) for k in ("loss", "exact_match", "form")} for w in ("before", "after")
        },
        "facts": {name: n for key, name in FACTS.items() if (n := number(run.result.get(key))) is not None},
        "made_by": {name: said for name, said in made_by.items() if said},
        "config": {
            k: line(v) if isinstance(v, str) else v for k, v in deciding(run).items() if k not in common
        },
        "curves": curves(run.metrics),
        "samples": list(_samples(run, texts)),
    }


def _words(fix: Any) -> Any:
    return "  ".join(map(str, fix)) if isinstance(fix, list) else fix


def curves(rows: Sequence[dict[str, float]]) -> dict[str, list[float | None]]:
    """Columns, a value a step: {"step": [1, 2], "loss_tokens": [...], "train/loss": [2.5, None], ...}."""
    by_step: dict[float, dict[str, float]] = {}
    for row in rows:
        if "step" in row:
            by_step.setdefault(row["step"], {}).update(row)
    merged = [by_step[step] for step in sorted(by_step)]
    every = -(-len(merged) // MOST_ROWS)
    kept = [
        row
        for at, row in enumerate(merged)
        if at % max(every, 1) == 0 or "eval/loss" in row or row is merged[-1]
    ]
    columns = {key: [row.get(key) for row in kept] for key in (*AXES, *SERIES)}
    return {
        key: [
            None if value is None else float(f"{value:.5g}") if key not in AXES else round(value, 2)
            for value in column
        ]
        for key, column in columns.items()
        if any(value is not None for value in column)
    }


def _samples(run: PastRun, texts: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Texts by their number in `texts`: a hundred runs are asked the same questions."""
    for sample in run.samples[:MOST_SAMPLES]:
        said = {
            key: sample[key]
            for key in ("question", "expected", "before", "after")
            if isinstance(sample.get(key), str)
        }
        numbers = {key: texts.setdefault(value[:LONGEST], len(texts)) for key, value in said.items()}
        yield numbers | ({"right": sample["right"]} if isinstance(sample.get("right"), bool) else {})


def score(seen: dict[str, Any], value: float | None, digits: int = 4) -> str:
    """A value of the metric as it is written everywhere."""
    if value is None:
        return ""
    return f"{value:.{digits}f}" if seen["metric"]["key"] == "loss" else f"{100 * value:.1f} %"
