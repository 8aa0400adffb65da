"""Runs put side by side: points ranked under one contract, and all that is not ranked named with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from sft_research.contract import Group, clauses, common_seeds, groups
from sft_research.environment import DECIDING
from sft_research.missing import missing
from sft_research.past_runs import PastRun
from sft_research.points import Metric, Point, deciding, label, ordered, points, settings, text, varied
from sft_research.spread import spread
from sft_research.untrusted import line


@dataclass(frozen=True)
class Ranked:
    """A point with its values on the common seeds; `is_whole` where it has them all."""

    point: Point
    values: dict[Any, float]
    is_whole: bool
    note: str

    @property
    def mean(self) -> float:
        return mean(self.values.values())

    @property
    def spread(self) -> float | None:
        return spread(list(self.values.values()))


@dataclass(frozen=True)
class Section:
    """Points under one contract, best first, whole ones before those that lack seeds."""

    differs: list[str]  # from the first section
    ranked: list[Ranked]


@dataclass(frozen=True)
class Comparison:
    """What the verdict, the tables, the files and the page are made of."""

    metric: Metric
    keys: list[str]  # that vary in the first section
    seeds: list[Any]  # that points of the first section are averaged over
    contract: list[tuple[str, str]]  # what they have in common: (clause, value)
    sections: list[Section]
    unfinished: list[PastRun]
    labels: dict[Path, str]  # of the folder of each run
    missing: list[
        tuple[dict[str, Any], Any]
    ]  # (settings, seed) without a folder, where no grid says what it plans
    notes: list[str]
    runs: list[PastRun]

    @property
    def ranked(self) -> list[Ranked]:
        return self.sections[0].ranked if self.sections else []


def compare(runs: Sequence[PastRun], metric: Metric, across: Sequence[str] = ()) -> Comparison:
    """Group, rank and label; raises ConfigError where no two points can be compared fairly."""
    finished = [run for run in runs if run.state == "finished"]
    found, repeats = points(runs, varied(finished))
    scored = [point for point in found if point.values(metric)]
    by_contract = groups(scored, metric, across) if scored else []
    there = [run for run in runs if run.is_there]
    first = [run for point in by_contract[0].points for run in point.runs.values()] if by_contract else there
    planned = grid_keys(runs)
    keys = _keys(first, planned)
    told = {run.folder: _told(run, keys, first, planned) for run in runs}
    by_contract = [
        replace(group, points=[_named(point, told) for point in group.points]) for group in by_contract
    ]
    of_grids = {run.folder.parent for run in runs if run.grids}
    alike = [r for r in runs if told[r.folder].keys() == set(keys) and r.folder.parent not in of_grids]
    return Comparison(
        metric=metric,
        keys=keys,
        seeds=common_seeds(by_contract[0].points) if by_contract else [],
        contract=_contract(by_contract, metric, across) if by_contract else [],
        sections=[Section(group.differs, _ranked(group, metric)) for group in by_contract],
        unfinished=[run for run in runs if run.state != "finished"],
        labels={run.folder: label(told[run.folder]) if run.config else run.name for run in runs},
        missing=missing(alike, keys),
        notes=[*_repeated(repeats), *_unscored(found, scored, metric), *_made_differently(runs)],
        runs=list(runs),
    )


def grid_keys(runs: Sequence[PastRun]) -> list[str]:
    """The overrides that tell the points of a grid apart, made or not; the seed is none of them."""
    found = set()
    for grid in {grid for run in runs for grid in run.grids}:
        plans = [run.planned for run in runs if grid in run.grids]
        keys = {key for plan in plans for key in plan if key != "seed"}
        found |= {key for key in keys if len({repr(plan.get(key)) for plan in plans}) > 1}
    return ordered(found)


def _keys(first: Sequence[PastRun], planned: Sequence[str]) -> list[str]:
    """The keys that vary in the first section, and those that will when its grid is done."""
    of_grid = [run.config for run in first if run.grids and run.is_there][:1]
    return ordered({*varied(first), *(key for config in of_grid for key in planned if key in config)})


def _told(
    run: PastRun, keys: Sequence[str], first: Sequence[PastRun], planned: Sequence[str]
) -> dict[str, Any]:
    """The values that tell a run apart: of the keys that vary, and those that no run of the first section has."""
    if not run.is_there:  # only what its overrides say is known
        return settings(run, [key for key in planned if key in run.planned])
    own, common = deciding(run), deciding(next((run for run in first if run.config), run))
    strange = sorted(
        k for k in {*own, *common} - {*keys, "dataset.seed"} if repr(own.get(k)) != repr(common.get(k))
    )
    return settings(run, [*keys, *strange])


def _named(point: Point, told: dict[Path, dict[str, Any]]) -> Point:
    values = told[point.any.folder]
    return replace(point, settings=values, label=label(values))


def _ranked(group: Group, metric: Metric) -> list[Ranked]:
    seeds = common_seeds(group.points)
    made = []
    for point in group.points:
        values = point.values(metric)
        shared = {seed: values[seed] for seed in seeds if seed in values}
        lacking = [seed for seed in seeds if seed not in values]
        extra = [seed for seed in values if seed not in seeds]
        note = [f"lacks seed {_listed(lacking)}"] if lacking else []
        note += [f"seed {_listed(extra)} not averaged in"] if extra else []
        made.append(Ranked(point, shared or values, not lacking, ", ".join(note)))
    return sorted(made, key=lambda row: (not row.is_whole, metric.sign * row.mean))


def _contract(found: Sequence[Group], metric: Metric, across: Sequence[str]) -> list[tuple[str, str]]:
    everyone = [run for group in found for point in group.points for run in point.runs.values()]
    seeds = common_seeds(found[0].points)
    said = []
    for rule in clauses(everyone, metric):
        values = [rule.of(run) for point in found[0].points for run in point.runs.values()]
        shown = list(dict.fromkeys(rule.said(value) for value in values))
        if rule.key in across:
            said.append((rule.name, f"differs, as asked: {'; '.join(shown[:6])}"))
        elif rule.key == "tokens" and len(shown) > 1:
            said.append((rule.name, f"{rule.said(min(values))} to {rule.said(max(values))}, by seed"))
        else:
            said.append((rule.name, "; ".join(shown[:6])))
    return [*said, ("seeds", _listed(seeds))]


def _repeated(repeats: Sequence[PastRun]) -> Iterator[str]:
    for run in repeats:
        yield f"{run.name} repeats a point with its seed, and is left out"


def _unscored(found: Sequence[Point], scored: Sequence[Point], metric: Metric) -> Iterator[str]:
    without = [point.label for point in found if point not in scored]
    if without:
        yield f"without {metric.name}, and left out: {line(', '.join(without))}"


def _made_differently(runs: Sequence[PastRun]) -> Iterator[str]:
    """Code, versions and machines are part of no contract, and said where they differ."""
    finished = [run for run in runs if run.state == "finished"]
    facts: dict[str, set[str]] = {}
    for run in finished:
        for name, value in _made_by(run):
            facts.setdefault(name, set()).add(line(value, 60))
    for name, values in facts.items():
        if len(values) > 1:
            yield f"{name} differs: {', '.join(sorted(values))}"
    unproven = [run.name for run in finished if run.result.get("preflight") != "passed"]
    if unproven and len(unproven) < len(finished):
        yield f"not proven by preflight: {line(', '.join(unproven))}"


def _made_by(run: PastRun) -> Iterator[tuple[str, Any]]:
    made = run.environment
    git, packages = made.get("git"), made.get("packages")
    if isinstance(git, dict):
        yield "code", f"{str(git.get('commit'))[:12]}{' with changes' if git.get('diff') else ''}"
    if isinstance(packages, dict):
        yield from ((name, packages[name]) for name in DECIDING if name in packages)
    yield "processor", made.get("gpus") or made.get("cpu")


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(text(value) for value in values) or "none"
