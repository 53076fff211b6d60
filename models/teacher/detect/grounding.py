"""What a Grounding DINO answers to a phrase, whichever code runs it, and the boxes that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.teacher.detect.boxes import clip_box, sort_by_score, suppress
from models.teacher.detect.phrases import head_index, word_spans, word_tokens
from models.teacher.interfaces import Detection


@dataclass(frozen=True)
class Grounding:
    """Every query's answer to one phrase.

    words          of the phrase, and the place of its head noun
    boxes_Q4       xyxy in pixels, not cut at the image's border
    scores_QW      probability of each word, 0..1: the most certain of its tokens
    """

    words: tuple[str, ...]
    head: int
    boxes_Q4: np.ndarray
    scores_QW: np.ndarray

    @property
    def head_Q(self) -> np.ndarray:
        """Probability of the head noun."""
        return self.scores_QW[:, self.head]


def read_grounding(
    phrase: str, head: str, offsets: Sequence[tuple[int, int]], boxes_Q4: Tensor, logits_QL: Tensor
) -> Grounding:
    """The answer to a phrase from its tokens' places in it, boxes in pixels and logits of the tokens.

    `head` is the phrase's head noun where it is known, else "".
    """
    spans = word_spans(phrase)
    words = tuple(phrase[first:last] for first, last in spans)
    probability_QL = logits_QL.float().sigmoid()
    columns = [probability_QL[:, tokens].amax(dim=-1) for tokens in word_tokens(spans, offsets)]
    return Grounding(
        words, head_index(words, head), boxes_Q4.cpu().double().numpy(), torch.stack(columns, dim=-1).cpu().numpy()
    )


def detections_of(
    groundings: Sequence[Grounding],
    nouns: Sequence[str],
    size: tuple[int, int],
    *,
    threshold: float,
    text_threshold: float,
    iou: float,
) -> list[Detection]:
    """Boxes of every noun in an image of `size` (height, width), thinned within each noun, the most certain first.

    threshold  least probability of the head noun; text_threshold  of a word that `Detection.phrase` repeats
    iou        above which two boxes of one noun are one
    """
    found = []
    for noun, grounding in zip(nouns, groundings, strict=True):
        for query in np.flatnonzero(grounding.head_Q > threshold):
            box = clip_box(grounding.boxes_Q4[query], *size)
            if box is not None:
                certain = grounding.scores_QW[query] > text_threshold
                phrase = " ".join(word for word, fires in zip(grounding.words, certain, strict=True) if fires)
                found.append(Detection(box, float(grounding.head_Q[query]), noun, phrase))
    return sort_by_score(suppress(found, iou))
