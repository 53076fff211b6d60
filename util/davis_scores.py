"""Ref-DAVIS17: four sets of sentences, each answered by one map of object ids in every frame, scored object by object.

`published`  the unsupervised task of davis2017-evaluation, which ReferFormer's numbers come from: every predicted id is
             paired with a true object by the assignment that scores best, so swapped referents cost nothing; the true
             objects are those up to the highest id of the first frame
`strict`     the object that a sentence asks for is compared with the pixels of its own id, nothing is reassigned
Both take all frames and leave out void pixels. Sentences' ids follow ReferFormer: `int(id) % 4` is the annotation set.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from util.errors import InputError
from util.metrics import Statistics, pairwise, statistics
from util.scoring import means
from util.types import ReferringVideo

VOID = 255  # id of the pixels that are left out
SETS = 4  # annotators x (first frame, whole video)
MOST = 20  # predicted objects of a video that the unsupervised task allows
Matching = Literal["published", "strict"]
LEAST = 0.5  # probability of an object's pixel
MATCHINGS: tuple[Matching, ...] = ("published", "strict")
Labels = Callable[[int, int], np.ndarray]  # (annotation set, frame) -> object ids uint8 [H, W]


@dataclass(frozen=True)
class ObjectScore:
    """How well one object was segmented from the sentence of one annotation set."""

    matching: Matching
    annotation_set: int
    video: str
    object: int
    text: str
    frames: int
    area: float
    j: Statistics
    f: Statistics

    @property
    def j_and_f(self) -> float:
        return (self.j.mean + self.f.mean) / 2


def annotation_sets(video: ReferringVideo) -> list[dict[int, int]]:
    """For each annotation set, the place of the sentence that asks for each object: {object id: place}.

    Raises InputError for ids and answers that are not Ref-DAVIS17's.
    """
    sets: list[dict[int, int]] = [{} for _ in range(SETS)]
    for place, expression in enumerate(video.expressions):
        if not expression.id.isdecimal() or expression.object_ids is None or len(expression.object_ids) != 1:
            raise InputError(
                f"video {video.id}, expression {expression.id}: Ref-DAVIS17's sentences are numbered and have one "
                "object each; evaluate other data with --data ref_youtube_vos or mevis"
            )
        sets[int(expression.id) % SETS][expression.object_ids[0]] = place
    return sets


def labels_from_probabilities(
    probabilities: Callable[[int, Sequence[int]], np.ndarray], video: ReferringVideo
) -> Labels:
    """The map of object ids that a set's sentences make together: each pixel goes to the most probable object.

    `probabilities(frame, places)` gives [N, H, W], 0..1, of the sentences at these places. Below 0.5 they count as 0
    against a background of 0.1 (ReferFormer), so a pixel that no object has with 0.5 or more is background.
    """
    sets = annotation_sets(video)

    def labels(annotation_set: int, frame: int) -> np.ndarray:
        objects = sets[annotation_set]
        if not objects:
            return np.zeros(video.frames.size, np.uint8)
        found = probabilities(frame, list(objects.values()))
        drawn = np.array(list(objects), np.uint8)[found.argmax(0)]
        drawn[found.max(0) < LEAST] = 0
        return drawn

    return labels


def score_davis_video(labels: Labels, video: ReferringVideo) -> list[ObjectScore]:
    """Scores of every object by every annotation set and both ways of matching.

    Raises InputError when the truth is not there, or a map has another size or more than 20 ids.
    """
    sets = annotation_sets(video)
    asked = {object_id for objects in sets for object_id in objects}
    truth_THW, first = _truth(video, asked)
    truth_ids = np.array(sorted(asked | set(range(1, first + 1))))
    areas = np.array([[np.mean(truth == n) for n in truth_ids] for truth in truth_THW])
    area = areas.sum(0) / np.maximum((areas > 0).sum(0), 1)
    scores = []
    for s, objects in enumerate(sets):
        if not objects:
            continue
        maps = [_checked(labels(s, t), truth, f"video {video.id}, set {s}, frame {name}")
                for t, (truth, name) in enumerate(zip(truth_THW, video.frame_names, strict=True))]  # fmt: skip
        highest = max(int(drawn.max()) for drawn in maps)
        if highest > max(MOST, truth_ids[-1]):
            raise InputError(f"video {video.id}, set {s}: the maps hold id {highest}; at most {MOST} objects count")
        ids = np.arange(1, max(highest, truth_ids[-1]) + 1)  # an object without a pixel is an empty mask
        frames = zip(maps, truth_THW, strict=True)
        pairs = [pairwise(_masks(drawn, ids), _masks(truth, truth_ids), truth == VOID) for drawn, truth in frames]
        j_PNT, f_PNT = (np.stack(series, -1) for series in zip(*pairs, strict=True))
        matched: list[tuple[Matching, int, int]] = [("strict", truth_ids.tolist().index(n), n) for n in objects]
        matched += [("published", place, n) for place, n in _assigned(j_PNT, f_PNT, highest, first)]
        for matching, place, n in matched:
            text = video.expressions[objects[truth_ids[place]]].text if truth_ids[place] in objects else ""
            scores.append(ObjectScore(
                matching, s, video.id, int(truth_ids[place]), text, len(maps), float(area[place]),
                statistics(j_PNT[n - 1, place]), statistics(f_PNT[n - 1, place]),
            ))  # fmt: skip
    return scores


def _assigned(j_PNT: np.ndarray, f_PNT: np.ndarray, highest: int, first: int) -> list[tuple[int, int]]:
    """(place of the true object, predicted id) by the assignment that maximises mean J + F.

    Predicted are the ids 1 to `highest`, padded with empty masks to the number of true ones, which are 1 to `first`.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise InputError("Ref-DAVIS17's published matching needs scipy; install it with: pip install scipy") from None
    quality = (j_PNT.mean(-1) + f_PNT.mean(-1))[: max(highest, first), :first]
    rows, columns = linear_sum_assignment(-quality)
    return [(int(column), int(row) + 1) for row, column in zip(rows, columns, strict=True)]


