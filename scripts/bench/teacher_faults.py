"""What the teacher makes of models that err: J&F, and the precision of what its quality keeps, fault by fault.

    python -m scripts.bench.teacher_faults --out docs/benchmarks

Videos are synthetic, detector, segmenter and matcher are scripted (models/teacher/scripted/faults.py says how they err
and how their scores are drawn; no score tells of a fault). Each kind of fault comes alone at several rates, and four
kinds together. Beside the teacher run the public pipelines' policies (models/teacher/baseline.py), with the same models
making the same faults.

Quality is fitted once, on other videos with faults of all kinds, drawn by another seed; nothing is chosen by the videos
that are scored. How well it foretells J is asked on yet others with the same faults, and for four kinds at each rate.
J&F is over all sentences, and an abstention is an empty mask. `kept` and `dropped` are J of the more and of the less
trusted half of the masklets of all sentences that were decided on.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets.held_frames import HeldFrames
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from models.teacher.baseline import Baseline
from models.teacher.calibration import QualityModel, ece_by_chance, report
from models.teacher.labelled import Masklet, answer_masks, fit, labelled_masklets
from models.teacher.parser import RuleParser
from models.teacher.pipeline import Backends, Teacher, TeacherConfig
from models.teacher.quality import plain_weight, weigh
from models.teacher.scripted import Faults, ScriptedDetector, ScriptedMatcher, ScriptedSegmenter, Truth
from models.teacher.stages import Stopwatch
from util import rle
from util.report import provenance, table, write_json
from util.scoring import ExpressionScore, score_video

KINDS = ("missed", "jitter", "false_boxes", "mask_noise", "id_swaps", "wrong_matches")
TOGETHER = ("missed", "false_boxes", "id_swaps", "wrong_matches")
ALL_FOUR = "four together"
RATES = (0.1, 0.2, 0.4)
FITTED = 101  # seed of the videos that quality is fitted on, and of their faults
HELD = 303  # of others with the same faults, to see how well quality is fitted
SCORED = 202
THINGS = range(1, 9)  # ids that a synthetic video may use
STEP = 20  # frames between the detections of the continuous baseline, as published
RIGHT = 0.5  # J from which a masklet is of the right object


@dataclass(frozen=True)
class Case:
    """One line of the table: `faults` befall the videos of `world`. `fits`: no line, but what quality is fitted on."""

    name: str
    rate: float
    faults: Faults
    world: SyntheticConfig
    fits: bool = False


@dataclass(frozen=True)
class Result:
    """All of a case: the scores of each method, and the teacher's masklets."""

    scores: dict[str, list[ExpressionScore]]
    masklets: list[Masklet]


def run(case: Case) -> Result:
    """Teacher and baselines on the videos of a case."""
    videos = SyntheticVideos(case.world)
    truth = Truth(videos, THINGS)
    detector, segmenter = ScriptedDetector(truth, case.faults), ScriptedSegmenter(truth, case.faults)
    matcher, parser = ScriptedMatcher(truth, case.faults), RuleParser()
    baselines = {} if case.fits else {"anchor": None, "continuous": STEP}
    scores: dict[str, list[ExpressionScore]] = {name: [] for name in ("teacher", *baselines)}
    masklets: list[Masklet] = []
    with tempfile.TemporaryDirectory() as work:
        backends = Backends(parser, detector, segmenter, {"scripted": matcher})
        teacher = Teacher(backends, TeacherConfig(), Path(work))
        for number in range(len(videos)):
            video = replace(videos[number], frames=HeldFrames(videos[number].frames))
            taught = teacher.teach(video, Stopwatch())
            if not case.fits:
                scores["teacher"] += score_video(_encoded(answer_masks(taught)), video)
            masklets += labelled_masklets(taught)
            for name, step in baselines.items():
                answer = Baseline(parser, detector, segmenter, matcher, step).answer(video)
                scores[name] += score_video(_encoded(answer), video)
    return Result(scores, masklets)


def line(case: Case, result: Result, model: QualityModel) -> dict[str, Any]:
    """A case's row of the table."""
    found = {name: float(np.mean([s.j_and_f for s in scores])) for name, scores in result.scores.items()}
    j = np.array([masklet.j for masklet in result.masklets])
    trust = np.array([model(masklet.features) for masklet in result.masklets])
    order = np.argsort(-trust, kind="stable")
    half = len(order) // 2
    kept, dropped = j[order[:half]], j[order[half:]]
    weight = np.array([weigh(m.decision, m.features, model).weight for m in result.masklets])
    return {
        "fault": case.name, "rate": case.rate, "teacher J&F": found["teacher"], "anchor J&F": found["anchor"],
        "continuous J&F": found["continuous"], "decided": len(j) / len(result.scores["teacher"]),
        "J decided": float(j.mean()), "J kept half": float(kept.mean()), "J dropped half": float(dropped.mean()),
        "precision": float((j >= RIGHT).mean()), "precision of kept half": float((kept >= RIGHT).mean()),
        "share with weight": float((weight > 0).mean()), "J by weight": float((weight * j).sum() / weight.sum()),
        "Spearman": report(trust, j)["spearman"] if np.ptp(j) > 0 else None,
    }  # fmt: skip


