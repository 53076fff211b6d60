"""From masks to scores: J and F of each sentence, and their means over a data set.

Frames are averaged first, then sentences: a sentence of a long video counts as much as one of a short one. That is
MeViS's protocol, and the one stated here for Ref-YouTube-VOS, whose server never published its aggregation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Protocol

import numpy as np

from util import rle
from util.distributed import World
from util.errors import InputError
from util.metrics import Statistics, frame_scores, statistics
from util.sharing import share
from util.types import IGNORE, Expression, ReferringVideo

Masks = Sequence[Sequence[rle.RLE]]  # [E][T]
FrameMasks = Callable[[int, int], np.ndarray]  # (expression, frame) -> bool [H, W], read when it is scored


@dataclass(frozen=True)
class ExpressionScore:
    """How well one sentence was answered in one video.

    frames      labelled frames scored; j, f  statistics over them
    target      False for a sentence that has no target; empty  True when no pixel of any frame was predicted
    answered    False where the prediction lacks the video; no score counts it as right
    area        mean share of the frame that the target covers where it is seen; 0 where it never is
    presence    frames in which the target is (predicted and there, predicted, there), pixels the same over the video
    """

    video: str
    expression: str
    text: str
    type: str | None
    frames: int
    j: Statistics
    f: Statistics
    target: bool
    empty: bool
    answered: bool
    area: float
    presence: Overlap
    volume: Overlap

    @property
    def j_and_f(self) -> float:
        return (self.j.mean + self.f.mean) / 2

    @property
    def comes_and_goes(self) -> bool:
        """Whether the target is seen in some of the scored frames and not in others."""
        return 0 < self.presence.true < self.frames


@dataclass(frozen=True)
class Overlap:
    """Counts (of frames or pixels) that are in the prediction and the truth, in the one, and in the other."""

    both: int
    predicted: int
    true: int

    @property
    def iou(self) -> float:
        """Intersection over union; 1 when there is neither."""
        union = self.predicted + self.true - self.both
        return self.both / union if union else 1.0


def true_masks(video: ReferringVideo, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth of frame `index`: bool [E, H, W], a sentence's mask being the union of its objects', and known bool [E].

    A sentence is not known in a frame where one of its objects is labelled `ignore`. A sentence without a target is
    known and empty everywhere. Raises InputError when the video or a sentence comes without an answer.
    """
    ids = referred_objects(video)
    assert video.masks is not None
    masks_NHW, states_N = video.masks.read(index, ids)
    row = {object_id: n for n, object_id in enumerate(ids)}
    truth = np.zeros((len(video.expressions), *video.frames.size), bool)
    known = np.ones(len(video.expressions), bool)
    for e, expression in enumerate(video.expressions):
        for object_id in expression.object_ids or ():
            known[e] &= states_N[row[object_id]] != IGNORE
            truth[e] |= masks_NHW[row[object_id]]
    return truth, known


def referred_objects(video: ReferringVideo) -> tuple[int, ...]:
    """Ids of all objects that the video's sentences name, ascending. Raises InputError when answers are missing."""
    ids: set[int] = set()
    for expression in video.expressions:
        if video.masks is None or expression.object_ids is None:
            raise InputError(
                f"video {video.id}, expression {expression.id}: no ground truth; evaluate a split that has its masks"
            )
        ids.update(expression.object_ids)
    return tuple(sorted(ids))


@dataclass(frozen=True)
class FrameSeries:
    """One sentence's answer in each of its n labelled frames.

    frames_n   positions in the video; j_n, f_n  scores there
    pixels_n3  pixels in the prediction and the truth, in the one, and in the other
    """

    frames_n: np.ndarray
    j_n: np.ndarray
    f_n: np.ndarray
    pixels_n3: np.ndarray


def score_video(masks: Masks | FrameMasks | None, video: ReferringVideo) -> list[ExpressionScore]:
    """Scores of every sentence, given its masks at the video's own size: run-length [E][T], or read one by one.

    Truth is read one frame at a time, so memory does not grow with the video. A sentence none of whose frames is
    labelled is left out. Masks None: the video was not answered, and every frame scores 0, rightly empty or not, as the
    MeViS evaluator has it. Raises InputError when masks are missing, of another size, or the truth is not there.
    """
    return [score for score, _ in score_by_frame(masks, video)]


def score_by_frame(
    masks: Masks | FrameMasks | None, video: ReferringVideo
) -> list[tuple[ExpressionScore, FrameSeries]]:
    """`score_video` with what it is made of; beside a score stands its sentence's series."""
    frames, sentences = len(video.frames), video.expressions
    if isinstance(masks, Sequence) and (len(masks) != len(sentences) or any(len(row) != frames for row in masks)):
        raise InputError(f"video {video.id}: expected masks of {len(sentences)} sentences in {frames} frames each")
    tallies = [_Tally() for _ in sentences]
    empty = np.ones(len(sentences), bool)
    for index in range(frames):
        predicted = _predicted(masks, index, len(sentences))
        empty &= [mask is None or not mask.any() for mask in predicted]
        if video.labelled is not None and index not in video.labelled:
            continue
        truth_EHW, known_E = true_masks(video, index)
        for e in np.flatnonzero(known_E):
            tallies[e].add(index, predicted[e], truth_EHW[e])
    return [
        (_expression_score(video, expression, tally, bool(empty[e]), masks is not None), tally.series())
        for e, (expression, tally) in enumerate(zip(sentences, tallies, strict=True)) if tally.frames
    ]  # fmt: skip


