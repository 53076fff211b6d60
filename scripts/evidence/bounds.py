"""How far true masks alone come on the held-out videos, without a network and without understanding motion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.synthetic.baselines import Baseline, guesses
from datasets.synthetic.controls import ControlledVideos
from datasets.synthetic.scenes import SPLITS
from scripts.evidence.exam import Exam
from util.distributed import World
from util.expected import expected_scores
from util.report import provenance
from util.sharing import share

SINGLE_FRAME: tuple[Baseline, ...] = ("single-frame", "single-frame-all")  # one guess, or all that fits at once
BASELINES: tuple[Baseline, ...] = (*SINGLE_FRAME, "static-track", "static-track-all", "largest")


def bounds_of(exam: Exam, key: str, base: Path, processes: int) -> dict[str, Any]:
    """J&F of every baseline on every split, expected over its guesses; for `bounds.json` beside the results."""
    found: dict[str, dict[str, float]] = {name: {} for name in BASELINES}
    for split in SPLITS:
        videos = ControlledVideos(exam.world_of(split))

        def guessed(number: int, videos: ControlledVideos = videos) -> dict[str, list[float]]:
            case = videos.case(number)
            scores = expected_scores(case.video, {name: guesses(case, name) for name in BASELINES})
            return {name: [score.j_and_f for score in row] for name, row in scores.items()}

        parts = share(guessed, len(videos), World(0, 1, torch.device("cpu")), processes=processes)
        for name in BASELINES:
            found[name][split] = round(float(np.mean([value for part in parts for value in part[name]])), 5)
    return {"key": key, "config": base.as_posix(), "videos": exam.videos, "made": provenance(), "J&F": found}