def _encoded(masks_ETHW: np.ndarray) -> list[list[rle.RLE]]:
    return [[rle.encode(mask) for mask in masks_THW] for masks_THW in masks_ETHW]


def fitting_cases(world: SyntheticConfig, seed: int = FITTED) -> list[Case]:
    """What quality is fitted on: four and six kinds of faults together at several rates, each on videos of its own."""
    fitted = []
    for n, (kinds, rate) in enumerate(itertools.product((TOGETHER, KINDS), (0.1, 0.2, 0.4))):
        faults = Faults(**dict.fromkeys(kinds, rate), seed=seed + n)
        fitted.append(Case("fitted", rate, faults, replace(world, seed=seed + n), fits=True))
    return fitted


def scored_cases(world: SyntheticConfig, only: str | None) -> list[Case]:
    """Those of the table, or of one fault's lines; all on the videos of `world`."""
    seed = world.seed
    scored = [Case("none", 0.0, Faults(seed=seed), world)]
    for name, kinds in [(ALL_FOUR, TOGETHER), *((kind, (kind,)) for kind in KINDS)]:
        scored += [Case(name, rate, Faults(**dict.fromkeys(kinds, rate), seed=seed), world) for rate in RATES]
    return [case for case in scored if only in (None, case.name)]


def calibration(masklets: Sequence[Masklet], model: QualityModel) -> dict[str, dict[str, float]]:
    """How well J is foretold by the fitted quality, and by the weight that is used without one.

    `said` and `J` are means: where they differ, faults are rarer or more frequent here than where it was fitted.
    """
    j = [masklet.j for masklet in masklets]
    trusts = {
        "fitted": [model(masklet.features) for masklet in masklets],
        "not fitted": [plain_weight(masklet.features) for masklet in masklets],
    }
    return {
        name: {
            "masklets": len(j), "said": float(np.mean(trust)), "J": float(np.mean(j)), **report(trust, j),
            "ece by chance": ece_by_chance(trust, j),
        }
        for name, trust in trusts.items()
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=40, help="videos of each case (default: 40)")
    parser.add_argument("--size", type=int, nargs=2, default=(72, 120), metavar=("H", "W"), help="of their frames")
    parser.add_argument("--seed", type=int, default=SCORED, help=f"of the videos that are scored (default: {SCORED})")
    parser.add_argument("--only", metavar="FAULT", help="only the lines of this fault")
    parser.add_argument("--workers", type=int, default=1, help="cases run at a time (default: 1)")
    parser.add_argument("--out", type=Path, help="folder for teacher_faults.json")
    options = parser.parse_args()
    world = SyntheticConfig(seed=options.seed, videos=options.videos, height=options.size[0], width=options.size[1])
    fitted, held, scored = fitting_cases(world), fitting_cases(world, HELD), scored_cases(world, options.only)
    with ProcessPoolExecutor(options.workers) as pool:
        results = pool.map(run, [*fitted, *held, *scored])
        masklets = [masklet for result in itertools.islice(results, len(fitted)) for masklet in result.masklets]
        others = [masklet for result in itertools.islice(results, len(held)) for masklet in result.masklets]
        model = fit(masklets)
        about = {"masklets": len(masklets), "mean J": float(np.mean([masklet.j for masklet in masklets]))}
        rows, foretold = [], {"as fitted, other videos": calibration(others, model)}
        for case, result in zip(scored, results, strict=True):
            rows.append(line(case, result, model))
            print(
                {k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()},
                file=sys.stderr,
                flush=True,
            )
            if case.name == ALL_FOUR:
                foretold[f"{case.name}, {case.rate}"] = calibration(result.masklets, model)
    print(table(rows))
    print(
        table(
            [
                {"case": case, "quality": name, **numbers}
                for case, both in foretold.items()
                for name, numbers in both.items()
            ]
        )
    )
    if options.out:
        content = {
            **provenance(), "videos": options.videos, "size": list(options.size),
            "sentences": len(result.scores["teacher"]), "fitted on": about, "rows": rows,
            "calibration": foretold, "model": model.to_dict(),
        }  # fmt: skip
        print(write_json(options.out / "teacher_faults.json", content))


if __name__ == "__main__":
    main()
