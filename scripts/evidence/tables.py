"""Numbers of finished runs put together: means over seeds, splits and rows, as rows of tables and lines of plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from datasets.synthetic.scenes import SPLITS
from scripts.evidence import analysis
from scripts.evidence.bounds import SINGLE_FRAME
from scripts.evidence.rows import HARD, QUESTIONS, ROWS, TRAININGS

Line = dict[str, Any]
KEYED = (
    "forced", "surest", "unforced", "teacher", "corrupted", "rgb", "timeless", "key-first", "key-best", "true-key",
)  # fmt: skip
COMING_AND_GOING = ("late", "reentry")


@dataclass(frozen=True)
class Finished:
    """Results as `Results.read` gives them, row -> seed -> content, by baseline and split what bounds them, and the
    learning curves of movements by variant."""

    runs: dict[str, dict[int, dict[str, Any]]]
    bounds: dict[str, dict[str, float]]
    movements: dict[str, dict[str, Any]] = field(default_factory=dict)

    def score(self, row: str, split: str, seed: int) -> float:
        """J&F in percent; `hard` is the mean over the hard splits. Splits of which nothing was asked are left out."""
        splits = self.runs[row][seed]["splits"]
        asked = [splits[name]["J&F"] for name in (HARD if split == "hard" else (split,)) if name in splits]
        return 100 * float(np.mean(asked)) if asked else float("nan")

    def mean(self, row: str, split: str, seeds: Iterable[int] | None = None) -> float:
        """Over the seeds that there are, or these."""
        return float(np.mean([self.score(row, split, seed) for seed in seeds or self.runs[row]]))

    def gain(self, row: str, other: str, split: str) -> tuple[float, int]:
        """By how much `row` is above `other` over the seeds that both have, and their number; NaN where that is 0."""
        seeds = sorted(self.runs.get(row, {}).keys() & self.runs.get(other, {}).keys())
        return (self.mean(row, split, seeds) - self.mean(other, split, seeds) if seeds else float("nan")), len(seeds)

    def parts(self, row: str, splits: Sequence[str]) -> list[dict[str, Any]]:
        """The numbers of these splits, as far as they were asked, of all seeds."""
        return [run["splits"][split] for run in self.runs[row].values() for split in splits if split in run["splits"]]

    def known(self, rows: Iterable[str]) -> list[str]:
        return [row for row in rows if row in self.runs]


def question_table(found: Finished, rows: Sequence[str]) -> list[Line]:
    """J&F of each split, the mean of the hard ones with its deviation over seeds, and how far that is from the first
    row's; nothing where no other row is known."""
    lines: list[Line] = []
    if found.known(rows) == [rows[0]]:
        return []
    for row in found.known(rows):
        hard = [found.score(row, "hard", seed) for seed in found.runs[row]]
        spread = f" ± {np.std(hard, ddof=1):.1f}" if len(hard) > 1 else ""
        gain, shared = found.gain(row, rows[0], "hard")
        lines.append(
            {"row": row, "what": ROWS[row].about, "seeds": len(hard)}
            | {split: f"{found.mean(row, split):.1f}".replace("nan", "-") for split in SPLITS}
            | {"hard": f"{np.mean(hard):.1f}{spread}"}
            | {f"vs {rows[0]}": f"{gain:+.1f}" if shared and row != rows[0] else "-"}
        )
    if lines and rows == QUESTIONS["Key frame and tracking against clip mode"]:
        lines += [_bound_line(name, scores) | {f"vs {rows[0]}": "-"} for name, scores in found.bounds.items()]
    return lines


def _bound_line(name: str, scores: dict[str, float]) -> Line:
    hard = float(np.mean([scores[split] for split in HARD]))
    cells = {split: percent(scores[split]) for split in SPLITS}
    return {"row": name, "what": "true masks, no network", "seeds": "-"} | cells | {"hard": percent(hard)}


def claim_lines(found: Finished) -> list[Line]:
    """What the method claims, what was found, and whether it holds."""
    lines = []

    def state(claim: str, value: float, seeds: int, holds: bool) -> None:
        if seeds:
            lines.append({"claim": claim, "found": f"{value:+.1f}", "seeds": seeds, "holds": "yes" if holds else "no"})

    gain, seeds = found.gain("forced", "clip", "hard")
    state("key frame + tracking-forced above clip mode on the hard splits, at least +5", gain, seeds, gain >= 5)
    if "forced" in found.runs and found.bounds:
        for split in ("twins", "swap"):
            above = found.mean("forced", split) - 100 * max(found.bounds[name][split] for name in SINGLE_FRAME)
            state(f"forced above the best single frame on {split}", above, len(found.runs["forced"]), above > 0)
    if "forced" in found.runs:
        for which in ("all", "right key"):
            change = drift_of(found, "forced", HARD, which)
            if change is not None:
                claim = f"J&F over {analysis.SPAN} frames of distance from the key ({which}), not below -2"
                state(claim, change, len(found.runs["forced"]), change >= -2)
    return lines


def family_table(found: Finished) -> list[Line]:
    """J&F by family of sentences, over all splits."""
    rows = found.known(ROWS)
    names = sorted({name for row in rows for part in found.parts(row, SPLITS) for name in part["families"]})
    lines: list[Line] = []
    for row in rows:
        parts = [part["families"] for part in found.parts(row, SPLITS)]
        cells = {name: analysis.merged(part[name] for part in parts if name in part) for name in names}
        lines.append({"row": row} | {name: percent(cell[1]) for name, cell in cells.items()})
    return lines


