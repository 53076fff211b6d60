"""`main.py world`: what the splits of the synthetic world ask, and how far one gets without understanding motion.

The answers need no network. All are true masks of things, scored by their expected value over guesses on videos that
training does not draw. A network that is worth its frames beats the best of them where time matters. Beside the tables
are written JSON, a plot, and for each split a sheet of what is asked.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.synthetic import SyntheticConfig
from datasets.synthetic.baselines import BASELINES, Baseline, guesses
from datasets.synthetic.controls import Control, ControlledVideos, in_order
from datasets.synthetic.program import FAMILIES
from datasets.synthetic.quotas import QUOTAS
from datasets.synthetic.scenes import SPLITS, Split, usual_frames
from datasets.synthetic.verifier import Verifier
from scripts.eval import read_size
from util.bar_plot import save_bar_groups
from util.distributed import World
from util.drawing import save_image
from util.expected import Expected, expected_scores
from util.report import provenance, table, write_json
from util.sharing import share
from util.truth_sheet import truth_sheet

HELP = "report what each split of the synthetic world asks, and how far one gets there without understanding motion"

_CONTROLS: tuple[Control, ...] = ("reversed", "pairs")  # those under which an answer changes
_GUESSED: tuple[Baseline, ...] = BASELINES[:-1]  # all but `same-answer`, which is one of a control
_SHOWN = 4  # videos of a sheet


@dataclass(frozen=True)
class Asked:
    """One sentence of a video, and what each baseline scores on it.

    order: whether its answer is lost when the frames are shuffled.
    """

    family: str
    video: int
    things: int
    times_matter: bool
    order: bool
    scores: dict[Baseline, Expected]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder for world.json, world.png and the sheets")
    parser.add_argument("--videos", type=int, default=60, help="of each split (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1_000_000, help="training uses small seeds (default: %(default)s)")
    parser.add_argument("--size", default="96x160", help="HEIGHTxWIDTH (default: %(default)s)")
    parser.add_argument("--hard", action="store_true", help="videos that are hard to see")
    parser.add_argument("--processes", type=int, help="that measure (default: one for each core)")


def run(options: argparse.Namespace) -> int:
    """Measure, print, write. Raises InputError for a bad size, seed or number."""
    height, width = read_size(options.size)
    processes = options.processes or os.cpu_count() or 1
    found: dict[Split, dict[str, Any]] = {}
    for split in SPLITS:
        config = SyntheticConfig(
            seed=options.seed, videos=options.videos, frames=usual_frames(split), height=height, width=width,
            split=split, hard=options.hard,
        )  # fmt: skip
        found[split] = {"videos": config.videos, "frames": config.frames} | {
            control or "none": summary(measured(config, control, processes)) for control in (None, *_CONTROLS)
        }
        shown = ControlledVideos(replace(config, videos=min(_SHOWN, config.videos)))
        save_image(options.out / f"{split}.png", truth_sheet(shown[:]))
    print("\n\n".join(tables(found)))
    write_json(options.out / "world.json", {"splits": found, **provenance()})
    plot(options.out / "world.png", found)
    print(f"\nwrote world.json, world.png and a sheet of each split to {options.out}")
    return 0


def measured(config: SyntheticConfig, control: Control | None, processes: int) -> list[Asked]:
    """Every sentence of a split's videos under a control."""
    videos = ControlledVideos(config, control)

    def one(number: int) -> list[Asked]:
        case = videos.case(number)
        if not case.sentences:
            return []
        order = np.random.default_rng((config.seed, number)).permutation(case.observed.moments)
        mixed = Verifier(in_order(case.observed, order))
        names = BASELINES if control else _GUESSED
        scores = expected_scores(case.video, {name: guesses(case, name) for name in names})
        return [
            Asked(
                family=sentence.family,
                video=number,
                things=len(case.ids),
                times_matter=sentence.program.times_matter,
                order=mixed.referents(sentence.program) != sentence.object_ids,
                scores={name: scores[name][e] for name in names},
            )
            for e, sentence in enumerate(case.sentences)
        ]

    parts = share(one, len(videos), World(0, 1, torch.device("cpu")), processes=processes, progress=True)
    return [asked for part in parts for asked in part]


