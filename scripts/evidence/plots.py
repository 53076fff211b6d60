"""Pictures of finished runs: scores by split, over distance and since re-entry, by size, and how trainings went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.synthetic.scenes import SPLITS
from scripts.evidence import analysis
from scripts.evidence.bounds import SINGLE_FRAME
from scripts.evidence.rows import HARD, TRAININGS
from scripts.evidence.tables import COMING_AND_GOING, KEYED, Finished, binned
from util.bar_plot import save_bar_groups
from util.drawing import PALETTE
from util.report import write_figure

COMPARED = ("forced", "clip", "timeless", "clip-timeless")
BOUNDS = (*SINGLE_FRAME, "static-track")  # with the rows above no more bars than there are colours
RETURNING = ("forced", "clip", "no-search", "presenceless", "presence-ignored", "true-key")

Points = list[tuple[Any, float]]  # (place, value) of a line


def save_plots(folder: Path, found: Finished) -> list[Path]:
    """Draw what there are results for. Raises ImportError without matplotlib."""
    distance = analysis.labels(analysis.DISTANCE)
    panels = {
        f"J&F (%) of frames by their distance from the key, {title}": {
            row: _places(binned(found, row, HARD, "distance", which), distance) for row in found.known(KEYED)
        }
        for title, which in (("all keys", "all"), ("keys on the right object", "right key"))
    }
    since = analysis.labels(analysis.SINCE)
    returning = {row: _places(binned(found, row, COMING_AND_GOING, "since re-entry"), since)
                 for row in found.known(RETURNING)}  # fmt: skip
    written = [
        _lines(folder / "distance.png", panels, "frames from the key (hard splits)", distance),
        _lines(folder / "reentry.png", {"J&F (%) after the target has come back": returning},
               "frames since it came back (late, reentry)", since),
        _lines(folder / "curves.png", _curves(found), "step", None),
    ]  # fmt: skip
    if found.movements:
        shares = {name: [(point["step"], 100 * point["right"]) for point in result["curve"]]
                  for name, result in found.movements.items()}  # fmt: skip
        panel = {"sentences pointed right for (%), two things that look alike": shares}
        written.append(_lines(folder / "movements.png", panel, "step", None))
    compared = found.known(COMPARED)
    known_bounds = {name: scores for name, scores in found.bounds.items() if name in BOUNDS}
    bars: dict[str, dict[str, float]] = {
        split: {row: found.mean(row, split) for row in compared}
        | {name: 100 * scores[split] for name, scores in known_bounds.items()}
        for split in SPLITS
    }
    written.append(folder / "splits.png")
    save_bar_groups(written[-1], {"J&F by split": bars}, "J&F (%)")
    sizes = {
        name: {row: 100 * cell[1] for row in compared if (cell := _third(found, row, place))[0]}
        for place, name in enumerate(analysis.SIZES)
    }
    written.append(folder / "sizes.png")
    save_bar_groups(written[-1], {"J&F by size of the target (thirds of each hard split)": sizes}, "J&F (%)")
    return written


def _third(found: Finished, row: str, place: int) -> analysis.Cell:
    return analysis.merged(part["size"]["thirds"][place] for part in found.parts(row, HARD))


def _places(cells: Sequence[analysis.Cell], names: Sequence[str]) -> Points:
    return [(name, 100 * mean) for name, (count, mean) in zip(names, cells, strict=True) if count]


def _curves(found: Finished) -> dict[str, dict[str, Points]]:
    """Losses of all stages, seed 0 of each training."""
    curves: dict[str, dict[str, Points]] = {
        "loss of the grounding stage": {},
        "loss of the training": {},
        "loss of the choice": {},
    }
    for name in TRAININGS:
        runs = [run for runs in found.runs.values() for run in runs.values() if run["training"]["name"] == name]
        # rows of clip mode know nothing of the choice
        run = min(runs, key=lambda run: (run["training"]["seed"], run["training"]["choice"] is None), default=None)
        if run is not None:
            for title, stage in zip(curves, ("grounding", "training", "choice"), strict=True):
                curves[title][name] = [tuple(point) for point in run["curve"].get(stage, [])]
    return {title: lines for title, lines in curves.items() if any(lines.values())}


def _lines(path: Path, panels: Mapping[str, Mapping[str, Points]], x: str, order: Sequence[str] | None) -> Path:
    """Lines in panels below each other; `order` names the places of an axis of words, None for an axis of numbers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8 * len(panels) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    for axis, (title, lines) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels.items(), strict=True):
        for name, points in lines.items():
            place = names.index(name)
            colour = tuple(part / 255 for part in PALETTE[place % len(PALETTE)])
            xs = [order.index(a) if order else a for a, _ in points]
            axis.plot(xs, [b for _, b in points], "-o" if place < len(PALETTE) else "--s", markersize=3, color=colour,
                      label=name)  # fmt: skip
        if order:
            axis.set_xticks(range(len(order)), order)
            axis.set_ylim(0, 105)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel(x)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=8, frameon=False, ncols=2, loc="best")
    return write_figure(path, figure)
