"""A data set of masklets beside labels of the same sentences: how good it is, and where the rest was lost.

Two means stand beside each other: over the sentences that have a masklet, and over all, an abstention being an empty
mask. Masks are scored as everywhere (`util/scoring.py`); the J of the ladder and of `poor mask` is the mean over frames
in which either mask shows something, as quality foretells it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets import tree
from datasets.masklets import read_masklets
from datasets.track_store import TrackStore
from datasets.tracks import Tracks
from models.teacher.ladder import RUNGS, ObjectTally, place
from models.teacher.stages import Workspace
from models.teacher.workers import video_ids
from util.errors import InputError
from util.report import table
from util.scoring import ExpressionScore, FrameSeries, referred_objects, score_by_frame, summarise
from util.types import IGNORE, ReferringVideo


@dataclass(frozen=True)
class Judged:
    """One sentence: its scores, whether it has a masklet, its rung, the F1 of its objects, why it has no masklet."""

    score: ExpressionScore
    exported: bool
    rung: str
    set_f1: float
    reason: str


@dataclass(frozen=True)
class Found:
    """What the stages left of a video: its tracks, and the boxes [M, 4] of each key frame."""

    tracks: Tracks
    boxes: Mapping[int, np.ndarray]


@dataclass(frozen=True)
class Evaluation:
    """All sentences that have labels. `unasked`: videos and sentences of the labels that the teacher was not given.

    staged  whether the folder of the stages was there, without which nothing can be called missed or lost
    """

    sentences: tuple[Judged, ...]
    unasked: tuple[str, ...]
    staged: bool

    @property
    def coverage(self) -> float | None:
        """Share of the sentences that mean something which have a masklet."""
        targets = [judged.exported for judged in self.sentences if judged.score.target]
        return float(np.mean(targets)) if targets else None

    def to_dict(self) -> dict[str, Any]:
        """Numbers as JSON can hold them; None where there is nothing to average."""
        rungs, reasons = Counter(j.rung for j in self.sentences), Counter(j.reason for j in self.sentences if j.reason)
        shown = [rung for rung in RUNGS if self.staged or rung not in ("not detected", "lost")]
        return {
            "sentences": len(self.sentences), "coverage": self.coverage,
            "masklets": _means([judged for judged in self.sentences if judged.exported]),
            "all": _means(self.sentences), "ladder": {rung: rungs[rung] for rung in shown},
            "without a masklet": dict(sorted(reasons.items())), "unasked": list(self.unasked),
        }  # fmt: skip

    def page(self) -> str:
        """The numbers as tables."""
        found = self.to_dict()
        count = max(len(self.sentences), 1)
        covered = "-" if self.coverage is None else f"{self.coverage:.3f}"
        lines = [f"{len(self.sentences)} sentences, coverage {covered} (those with a masklet, of those with a target)"]
        if self.unasked:
            named = ", ".join(self.unasked[:5]) + (", ..." if len(self.unasked) > 5 else "")
            lines.append(f"{len(self.unasked)} labelled videos or sentences were not asked about: {named}")
        means = {"sentences with a masklet": found["masklets"], "all sentences": found["all"]}
        lines += ["", table([{"mean over": name, **numbers} for name, numbers in means.items()]), ""]
        ladder = found["ladder"].items()
        lines.append(table([{"rung": rung, "sentences": n, "share": n / count} for rung, n in ladder]))
        if not self.staged:
            lines.append("whether objects were detected and tracked is not known without the stages' folder (--work)")
        if found["without a masklet"]:
            lines += ["", "without a masklet: " + ", ".join(f"{n} {r}" for r, n in found["without a masklet"].items())]
        return "\n".join(lines)


def evaluate(
    root: Path, labelled: Sequence[ReferringVideo], work: Path | None = None, split: str = "train"
) -> Evaluation:
    """Compare the masklets of `root` with labels of the same videos and sentences, found by their ids.

    work  folder of what the stages left; None: the ladder begins with "abstained". Raises InputError where no video is
    common to both, frames or sentences differ, or tracks are not those that the masklets were made of.
    """
    kept, rejected = (_rows(root / split / name) for name in ("quality.jsonl", "rejected.jsonl"))
    taught: Sequence[ReferringVideo] = read_masklets(root, split) if kept else []  # a tree of nothing has no frames
    source = tree.read_json(root / "dataset.json", "the description of the masklets (dataset.json)").get("source", "")
    known = {video for video, _ in (*kept, *rejected)}
    ids, places = video_ids(labelled), {name: number for number, name in enumerate(video_ids(taught))}
    if not set(ids) & known:
        raise InputError(f"{root} has masklets of none of the labelled videos; give the labels of its own videos")
    sentences: list[Judged] = []
    unasked = sorted(set(ids) - known)
    for number, name in enumerate(ids):
        if name in known:
            told = taught[places[name]] if name in places else None
            found = None if work is None else _found(work, source, name, kept)
            truth, left = _asked(labelled[number], {*kept, *rejected})
            sentences += _judge(truth, told, rejected, found)
            unasked += left
    return Evaluation(tuple(sentences), tuple(unasked), work is not None)


def _asked(truth: ReferringVideo, known: Container[tuple[str, str]]) -> tuple[ReferringVideo, list[str]]:
    """The video with those of its sentences that the teacher was asked, and the names of the others."""
    if (truth.id, "") in known:  # it failed as a whole
        return truth, []
    asked = tuple(e for e in truth.expressions if (truth.id, e.id) in known)
    left = [f"{truth.id}/{e.id}" for e in truth.expressions if e not in asked]
    return replace(truth, expressions=asked), left


def _judge(
    truth: ReferringVideo,
    told: ReferringVideo | None,
    rejected: Mapping[tuple[str, str], Mapping[str, Any]],
    found: Found | None,
) -> Iterator[Judged]:
    """The sentences of one video that are labelled in any frame."""
    if told is not None and len(told.frames) != len(truth.frames):
        frames = f"{len(told.frames)} frames in the masklets and {len(truth.frames)} in the labels"
        raise InputError(f"video {truth.id} has {frames}; give the labels of the same frames")
    answers = {} if told is None else {e.id: e for e in told.expressions}
    texts = {e.id: e.text for e in truth.expressions}
    for key, answer in answers.items():
        if key in texts and " ".join(answer.text.split()) != " ".join(texts[key].split()):
            raise InputError(
                f"video {truth.id}, sentence {key} is {answer.text!r} in the masklets and {texts[key]!r} in the "
                "labels; give the labels that these sentences were taken from"
            )
    chosen = {key: answer.object_ids or () for key, answer in answers.items()}
    objects = _compare(truth, told, sorted({i for ids in chosen.values() for i in ids}), found).result()

    def mask(e: int, frame: int) -> np.ndarray:
        ids = chosen.get(truth.expressions[e].id, ())
        if not ids or told is None or told.masks is None:
            return np.zeros(truth.frames.size, bool)
        return np.asarray(told.masks.read(frame, ids)[0].any(0))

    expressions = {e.id: e for e in truth.expressions}
    for score, series in score_by_frame(mask, truth):
        ids = chosen.get(score.expression, ())
        placed = place(objects, expressions[score.expression].object_ids or (), ids, _j(series))
        # a video that failed has one row, without a sentence; a sentence kept without objects has none
        row = rejected.get((truth.id, score.expression)) or rejected.get((truth.id, "")) or {"reason": "no_target"}
        yield Judged(score, bool(ids), placed.rung, placed.set_f1, "" if ids else str(row["reason"]))


def _compare(
    truth: ReferringVideo, told: ReferringVideo | None, told_ids: Sequence[int], found: Found | None
) -> ObjectTally:
    """Every object that is meant against the masklets, tracks and boxes, in all labelled frames."""
    ids = referred_objects(truth)
    assert truth.masks is not None
    tally = ObjectTally(ids, told_ids, None if found is None else len(found.tracks))
    for frame in range(len(truth.frames)) if truth.labelled is None else truth.labelled:
        masks_NHW, states_N = truth.masks.read(frame, ids)
        shown = list(told.masks.read(frame, told_ids)[0]) if told and told.masks and told_ids else []
        tracks = [] if found is None else [found.tracks.mask(row, frame) for row in range(len(found.tracks))]
        tally.add(masks_NHW, states_N != IGNORE, shown, tracks, None if found is None else found.boxes.get(frame))
    return tally


def _j(series: FrameSeries) -> float:
    """Mean IoU over the frames in which either mask shows something; 1 where none does."""
    both, either = series.pixels_n3[:, 0], series.pixels_n3[:, 1] + series.pixels_n3[:, 2] - series.pixels_n3[:, 0]
    return float((both[either > 0] / either[either > 0]).mean()) if (either > 0).any() else 1.0


def _found(work: Path, source: str, video: str, kept: Mapping[tuple[str, str], Mapping[str, Any]]) -> Found | None:
    """The stages of a video; None for one that failed before it had tracks."""
    store = TrackStore(work / "tracks")
    if store.fingerprint(source, "train", video) is None:
        return None
    tracks = store.read(source, "train", video)
    used = {track for (name, _), row in kept.items() if name == video for track in row.get("track_ids", ())}
    detections = Workspace(work).read("detect", video, str(tracks.generator.get("detections", "")))
    if detections is None or not used <= {track.track_id for track in tracks.tracks}:
        raise InputError(
            f"the stages of video {video} in {work} are not those that the masklets were made of; run the teacher "
            "again, or give another --work"
        )
    boxes = {int(frame): [entry["box"] for entry in entries] for frame, entries in detections.items()}
    return Found(tracks, {frame: np.array(found, np.float64).reshape(-1, 4) for frame, found in boxes.items()})


def _rows(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows by (video, sentence), "" for a row about a whole video. Raises InputError for what is no row."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {(row["video_id"], row.get("expression_id", "")): row for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"cannot read {path}: {error}; give masklets that `teach run` wrote") from error


def _means(sentences: Sequence[Judged]) -> dict[str, float | None]:
    if not sentences:
        return dict.fromkeys(("J&F", "J", "F", "set-F1", "presence IoU"))
    found = summarise(judged.score for judged in sentences)
    f1 = float(np.mean([judged.set_f1 for judged in sentences]))
    return {**{name: found[name] for name in ("J&F", "J", "F")}, "set-F1": f1, "presence IoU": found["temporal IoU"]}