def summary(asked: Sequence[Asked]) -> dict[str, Any]:
    """Numbers of sentences and shares 0..1, and the means of each baseline over sentences."""
    families = Counter(one.family for one in asked)
    timed = [one for one in asked if one.times_matter]
    return {
        "sentences": len(asked),
        "asked videos": len({one.video for one in asked}),
        "things": _mean(one.things for one in asked),
        "families": {name: families[name] for name in FAMILIES if families[name]},
        "need time": _mean(one.times_matter for one in asked),
        "need order": _mean(one.order for one in asked),
        "all": _scores(asked),
        "where time is needed": _scores(timed),
        "by family": {
            name: {baseline: row["J&F"] for baseline, row in _scores(of).items()}
            for name in FAMILIES
            if (of := [one for one in asked if one.family == name])
        },
    }


def _scores(asked: Sequence[Asked]) -> dict[str, dict[str, float]]:
    if not asked:
        return {}
    return {
        name: {
            "J&F": _mean(one.scores[name].j_and_f for one in asked),
            "J": _mean(one.scores[name].j for one in asked),
            "F": _mean(one.scores[name].f for one in asked),
            "lucky": _mean(one.scores[name].lucky for one in asked),
        }
        for name in asked[0].scores
    }


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values) or [0.0])), 4)


def tables(found: dict[Split, dict[str, Any]]) -> list[str]:
    """What is printed: what is asked, what it is worth, where time is needed, and under the controls."""
    asked, all_, timed, controls = [], [], [], []
    for split, by_control in found.items():
        plain = by_control["none"]
        asked.append(
            {"split": split, "videos": by_control["videos"], "sentences": plain["sentences"], "things": plain["things"]}
            | {name: _share(plain, name, QUOTAS[split].shares.get(name, 0)) for name in FAMILIES}
            | {name: f"{100 * plain[name]:.0f} %" for name in ("need time", "need order")}
        )
        all_.append({"split": split, "sentences": plain["sentences"]} | _cells(plain["all"], _GUESSED))
        timed.append({"split": split, "sentences": round(plain["need time"] * plain["sentences"])}
                     | _cells(plain["where time is needed"], _GUESSED))  # fmt: skip
        for control in _CONTROLS:
            row = by_control[control]
            controls.append(
                {"split": split, "control": control, "sentences": row["sentences"]} | _cells(row["all"], BASELINES)
            )
    return [
        f"What is asked: families in % of the sentences (of the quotas)\n\n{table(asked)}\nneed time: one frame does "
        "not answer it; need order: nor do frames in a random order",
        f"J&F of all sentences\n\n{table(all_)}\n-all: everything that fits at once, not a guess; lucky: the best "
        "guess of single-frame in every frame",
        f"J&F of the sentences that need time\n\n{table(timed)}",
        f"J&F of sentences whose answer changes under a control\n\n{table(controls)}\nsame-answer: one of the two "
        "answers, as of one to whom the video and its control look alike",
    ]


def _share(plain: dict[str, Any], family: str, wanted: float) -> str | None:
    found = plain["families"].get(family, 0) / max(plain["sentences"], 1)
    return f"{100 * found:.0f} ({100 * wanted:.0f})" if found or wanted else None


def _cells(scores: dict[str, dict[str, float]], names: Sequence[Baseline]) -> dict[str, str | None]:
    shown: dict[str, str | None] = {name: f"{100 * scores[name]['J&F']:.1f}" if scores else None for name in names}
    return shown | {"lucky": f"{100 * scores['single-frame']['lucky']:.1f}" if scores else None}


def plot(path: Path, found: dict[Split, dict[str, Any]]) -> None:
    """Bars of each split; nothing where matplotlib is not installed."""

    def panel(control: str, part: str) -> dict[str, dict[str, float]]:
        groups = {}
        for split, by_control in found.items():
            row = by_control[control]
            number = row["sentences"] if part == "all" else round(row["need time"] * row["sentences"])
            groups[f"{split}\n({number})"] = {name: 100 * scores["J&F"] for name, scores in row[part].items()}
        return groups

    panels = {"All sentences (their number)": panel("none", "all")}
    panels["Sentences that need time"] = panel("none", "where time is needed")
    panels |= {f"{name}: sentences whose answer changes": panel(name, "all") for name in _CONTROLS}
    save_bar_groups(path, panels, "J&F")
