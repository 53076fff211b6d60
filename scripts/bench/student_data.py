"""The same synthetic videos with labels of different worth, as data sets that `main.py train` reads.

Masklets are made by the teacher's own stages and writer from scripted models (models/teacher/scripted), true labels are
written by the same writer from the same frames. What a data set is worth is read from its files, beside the truth.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from datasets import tree
from datasets.masklets import read_masklets, write_masklets
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from models.teacher.calibration import QualityModel
from models.teacher.labelled import fit, volume_j
from models.teacher.masklet_writer import ExportConfig, Provenance
from models.teacher.parser import RuleParser
from models.teacher.pipeline import Backends, Taught, Teacher, TeacherConfig
from models.teacher.scripted import Faults, ScriptedDetector, ScriptedMatcher, ScriptedSegmenter, Truth
from models.teacher.stages import Shard, Stopwatch
from scripts.bench.teacher_faults import RIGHT, THINGS, TOGETHER, fitting_cases
from scripts.bench.teacher_faults import run as teach_case
from scripts.teaching.run import label
from util import atomic
from util.errors import InputError
from util.report import commit
from util.scoring import true_masks
from util.types import ReferringVideo

ARMS = {
    "labels": "true labels",
    "clean": "masklets of models without faults, weight 1",
    "noisy": "masklets of models with four faults, all that was decided, weight 1",
    "weighted": "the same, weighted by quality without a fit",
    "fitted": "the same, weighted by a quality fitted on other videos",
}
FAULTLESS = ("labels", "clean")  # arms in which the plan's rate of faults must be 0
TRAINED, HELD_OUT = 301, 302  # seeds of the videos that students learn, and of those they are asked about


@dataclass(frozen=True)
class Plan:
    """world: the videos to learn. held_out: how many others are asked about. fitted: videos of each case that quality
    is fitted on. rate: of each of the four faults.

    Sentences are about looks, which is what minutes can teach a network, and every one has a referent.
    """

    world: SyntheticConfig = field(
        default_factory=lambda: SyntheticConfig(
            seed=TRAINED, videos=600, frames=12, height=64, width=112, motion=0.0, no_target=0.0
        )
    )
    held_out: int = 60
    fitted: int = 24
    rate: float = 0.2

    @property
    def asked(self) -> SyntheticConfig:
        """The videos that students are asked about."""
        return replace(self.world, seed=HELD_OUT, videos=self.held_out)


class TrustingTeacher(Teacher):
    """A teacher that keeps all that it decided, with full weight, whatever quality says."""

    def teach(self, video: ReferringVideo, watch: Stopwatch) -> Taught:
        taught = super().teach(video, watch)
        trusted = [quality and replace(quality, weight=1.0, reason="") for quality in taught.qualities]
        return replace(taught, qualities=trusted)


def make(arm: str, plan: Plan, folder: Path) -> Path:
    """The data set of an arm under `folder`, made where it is not there. Raises InputError where a video fails."""
    assert arm not in FAULTLESS or not plan.rate
    root = folder / arm
    if root.is_dir():
        return root  # it is renamed when it is whole
    if arm == "labels":
        return write_true(plan.world, root, "train")
    videos = SyntheticVideos(plan.world)
    faults = Faults(**dict.fromkeys(TOGETHER, plan.rate), seed=plan.world.seed)
    model = fitted_quality(plan, folder / "quality.json") if arm == "fitted" else None
    kind = TrustingTeacher if arm in ("clean", "noisy") else Teacher
    work = folder / "work"
    teacher = kind(_backends(videos, faults), TeacherConfig(), work, dataset="students", model=model)
    fit_id = atomic.sha256(atomic.canonical(model.to_dict()))[:16] if model else ""
    provenance = Provenance(teacher.backends.roles(), teacher.settings, f"synthetic: {arm}", commit(), fit_id)
    if label(teacher, videos, root, provenance, ExportConfig(), Shard()) != 0:
        raise InputError(f"some videos of {root} failed; their errors are above")
    return root


def write_true(world: SyntheticConfig, root: Path, split: str) -> Path:
    """Videos with their true labels in the layout of masklets, so that frames go through the same JPEGs."""
    if root.is_dir():
        return root
    unfinished = root.with_name(f".{root.name}{atomic.PARTIAL}")
    shutil.rmtree(unfinished, ignore_errors=True)
    write_masklets(SyntheticVideos(world), unfinished, split)
    atomic.swap_folder(unfinished, root)
    return root


def _backends(videos: Sequence[ReferringVideo], faults: Faults) -> Backends:
    truth = Truth(videos, THINGS)
    matchers = {"scripted": ScriptedMatcher(truth, faults)}
    return Backends(RuleParser(), ScriptedDetector(truth, faults), ScriptedSegmenter(truth, faults), matchers)


def fitted_quality(plan: Plan, path: Path) -> QualityModel:
    """The quality that is fitted as for the table of faults, on other videos of the plan's world; kept at `path`."""
    if path.is_file():
        return QualityModel.from_dict(tree.read_json(path, "a fitted quality"))
    cases = fitting_cases(replace(plan.world, videos=plan.fitted))
    model = fit([masklet for case in cases for masklet in teach_case(case).masklets])
    atomic.write_bytes(path, atomic.canonical(model.to_dict()).encode())
    return model


def worth(root: Path, world: SyntheticConfig) -> dict[str, float]:
    """What the labels of a data set are worth, beside the truth.

    kept: share of all sentences; weight: mean; J: mean of the kept, and as the student sees it, by weight; right: share
    of the kept with J of 0.5 or more
    """
    told = {video.id: video for video in read_masklets(root)}
    j: list[float] = []
    weights: list[float] = []
    sentences = 0
    for true in SyntheticVideos(world):
        sentences += len(true.expressions)
        if true.id in told:
            j += sentence_js(told[true.id], true)
            weights += [expression.weight for expression in told[true.id].expressions]
    by_weight = float(np.average(j, weights=weights))
    right = float((np.array(j) >= RIGHT).mean())
    return {"kept": len(j) / sentences, "weight": float(np.mean(weights)), "labels' J": float(np.mean(j)),
            "labels' J by weight": by_weight, "right": right}  # fmt: skip


def sentence_js(told: ReferringVideo, true: ReferringVideo) -> list[float]:
    """J of each sentence's label, in the frames that are not ignored."""
    place = {expression.id: e for e, expression in enumerate(true.expressions)}
    frames = range(len(true.frames))
    truth_TEHW = np.stack([true_masks(true, frame)[0] for frame in frames])
    masks_TEHW, known_TE = (np.stack(part) for part in zip(*(true_masks(told, frame) for frame in frames), strict=True))
    return [
        volume_j(masks_TEHW[known_TE[:, e], e], truth_TEHW[known_TE[:, e], place[expression.id]])
        for e, expression in enumerate(told.expressions)
    ]
