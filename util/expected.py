"""What an answer is worth that must guess: the mean score over equally likely choices among true masks of objects.

J and F are means over frames, so the mean over guesses needs no drawing: in each frame the scores of the answers that
are possible there are averaged. Each different answer is compared with each different truth once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from util.metrics import pairwise
from util.scoring import referred_objects
from util.types import ReferringVideo

Answer = tuple[int, ...]  # objects whose visible masks, together, are the answer in a frame; () is an empty mask
Guesses = Sequence[Sequence[Sequence[Answer]]]  # [E][T] equally likely answers, at least one each


@dataclass(frozen=True)
class Expected:
    """Of one sentence, 0..1: J and F, means over frames and guesses, and J&F when every frame's best guess is made."""

    j: float
    f: float
    lucky: float

    @property
    def j_and_f(self) -> float:
        return (self.j + self.f) / 2


def expected_scores(video: ReferringVideo, guesses: Mapping[str, Guesses]) -> dict[str, list[Expected]]:
    """For each name in `guesses`, the expected score of every sentence, whose truth is the union of its objects' masks.

    Every frame must be labelled. Raises InputError when the video has no truth.
    """
    ids = sorted({*referred_objects(video)} | {i for asked in guesses.values() for i in _objects(asked)})
    assert video.masks is not None and video.labelled is None
    frames = len(video.frames)
    truths = [tuple(expression.object_ids or ()) for expression in video.expressions]
    columns = {truth: m for m, truth in enumerate(dict.fromkeys(truths))}
    found = {name: np.zeros((len(truths), 3)) for name in guesses}
    for index in range(frames):
        masks = dict(zip(ids, video.masks.read(index, ids)[0], strict=True))
        possible = {answer for asked in guesses.values() for frames_of in asked for answer in frames_of[index]}
        rows = {answer: n for n, answer in enumerate(sorted(possible))}
        j_NM, f_NM = pairwise(
            _union(masks, list(rows), video.frames.size), _union(masks, list(columns), video.frames.size)
        )
        for name, asked in guesses.items():
            for e, truth in enumerate(truths):
                picked = [rows[answer] for answer in asked[e][index]]
                j, f = j_NM[picked, columns[truth]], f_NM[picked, columns[truth]]
                found[name][e] += (j.mean(), f.mean(), ((j + f) / 2).max())
    return {name: [Expected(*map(float, row / frames)) for row in rows_E] for name, rows_E in found.items()}


def _objects(asked: Guesses) -> set[int]:
    return {id_ for frames in asked for answers in frames for answer in answers for id_ in answer}


def _union(masks: Mapping[int, np.ndarray], answers: Sequence[Answer], size: tuple[int, int]) -> np.ndarray:
    """The answers' masks, bool [N, H, W]."""
    union = np.zeros((len(answers), *size), bool)
    for mask, answer in zip(union, answers, strict=True):
        for id_ in answer:
            mask |= masks[id_]
    return union