def _expression_score(
    video: ReferringVideo, expression: Expression, tally: _Tally, empty: bool, answered: bool
) -> ExpressionScore:
    series = tally.series()
    seen_n3 = np.stack((series.pixels_n3[:, 1:].all(1), *(series.pixels_n3[:, 1:] > 0).T), 1)
    return ExpressionScore(
        video.id, expression.id, expression.text, expression.type, len(tally.frames), statistics(series.j_n),
        statistics(series.f_n), bool(expression.object_ids), empty, answered,
        tally.shares / seen_n3[:, 2].sum() if seen_n3[:, 2].any() else 0.0,
        Overlap(*seen_n3.sum(0).tolist()), Overlap(*series.pixels_n3.sum(0).tolist()),
    )  # fmt: skip


def _predicted(masks: Masks | FrameMasks | None, index: int, sentences: int) -> list[np.ndarray | None]:
    if masks is None:
        return [None] * sentences
    if isinstance(masks, Sequence):
        return [rle.decode(masks_T[index]) for masks_T in masks]
    return [masks(e, index) for e in range(sentences)]


class _Tally:
    """One sentence's scores, frame by frame."""

    def __init__(self) -> None:
        self.frames: list[int] = []
        self.scores: list[tuple[float, float]] = []
        self.pixels: list[tuple[int, int, int]] = []  # as in Overlap
        self.shares = 0.0  # sum of the target's shares of the frame

    def add(self, frame: int, predicted: np.ndarray | None, truth: np.ndarray) -> None:
        answer = np.zeros_like(truth) if predicted is None else predicted
        scores = frame_scores(answer, truth)
        counts = [int(np.count_nonzero(mask)) for mask in (answer & truth, answer, truth)]
        self.frames.append(frame)
        self.scores.append(scores if predicted is not None else (0.0, 0.0))
        self.pixels.append((counts[0], counts[1], counts[2]))
        self.shares += counts[2] / truth.size

    def series(self) -> FrameSeries:
        j_n, f_n = np.array(self.scores, np.float64).reshape(-1, 2).T
        return FrameSeries(np.array(self.frames), j_n, f_n, np.array(self.pixels, np.int64).reshape(-1, 3))


def score_videos(
    answer: Callable[[int, ReferringVideo], Masks | FrameMasks | None],
    videos: Sequence[ReferringVideo],
    world: World,
    *,
    limit: int | None = None,
    prepare: Callable[[ReferringVideo], ReferringVideo] | None = None,
    processes: int = 1,
    progress: bool = False,
) -> list[ExpressionScore]:
    """Scores of all sentences of all (or the first `limit`) videos in their order, the same on every rank.

    `answer(number, video)` gives the masks of video `number`, as `prepare` leaves it (see `score_video`); the videos
    are dealt out as `share` does. Raises InputError when a video cannot be read or has no truth.
    """

    def scored(number: int) -> list[ExpressionScore]:
        video = prepare(videos[number]) if prepare else videos[number]
        return score_video(answer(number, video), video) if video.expressions else []

    found = share(scored, len(videos), world, limit=limit, processes=processes, progress=progress)
    return [score for scores in found for score in scores]


def summarise(scores: Iterable[ExpressionScore]) -> dict[str, Any]:
    """Means over sentences, 0..1: `J&F`, `J`, `F`, with recall and decay, and the same for each type of sentence.

    `N-acc` is the share of sentences without a target that were answered by no pixel at all, `T-acc` the share of
    the others answered by some; None where there are no such sentences. They are not folded into J&F, in which a
    frame that is rightly empty scores 1. `temporal IoU` compares the frames in which something is predicted with those
    in which the target is, `volume IoU` the pixels of the whole video; both are means over sentences with a target.
    `presence precision` and `recall` are shares of the frames of all targets that come and go, taken together.
    Raises InputError when there is nothing to average.
    """
    listed = list(scores)
    if not listed:
        raise InputError("nothing was scored; check the split's name and --limit")
    types = sorted({score.type for score in listed if score.type is not None})
    return {
        **_means(listed),
        "N-acc": _share([score.answered and score.empty for score in listed if not score.target]),
        "T-acc": _share([not score.empty for score in listed if score.target]),
        **_presence(listed),
        "videos": len({score.video for score in listed}),
        "by_type": {name: _means([score for score in listed if score.type == name]) for name in types},
    }


def _presence(scores: list[ExpressionScore]) -> dict[str, float | None]:
    targets = [score for score in scores if score.target]
    leaving = np.array([astuple(score.presence) for score in targets if score.comes_and_goes]).reshape(-1, 3).sum(0)
    both, predicted, true = leaving.tolist()
    return {
        "temporal IoU": float(np.mean([score.presence.iou for score in targets])) if targets else None,
        "volume IoU": float(np.mean([score.volume.iou for score in targets])) if targets else None,
        "presence precision": both / predicted if predicted else None,
        "presence recall": both / true if true else None,
    }


class Scored(Protocol):
    """Statistics of J and F over one sentence's or object's frames."""

    @property
    def j(self) -> Statistics: ...
    @property
    def f(self) -> Statistics: ...


def means(scores: Sequence[Scored]) -> dict[str, float]:
    """`J&F`, `J`, `J recall`, `J decay`, and the same of F: means over sentences or objects."""
    j, f = (np.array([astuple(series) for series in part]).mean(0) for part in
            ([score.j for score in scores], [score.f for score in scores]))  # fmt: skip
    found = {"J&F": float(j[0] + f[0]) / 2}
    for letter, values in (("J", j), ("F", f)):
        found |= dict(zip((letter, f"{letter} recall", f"{letter} decay"), map(float, values), strict=True))
    return found


def _means(scores: list[ExpressionScore]) -> dict[str, Any]:
    return {**means(scores), "expressions": len(scores)}


def _share(values: list[bool]) -> float | None:
    return float(np.mean(values)) if values else None
