"""What a score must be compared with: answers that need no network, the true key frame, and the wrong sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from util import rle
from util.scoring import referred_objects, true_masks
from util.types import Expression, ReferringVideo

Baseline = Literal["largest", "random"]


def answer_with_one_object(video: ReferringVideo, baseline: Baseline, seed: int) -> list[list[rle.RLE]]:
    """Masks [E][T]: for every sentence the true mask of one object, whatever the sentence says.

    `largest` takes the object with the most pixels over the whole video, `random` draws one for each sentence. The
    objects are those that the video's sentences name, so every answer is a referent of some sentence.
    """
    ids = referred_objects(video)
    assert video.masks is not None
    masks_NT: list[list[rle.RLE]] = [[] for _ in ids]
    for index in range(len(video.frames)):
        for n, mask in enumerate(video.masks.read(index, ids)[0]):
            masks_NT[n].append(rle.encode(mask))
    if not ids:
        blank = rle.encode(np.zeros(video.frames.size, bool))
        return [[blank] * len(video.frames) for _ in video.expressions]
    if baseline == "largest":
        best = int(np.argmax([sum(rle.area(mask) for mask in masks_T) for masks_T in masks_NT]))
        return [masks_NT[best] for _ in video.expressions]
    draws = np.random.default_rng(seed).integers(len(ids), size=len(video.expressions))
    return [masks_NT[n] for n in draws]


def true_keys(video: ReferringVideo) -> dict[int, tuple[int, np.ndarray]]:
    """For each sentence with a visible target: the frame in which its true mask is largest, and that mask [H, W]."""
    keys: dict[int, tuple[int, np.ndarray]] = {}
    areas = np.zeros(len(video.expressions), np.int64)
    for index in range(len(video.frames)):
        truth_EHW, known_E = true_masks(video, index)
        for e in np.flatnonzero(known_E):
            area = np.count_nonzero(truth_EHW[e])
            if area > areas[e]:
                areas[e] = area
                keys[int(e)] = (index, truth_EHW[e].copy())
    return keys


def with_other_sentences(video: ReferringVideo) -> ReferringVideo:
    """The same video and answers, each sentence's words replaced by those of another that names other objects.

    The next such sentence in the video's order is taken. Sentences without a target are neither asked nor borrowed;
    one for which the video has no other is left out.
    """
    asked = [expression for expression in video.expressions if expression.object_ids]
    swapped: list[Expression] = []
    for n, expression in enumerate(asked):
        following = asked[n + 1 :] + asked[:n]
        other = next((o for o in following if not set(o.object_ids or ()) & set(expression.object_ids or ())), None)
        if other is not None:
            swapped.append(replace(expression, text=other.text))
    return replace(video, expressions=tuple(swapped))
