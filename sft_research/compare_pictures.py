"""The page's charts as PNGs for a paper: 300 dots an inch, one column wide or two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_research.colours import colour, ink_on
from sft_research.compare_data import score
from sft_research.compare_maps import scale, sign_of
from sft_research.points import sorted_values, text
from sft_research.untrusted import line, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 300
FAINT = "#5f6670"


def draw(seen: dict[str, Any], folder: Path) -> list[Path]:
    """Of what `compare_data.data` gives; only pictures of which there is something to show."""
    keys = seen["keys"][:8]
    maps = [found for found in seen["heatmaps"] if found]
    wanted: list[tuple[str, bool, float, Callable[[Sequence[Axes]], None], int]] = [
        ("curves.png", any(run["curves"] for run in seen["runs"]), 3.2, lambda axes: _curves(axes, seen), 2),
        ("heatmaps.png", bool(maps), 3.0, lambda axes: _heatmaps(axes, seen, maps), max(len(maps), 1)),
        ("best_learning_rate.png", bool(seen["best_lr"]), 2.8, lambda axes: _best_lr(axes[0], seen), 1),
        (
            "parallel.png",
            len(_first(seen)) > 1 and bool(keys),
            3.0,
            lambda axes: _parallel(axes[0], seen, keys),
            1,
        ),
    ]
    return [_saved(folder / name, tall, count, fill) for name, shows, tall, fill, count in wanted if shows]


def _saved(file: Path, tall: float, count: int, fill: Callable[[Sequence[Axes]], None]) -> Path:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A label may be a stranger's: `$` is no formula.
    with rc_context(
        {"text.parse_math": False, "font.size": 8, "axes.titlesize": 8, "axes.labelcolor": FAINT}
    ):
        figure = Figure(figsize=(7.0 if count > 1 else 4.6, tall), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, count, squeeze=False)[0]
        for one in axes:
            one.spines[["top", "right"]].set_visible(False)
            one.tick_params(labelsize=7, colors=FAINT)
        fill(axes)
        figure.savefig(file)
    return file


def _first(seen: dict[str, Any]) -> list[dict[str, Any]]:
    """The points under the first contract, best first."""
    points: list[dict[str, Any]] = seen["points"][: seen["sections"][0]["count"]] if seen["sections"] else []
    return points


def _curves(axes: Sequence[Axes], seen: dict[str, Any]) -> None:
    """Held-out and training loss over loss tokens, coloured by the setting that matters most."""
    from matplotlib.ticker import EngFormatter

    key = seen["lead"]
    levels = sorted_values(_level(run, key) for run in seen["runs"] if run["curves"])
    for one, series in zip(axes, ("eval/loss", "train/loss"), strict=True):
        for run in seen["runs"]:
            pairs = zip(run["curves"].get("loss_tokens", ()), run["curves"].get(series, ()), strict=False)
            points = [(x, y) for x, y in pairs if x is not None and y is not None]
            if points:
                at = levels.index(_level(run, key)) / max(len(levels) - 1, 1)
                name = _short(levels[round(at * (len(levels) - 1))])
                one.plot(*zip(*points, strict=True), color=colour(0.85 * at), lw=0.8, alpha=0.8, label=name)
        one.set_title(seen["series"].get(series, series), loc="left", color=FAINT)
        one.set_xlabel("loss tokens")
        one.xaxis.set_major_formatter(EngFormatter(sep=""))
    named = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    if 1 < len(named) <= 12:
        order = [_short(level) for level in levels if _short(level) in named]
        title = seen["names"].get(key, "")
        axes[0].legend(
            [named[name] for name in order], order, frameon=False, fontsize=7, title=title, title_fontsize=7
        )


def _short(level: Any) -> str:
    """That a legend has room for."""
    return line(text(level), 32)


def _level(run: dict[str, Any], key: str | None) -> Any:
    return run["config"].get(key) if key else run["label"]


def _heatmaps(axes: Sequence[Axes], seen: dict[str, Any], maps: Sequence[dict[str, Any]]) -> None:
    sign, (best, worst) = sign_of(seen), scale(seen, maps)
    for one, found in zip(axes, maps, strict=True):
        for i, row in enumerate(found["cells"]):
            for j, cell in enumerate(row):
                if cell:
                    back = colour(1 - (cell["mean"] * sign - best) / (worst - best or 1.0))
                    is_best = cell["mean"] * sign == best
                    edge = (
                        {"edgecolor": "black", "lw": 1.8, "zorder": 3}
                        if is_best
                        else {"edgecolor": "white", "lw": 1.0}
                    )
                    one.add_patch(_square(j, i, back, edge))
                    said = score(seen, cell["mean"], 3)
                    one.text(j, i, said, ha="center", va="center", color=ink_on(back), fontsize=7, zorder=4)
        one.set(xlim=(-0.55, len(found["columns"]) - 0.45), ylim=(len(found["rows"]) - 0.45, -0.55))
        one.set_xticks(range(len(found["columns"])), [text(value) for value in found["columns"]])
        one.set_yticks(range(len(found["rows"])), [text(value) for value in found["rows"]])
        one.set_xlabel(seen["names"][found["column"]])
        one.set_ylabel(seen["names"][found["row"]])
        over = f"\nthe best over {', '.join(found['over'])}" if found["over"] else ""
        one.set_title(f"{seen['metric']['name']}{over}", loc="left", color=FAINT)
        one.spines[["left", "bottom"]].set_visible(False)
        one.tick_params(length=0)


def _square(x: float, y: float, back: str, edge: dict[str, Any]) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=back, **edge)


def _best_lr(one: Axes, seen: dict[str, Any]) -> None:
    found, sign = seen["best_lr"], 1 if seen["metric"]["lower_is_better"] else -1
    for i, (rank, cells) in enumerate(zip(found["rows"], found["cells"], strict=True)):
        pairs = [
            (x, cell["mean"]) for x, cell in zip(found["columns"], cells, strict=True) if cell and number(x)
        ]
        if not pairs:
            continue
        shade = colour(0.85 * i / max(len(found["rows"]) - 1, 1))
        one.plot(*zip(*pairs, strict=True), color=shade, marker="o", ms=3, lw=1.2, label=f"r={text(rank)}")
        best = min(pairs, key=lambda pair: sign * pair[1])
        one.plot(*best, marker="o", ms=7, mfc="none", mec="black", mew=1.2)
    if all((number(x) or 0) > 0 for x in found["columns"]):
        one.set_xscale("log")
        one.set_xticks(found["columns"], [text(x) for x in found["columns"]])
        one.minorticks_off()
    one.set(xlabel="learning rate", ylabel=f"{seen['metric']['name']}, {seen['metric']['unit']}")
    one.legend(frameon=False, fontsize=7)


def _parallel(one: Axes, seen: dict[str, Any], keys: Sequence[str]) -> None:
    points, sign = _first(seen), 1 if seen["metric"]["lower_is_better"] else -1
    means = [point["mean"] * sign for point in points]
    best, worst = min(means), max(means)
    levels = {key: sorted_values(point["settings"][key] for point in points) for key in keys}
    for point in reversed(points):  # the best on top
        goodness = 1 - (point["mean"] * sign - best) / (worst - best or 1.0)
        heights = [levels[key].index(point["settings"][key]) / max(len(levels[key]) - 1, 1) for key in keys]
        one.plot(
            range(len(keys) + 1),
            [*heights, goodness],
            color=colour(0.9 * goodness),
            lw=3.0 if point is points[0] else 1.0,
        )
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    for at, key in enumerate(keys):
        one.axvline(at, color="#c9ced3", lw=0.8, zorder=0)
        for i, value in enumerate(levels[key]):
            one.text(
                at + 0.03, i / max(len(levels[key]) - 1, 1), text(value), fontsize=6, va="center", bbox=behind
            )
    for goodness, value in ((1.0, best * sign), (0.0, worst * sign)):
        one.text(len(keys) + 0.03, goodness, score(seen, value, 3), fontsize=6, va="center")
    one.set_xticks(range(len(keys) + 1), [*(seen["names"][key] for key in keys), seen["metric"]["name"]])
    one.set_yticks([])
    one.spines[["left", "bottom"]].set_visible(False)
