"""Bars in groups: the same few things measured in several places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from util.drawing import PALETTE
from util.report import write_figure


def save_bar_groups(path: Path, panels: Mapping[str, Mapping[str, Mapping[str, float]]], unit: str) -> None:
    """Draw panels below each other: title -> group -> bar -> value, 0 to 100, as a PNG.

    A bar has the same colour in every group and panel; a group may lack some. Raises ImportError without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for groups in panels.values() for bars in groups.values() for name in bars))
    figure = Figure(figsize=(12, 3.4 * len(panels) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axis, (title, groups) in zip(axes, panels.items(), strict=True):
        _panel(axis, groups, names)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_ylabel(unit)
    handles = [axes[0].bar(0, 0, color=_colour(n)) for n in range(len(names))]
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 8), frameon=False, fontsize=9)
    write_figure(path, figure)


def _panel(axis: Any, groups: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> None:
    thick = 0.85 / len(names)
    for n, name in enumerate(names):
        found = [(place, bars[name]) for place, bars in enumerate(groups.values()) if name in bars]
        places = np.array([place for place, _ in found]) + (n - (len(names) - 1) / 2) * thick
        values = [value for _, value in found]
        axis.bar(places, values, width=thick, color=_colour(n))
        for place, value in zip(places, values, strict=True):
            axis.text(place, value + 1, f"{value:.0f}", ha="center", fontsize=7)
    axis.set_xticks(range(len(groups)), list(groups), fontsize=9)
    axis.set_xlim(-0.6, len(groups) - 0.4)
    axis.set_ylim(0, 108)
    axis.spines[["top", "right"]].set_visible(False)


def _colour(n: int) -> tuple[float, ...]:
    return tuple(part / 255 for part in PALETTE[n % len(PALETTE)])
