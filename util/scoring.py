"""From masks to scores: J and F of each sentence, and their means over a data set.

Frames are averaged first, then sentences: a sentence of a long video counts as much as one of a short one. That is
MeViS's protocol, and the one stated here for Ref-YouTube-VOS, whose server never published its aggregation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from util import rle
from util.distributed import World
from util.errors import InputError
from util.metrics import Statistics, boundary_f, jaccard, statistics
from util.types import IGNORE, ReferringVideo

Masks = Sequence[Sequence[rle.RLE]]  # [E][T]


@dataclass(frozen=True)
class ExpressionScore:
    """How well one sentence was answered in one video.

    frames  labelled frames scored; j, f  statistics over them
    target  False for a sentence that has no target; empty  True when no pixel of any frame was predicted
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

    @property
    def j_and_f(self) -> float:
        return (self.j.mean + self.f.mean) / 2


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


def score_video(masks_ET: Masks, video: ReferringVideo) -> list[ExpressionScore]:
    """Scores of every sentence, given its predicted run-length masks [E][T] at the video's own size.

    Truth is read one frame at a time, so memory does not grow with the video. A sentence none of whose frames is
    labelled is left out. Raises InputError when masks are missing, of another size, or the truth is not there.
    """
    frames, sentences = len(video.frames), video.expressions
    if len(masks_ET) != len(sentences) or any(len(masks_T) != frames for masks_T in masks_ET):
        raise InputError(f"video {video.id}: expected masks of {len(sentences)} sentences in {frames} frames each")
    j_values: list[list[float]] = [[] for _ in sentences]
    f_values: list[list[float]] = [[] for _ in sentences]
    empty = np.ones(len(sentences), bool)
    for index in range(frames):
        truth_EHW, known_E = true_masks(video, index)
        for e in range(len(sentences)):
            predicted = rle.decode(masks_ET[e][index])
            empty[e] &= not predicted.any()
            if known_E[e]:
                j_values[e].append(jaccard(predicted, truth_EHW[e]))
                f_values[e].append(boundary_f(predicted, truth_EHW[e]))
    return [
        ExpressionScore(
            video.id, expression.id, expression.text, expression.type, len(j_values[e]),
            statistics(j_values[e]), statistics(f_values[e]), bool(expression.object_ids), bool(empty[e]),
        )
        for e, expression in enumerate(sentences) if j_values[e]
    ]  # fmt: skip


def score_videos(
    answer: Callable[[int, ReferringVideo], Masks],
    videos: Sequence[ReferringVideo],
    world: World,
    *,
    limit: int | None = None,
    prepare: Callable[[ReferringVideo], ReferringVideo] | None = None,
    progress: bool = False,
) -> list[ExpressionScore]:
    """Scores of all sentences of all (or the first `limit`) videos in their order, the same on every rank.

    Rank r answers videos r, r + size, ...: `answer(number, video)` gives the masks [E][T] of video `number`, as
    `prepare` leaves it. Raises InputError when a video cannot be read or has no truth.
    """
    if limit is not None and limit < 1:
        raise InputError(f"{limit} videos are to be scored; give at least 1")
    numbers = range(world.rank, min(len(videos), limit or len(videos)), world.size)
    mine: list[tuple[int, list[ExpressionScore]]] = []
    for number in tqdm(numbers, desc="videos", disable=not (progress and world.is_main)):
        video = prepare(videos[number]) if prepare else videos[number]
        if video.expressions:
            mine.append((number, score_video(answer(number, video), video)))
    found = sorted((item for part in world.gather(mine) for item in part), key=lambda item: item[0])
    return [score for _, scores in found for score in scores]


def summarise(scores: Iterable[ExpressionScore]) -> dict[str, Any]:
    """Means over sentences, 0..1: `J&F`, `J`, `F`, with recall and decay, and the same for each type of sentence.

    `N-acc` is the share of sentences without a target that were answered by no pixel at all, `T-acc` the share of
    the others answered by some; None where there are no such sentences. They are not folded into J&F, in which a
    frame that is rightly empty scores 1. Raises InputError when there is nothing to average.
    """
    listed = list(scores)
    if not listed:
        raise InputError("nothing was scored; check the split's name and --limit")
    types = sorted({score.type for score in listed if score.type is not None})
    return {
        **_means(listed),
        "N-acc": _share([score.empty for score in listed if not score.target]),
        "T-acc": _share([not score.empty for score in listed if score.target]),
        "videos": len({score.video for score in listed}),
        "by_type": {name: _means([score for score in listed if score.type == name]) for name in types},
    }


def _means(scores: list[ExpressionScore]) -> dict[str, Any]:
    means: dict[str, Any] = {"J&F": float(np.mean([score.j_and_f for score in scores]))}
    for letter, series in (("J", [score.j for score in scores]), ("F", [score.f for score in scores])):
        means[letter] = float(np.mean([one.mean for one in series]))
        means[f"{letter} recall"] = float(np.mean([one.recall for one in series]))
        means[f"{letter} decay"] = float(np.mean([one.decay for one in series]))
    return {**means, "expressions": len(scores)}


def _share(values: list[bool]) -> float | None:
    return float(np.mean(values)) if values else None
