"""What a Grounding DINO answers to a phrase, whichever code runs it, and the boxes that follow from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.teacher.detect.boxes import clip_box, sort_by_score, suppress
from models.teacher.detect.phrases import head_index, word_spans, word_tokens
from models.teacher.interfaces import Detection, ModelInfo
from util.types import Box


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


class GroundingDetector(ABC):
    """A `Detector` made of grounding.

    threshold  least probability of the head noun; text_threshold  of a word that `Detection.phrase` repeats
    iou        above which two boxes of one noun are one
    """

    def __init__(self, info: ModelInfo, *, threshold: float, text_threshold: float, iou: float) -> None:
        self._info = info
        self.threshold, self.text_threshold, self.iou = threshold, text_threshold, iou

    @property
    def info(self) -> ModelInfo:
        return self._info

    @abstractmethod
    def ground(
        self, image_HW3: np.ndarray, phrases: Sequence[str], heads: Sequence[str] | None = None
    ) -> list[Grounding]:
        """Every query's answer to each phrase, asked on its own. `heads` are their head nouns where known, else "".

        Raises InputError for a phrase without a word or too long for the model, and for an image of a shape it
        cannot read.
        """

    def detect(self, image_HW3: np.ndarray, nouns: Sequence[str]) -> list[Detection]:
        """Boxes of every noun, each asked on its own and thinned by `iou`, the most certain first."""
        height, width = image_HW3.shape[:2]
        found = []
        for noun, grounding in zip(nouns, self.ground(image_HW3, nouns), strict=True):
            for query in np.flatnonzero(grounding.head_Q > self.threshold):
                box = clip_box(grounding.boxes_Q4[query], height, width)
                if box is not None:
                    found.append(self._detection(noun, grounding, int(query), box))
        return sort_by_score(suppress(found, self.iou))

    def _detection(self, noun: str, grounding: Grounding, query: int, box: Box) -> Detection:
        said = tuple(zip(grounding.words, grounding.scores_QW[query].tolist(), strict=True))
        phrase = " ".join(word for word, score in said if score > self.text_threshold)
        return Detection(box, float(grounding.head_Q[query]), noun, phrase, said)
