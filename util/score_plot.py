"""A picture of where a score comes from: by video, by type of sentence, by size of the object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from util.report import write_figure

SIZES = (0.01, 0.05, 0.2)  # shares of the frame that part tiny, small, medium and large objects
_NAMES = ("under 1 %", "1 to 5 %", "5 to 20 %", "over 20 %")
_COLOUR, _MEAN = "#9dbcd9", "#c44e3b"
_MOST_NAMED = 40  # videos whose names can be read below each other


def save_score_plot(path: Path, rows: Sequence[dict[str, Any]], metric: str) -> Path | None:
    """Draw `metric` (0..1) of `rows`, which have video, type and area (share of the frame; 0: no target is seen).

    Returns None, and draws nothing, where matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    videos = _grouped(rows, "video", metric)
    types = _grouped([row for row in rows if row.get("type")], "type", metric)
    sizes = _grouped([row | {"size": _size(row["area"])} for row in rows if row["area"] > 0], "size", metric)
    order = sorted(videos, key=lambda name: float(np.mean(videos[name])))
    named = len(order) <= _MOST_NAMED
    height = max(4.5, 1.5 + 0.22 * (len(order) if named else 0))
    figure = Figure(figsize=(12, height), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 2))
    overall = 100 * float(np.mean([row[metric] for row in rows]))
    title = f"{metric} by video (dashed: mean of all {len(rows)} answers, {overall:.1f})"
    _by_video(figure.add_subplot(grid[:, 0]), {name: videos[name] for name in order}, named, overall, title)
    _bars(figure.add_subplot(grid[0, 1]), types, overall, f"{metric} by type of sentence")
    ordered = {name: sizes[name] for name in _NAMES if name in sizes}
    _bars(figure.add_subplot(grid[1, 1]), ordered, overall, f"{metric} by object size (share of the frame)")
    return write_figure(path, figure)


def _grouped(rows: Sequence[dict[str, Any]], key: str, metric: str) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(str(row[key]), []).append(100 * row[metric])
    return groups


def _size(area: float) -> str:
    return _NAMES[sum(area > bound for bound in SIZES)]


def _by_video(axes: Any, videos: dict[str, list[float]], named: bool, overall: float, title: str) -> None:
    places = np.arange(len(videos))
    axes.barh(places, [np.mean(values) for values in videos.values()], height=0.8 if named else 1.0, color=_COLOUR)
    if named:
        axes.set_yticks(places, [_short(name) for name in videos], fontsize=8)
        for place, values in zip(places, videos.values(), strict=True):  # every sentence, beside their mean
            axes.plot(values, [place] * len(values), ".", color="black", markersize=4, alpha=0.7)
    else:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(videos)} videos, sorted")
    axes.set_ylim(-0.6, len(videos) - 0.4)
    _finish(axes, overall, title)


def _bars(axes: Any, groups: dict[str, list[float]], overall: float, title: str) -> None:
    places = np.arange(len(groups))[::-1]
    means = [float(np.mean(values)) for values in groups.values()]
    axes.barh(places, means, color=_COLOUR)
    axes.set_yticks(places, [f"{_short(name)} ({len(values)})" for name, values in groups.items()], fontsize=8)
    for place, mean in zip(places, means, strict=True):
        axes.text(max(mean, 0) + 1, place, f"{mean:.1f}", va="center", fontsize=8)
    if not groups:
        axes.text(50, 0, "not given", ha="center", va="center", color="grey")
        axes.set_yticks([])
    _finish(axes, overall, title)


def _finish(axes: Any, overall: float, title: str) -> None:
    axes.axvline(overall, color=_MEAN, linestyle="--", linewidth=1)
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _short(name: str) -> str:
    return name if len(name) <= 28 else name[:25] + "..."