def bin_table(found: Finished, rows: Sequence[str], splits: Sequence[str], *, of: str, which: str = "") -> list[Line]:
    """J&F in bins: `of` is "distance" (`which`: "all", "right key"; with the change over 24 frames), or
    "since re-entry"."""
    names = analysis.labels(analysis.DISTANCE if of == "distance" else analysis.SINCE)
    lines = []
    for row in found.known(rows):
        if not found.parts(row, splits):
            continue
        cells = binned(found, row, splits, of, which)
        line: Line = {"row": row} | {name: percent(cell[1]) for name, cell in zip(names, cells, strict=True)}
        if of == "distance":
            change = drift_of(found, row, splits, which)
            line[f"change over {analysis.SPAN}"] = "-" if change is None else f"{change:+.1f}"
        lines.append(line | {"frames": sum(cell[0] for cell in cells)})
    return lines


def binned(found: Finished, row: str, splits: Sequence[str], of: str, which: str = "") -> list[analysis.Cell]:
    """[count, mean] of each bin, over splits and seeds."""
    parts = [part[of][which] if which else part[of] for part in found.parts(row, splits)]
    return [analysis.merged(part[place] for part in parts) for place in range(len(parts[0]))]


def drift_of(found: Finished, row: str, splits: Sequence[str], which: str) -> float | None:
    """Change of J&F in percent over `SPAN` frames of distance from the key; None where no distance was seen."""
    spread, change = np.sum([part["drift"][which] for part in found.parts(row, splits)], axis=0)
    return 100 * analysis.SPAN * float(change / spread) if spread else None


def size_table(found: Finished) -> list[Line]:
    """J&F of small, medium and large targets: thirds of each hard split's sentences."""
    lines = []
    for row in found.known(ROWS):
        thirds = [part["size"]["thirds"] for part in found.parts(row, HARD)]
        if not thirds:
            continue
        cells = [analysis.merged(third[place] for third in thirds) for place in range(len(analysis.SIZES))]
        lines.append({"row": row} | {name: percent(cell[1]) for name, cell in zip(analysis.SIZES, cells, strict=True)})
    return lines


def presence_table(found: Finished) -> list[Line]:
    """Whether the target is there: no-target sentences, and frames of targets that come and go; and the keys."""
    lines = []
    for row in found.known(ROWS):
        gone, hard = found.parts(row, COMING_AND_GOING), found.parts(row, HARD)
        keys = [part["key"] for part in hard]
        lines.append({
            "row": row,
            "N-acc": percent(_mean(part["N-acc"] for part in found.parts(row, ["no_target"]))),
            "T-acc": percent(_mean(part["T-acc"] for part in hard)),
            **{name: percent(_mean(part[name] for part in gone))
               for name in ("temporal IoU", "presence precision", "presence recall")},
            "has a key": percent(_mean(key["given"] for key in keys)) if _keyed(row) else "-",
            "key's J": percent(_mean(key["J"] for key in keys)) if _keyed(row) else "-",
            "key is right": percent(_mean(key["right"] for key in keys)) if _keyed(row) else "-",
        })  # fmt: skip
    return lines


def training_table(found: Finished) -> list[Line]:
    """How the networks came about; one line for each training and seed."""
    trainings: dict[tuple[str, int], dict[str, Any]] = {}
    rows: dict[tuple[str, int], list[str]] = {}
    for row in found.known(ROWS):
        for seed, run in found.runs[row].items():
            facts = run["training"]
            place = facts["name"], seed
            if place not in trainings or facts["choice"]:  # the rows of clip mode know nothing of it
                trainings[place] = facts
            rows.setdefault(place, []).append(row)
    return [
        {
            "training": name, "seed": seed, "what": TRAININGS[name].about, "steps": facts["steps"],
            "grounding": facts["grounding steps"], "minutes": f"{facts['seconds'] / 60:.0f}",
            "choice": "-" if facts["choice"] is None
            else f"{facts['choice']['steps']} in {facts['choice']['seconds'] / 60:.0f} minutes",
            "processes": facts["processes"], "hardware": facts["hardware"], "commit": facts["commit"],
            "key": facts["key"], "rows": ", ".join(rows[name, seed]),
        }
        for (name, seed), facts in sorted(trainings.items(), key=lambda item: (list(TRAININGS).index(item[0][0]), item))
    ]  # fmt: skip


def open_lines(found: Finished) -> list[str]:
    """What is not run yet, and what does not belong together."""
    lines = []
    missing = [row for question in QUESTIONS.values() for row in question if row not in found.runs]
    if missing:
        lines.append(f"Not run yet: {', '.join(dict.fromkeys(missing))}.")
    keys: dict[str, tuple[set[str], set[str]]] = {}  # of networks, of choices
    for runs in found.runs.values():
        for run in runs.values():
            networks, choices = keys.setdefault(run["training"]["name"], (set(), set()))
            networks.add(run["training"]["key"])
            if run["training"]["choice"]:
                choices.add(run["training"]["choice"]["key"])
    mixed = [name for name, both in keys.items() if any(len(part) > 1 for part in both)]
    if mixed:
        lines.append(f"Made with different settings, so not to be compared: rows of {', '.join(mixed)}.")
    return lines


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _keyed(row: str) -> bool:
    return ROWS[row].inference.get("mode") != "clip"


def movement_table(found: Finished) -> list[Line]:
    """Share of sentences that each variant points right for, at a fifth, half and all of its steps, and by family."""
    lines: list[Line] = []
    for name, result in found.movements.items():
        curve = {point["step"]: point["right"] for point in result["curve"]}
        last = max(curve)
        marks = [min(step for step in curve if step >= share * last) for share in (0.2, 0.5, 1.0)]
        lines.append(
            {"variant": name, "what": result["about"], "chance": percent(result["chance"])}
            | {f"step {step}": percent(curve[step]) for step in marks}
            | {family: percent(part["accuracy"]) for family, part in result["families"].items()}
        )
    return lines