def _truth(video: ReferringVideo, asked: Collection[int]) -> tuple[np.ndarray, int]:
    """Object ids uint8 [T, H, W], 255 where void, and the highest id of the first frame."""
    if video.masks is None:
        raise InputError(f"video {video.id}: no ground truth; evaluate a split that has its masks")
    truth = np.zeros((len(video.frames), *video.frames.size), np.uint8)
    ids, first = list(range(1, VOID + 1)), 0
    for t, drawn in enumerate(truth):
        masks, _ = video.masks.read(t, ids)
        for object_id, mask in zip(ids, masks, strict=True):
            drawn[mask] = object_id
        if t == 0:
            first = max(set(np.unique(drawn).tolist()) - {0, VOID}, default=0)
            ids = sorted({*asked, *range(1, first + 1), VOID})
    return truth, first


def _checked(drawn: np.ndarray, truth: np.ndarray, where: str) -> np.ndarray:
    if drawn.shape != truth.shape:
        raise InputError(f"{where}: the predicted map is {drawn.shape} and the true one {truth.shape}; write it at "
                         "the frames' size")  # fmt: skip
    return drawn


def _masks(labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return labels == ids[:, None, None]


def summarise_davis(scores: Sequence[ObjectScore]) -> dict[str, Any]:
    """`published` and `strict`, each with `J&F`, `J`, `F`, recall and decay: means over objects for each annotation set
    (`sets`), and over the sets. Raises InputError when there is nothing to average.
    """
    if not scores:
        raise InputError("nothing was scored; check the split's name and --limit")
    summary: dict[str, Any] = {"videos": len({score.video for score in scores})}
    for matching in MATCHINGS:
        matched = [score for score in scores if score.matching == matching]
        by_set = {}
        for s in sorted({score.annotation_set for score in matched}):
            by_set[str(s)] = means([score for score in matched if score.annotation_set == s])
        names = next(iter(by_set.values()), {})
        mean = {name: float(np.mean([numbers[name] for numbers in by_set.values()])) for name in names}
        summary[matching] = {**mean, "sets": by_set}
    return summary
