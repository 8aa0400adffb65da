"""The curves of a run as a picture, drawn from its metrics.jsonl over loss tokens seen.

python -m sft_research.curves runs/demo/default [OUT.png]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

PANELS = (
    ("loss, nats a token", (("train/loss", "training"), ("eval/loss", "held out"))),
    ("learning rate", (("train/learning_rate", ""),)),
    ("gradient norm", (("train/grad_norm", ""),)),
)
BLUE, ORANGE, GREY = "#2563a8", "#d1670b", "#8a8f98"


def draw(metrics: Path, out: Path, title: str) -> None:
    """A PNG of 1,500 x 450 pixels: loss, learning rate and gradient norm, each over loss tokens."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    figure = Figure(figsize=(10, 3), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title[:110], fontsize=9)
    for axes, (label, series) in zip(figure.subplots(1, 3, width_ratios=(2, 1, 1)), PANELS, strict=True):
        for (key, name), colour in zip(series, (BLUE, ORANGE), strict=False):
            points = [(row["loss_tokens"], row[key]) for row in rows if key in row]
            if points:
                marker = "o" if key == "eval/loss" else None
                axes.plot(*zip(*points, strict=True), color=colour, label=name, marker=marker, lw=1.4, ms=4)
        axes.set_title(label, fontsize=8, loc="left", color="#333")
        axes.set_xlabel("loss tokens seen", fontsize=8, color=GREY)
        axes.tick_params(labelsize=7, colors=GREY)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 12k
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
        if len(series) > 1 and axes.lines:
            axes.legend(frameon=False, fontsize=8)
    figure.savefig(out)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    if not (folder / "metrics.jsonl").is_file():
        sys.exit(f"{folder} has no metrics.jsonl, so it is not the folder of a run")
    picture = Path(sys.argv[2]) if len(sys.argv) > 2 else folder / "curves.png"
    if picture.is_symlink() and len(sys.argv) < 3:  # of a folder that somebody else may have made
        sys.exit(f"{picture} is a link to {picture.readlink()}. Fix: give OUT.png")
    draw(folder / "metrics.jsonl", picture, title=f"{folder.parent.name} / {folder.name}")
