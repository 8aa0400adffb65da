"""`compare --wandb ENTITY/PROJECT`: the comparison as a report on W&B's server, its panels drawn there from the runs.

The runs are those of the same groups, so that a grid which goes on is shown as far as it is. Keys are those that
`tracking.py` logs: config is nested there (lora.r), curves lie over loss_tokens.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from sft_research import secrets
from sft_research.comparison import Comparison
from sft_research.config import ConfigError
from sft_research.edges import NAMES
from sft_research.points import Metric
from sft_research.tracking import host, wandb_key_is_configured
from sft_research.verdict import Verdict

EXTRA = "wandb_workspaces"
PATIENCE_S = 10  # for the server's first word
WIDE, HIGH = 24, 9  # a report's grid has 24 columns; rows of a panel
MOST = 4  # settings that curves are grouped by


def place_of(word: str) -> tuple[str, str]:
    """(entity, project) of ENTITY/PROJECT; raises ConfigError for anything else."""
    found = re.fullmatch(r"([\w.-]+)/([\w. -]+)", word)
    if not found:
        raise ConfigError(f"--wandb {word} names no project. Fix: --wandb ENTITY/PROJECT")
    return found[1], found[2]


def save(c: Comparison, verdict: Verdict, place: tuple[str, str], command: str) -> str:
    """Save a new report and give its address; raises ConfigError where library, key, server or project is missing."""
    _require_server()
    os.environ.setdefault("WANDB_SILENT", "true")  # the address is said here
    import wandb

    made = report(c, verdict, place, command)
    try:
        made.save()
        return str(made.url)
    except (wandb.errors.Error, ValueError, OSError) as error:
        said = secrets.redact(" ".join(str(error).split()))[:300]
        fix = f"Fix: a project that has runs, as {'/'.join(place)}, and a key that may write to it"
        raise ConfigError(f"W&B took no report: {said}. {fix}") from error


def _require_server() -> None:
    """Raise ConfigError, in one line, where W&B cannot be asked."""
    if find_spec(EXTRA) is None:
        raise ConfigError(
            '--wandb needs wandb-workspaces. Fix: pip install -e ".[report]", or leave out --wandb'
        )
    if (mode := os.environ.get("WANDB_MODE", "online")) != "online":
        raise ConfigError(f"--wandb needs W&B's server, and WANDB_MODE={mode}. Fix: WANDB_MODE=online")
    if not wandb_key_is_configured():
        raise ConfigError(f"--wandb has no key for {host()}. Fix: wandb login, or WANDB_API_KEY=...")
    server = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    try:
        urlopen(server, timeout=PATIENCE_S).close()
    except HTTPError:
        pass  # it answers
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        fix = "Fix: WANDB_BASE_URL=ADDRESS, or leave out --wandb and send the page of --out"
        raise ConfigError(f"W&B cannot be reached at {server}: {reason}. {fix}") from error


def report(c: Comparison, verdict: Verdict, place: tuple[str, str], command: str) -> Any:
    """A `wandb_workspaces` report: the verdict in words, then panels of the runs of the same groups."""
    import wandb_workspaces.reports.v2 as wr
    from wandb_workspaces import expr

    entity, project = place
    runs = wr.Runset(
        entity=entity,
        project=project,
        name="runs of this comparison",
        filters=[expr.Metric("Group").isin(groups(c))],
        order=[wr.OrderBy(wr.SummaryMetric(_logged(c.metric)), ascending=c.metric.lower_is_better)],
    )
    contract = "; ".join(f"{name} {value}" for name, value in c.contract)
    findings = [" ".join([finding.text, *finding.commands]) for finding in verdict.findings]
    words = [
        wr.P(secrets.redact(verdict.title)),
        *([wr.UnorderedList(items=[secrets.redact(said) for said in findings])] if findings else []),
        *([wr.P(secrets.redact(f"Same for all: {contract}."))] if contract else []),
        wr.CodeBlock(code=secrets.redact(command), language="markdown"),
    ]
    panels = list(_panels(c, wr))
    for at, panel in enumerate(panels):
        panel.layout = wr.Layout(x=WIDE // 2 * (at % 2), y=HIGH * (at // 2), w=WIDE // 2, h=HIGH)
    blocks = [*words, wr.PanelGrid(runsets=[runs], panels=panels)]
    title = secrets.redact(f"{', '.join(groups(c))}: {verdict.title}")
    return wr.Report(project=project, entity=entity, title=title[:128], blocks=blocks, width="fluid")


def groups(c: Comparison) -> list[str]:
    """What the tracker calls these runs together: their grid, or the experiment of one that is alone."""
    of_grids = {f"{grid.resolve().parent.parent.name}/{grid.name}" for run in c.runs for grid in run.grids}
    alone = {run.folder.resolve().parent.name for run in c.runs if not run.grids}
    return sorted(name[:128] for name in of_grids | alone)


def _panels(c: Comparison, wr: Any) -> Iterator[Any]:
    """Held-out curves by each setting that varies, rate against loss, every point, what matters, and training."""
    score, x = _logged(c.metric), "loss_tokens"
    for key in [*c.keys[:MOST]]:
        yield wr.LinePlot(
            title=f"{c.metric.name} by {NAMES.get(key, key)}",
            x=x,
            y=[score],
            groupby=wr.Config(key),
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            title_x="loss tokens",
        )
    yield wr.LinePlot(
        title="training loss", x=x, y=["train/loss"], title_x="loss tokens", max_runs_to_show=100
    )
    rate, rank, of_score = wr.Config("optimizer.lr"), wr.Config("lora.r"), wr.SummaryMetric(score)
    yield wr.ScatterPlot(title=f"{c.metric.name} by learning rate", x=rate, y=of_score, z=rank, log_x=True)
    axes = list(dict.fromkeys(["lora.r", "lora.alpha", "lora.scale", "optimizer.lr", *c.keys]))
    columns = [
        wr.ParallelCoordinatesPlotColumn(wr.Config(k), NAMES.get(k, k), log=k == "optimizer.lr") for k in axes
    ]
    last = wr.ParallelCoordinatesPlotColumn(of_score, c.metric.name, inverted=c.metric.lower_is_better)
    yield wr.ParallelCoordinatesPlot(title="every run across its settings", columns=[*columns, last])
    yield wr.ParameterImportancePlot(with_respect_to=score)


def _logged(metric: Metric) -> str:
    """Its key in the tracker."""
    return f"eval/{metric.key}"
