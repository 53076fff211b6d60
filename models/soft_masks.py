"""Masks before the threshold, kept beside the finished ones, for protocols in which sentences compete for a pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.inference import NOTHING, Inference


class SoftMasks:
    """Mask logits at stride 4 of every sentence and frame in which something was found; some 60 kB each at 360x640.

    `segment_video` fills it. Memory grows with the video, which is why nothing else keeps them. A mask that was given
    as a key has no logits, so that its frame counts as empty.
    """

    def __init__(self) -> None:
        self._logits: dict[tuple[int, int], Tensor] = {}
        self._inference: Inference | None = None

    def begin(self, inference: Inference) -> None:
        """Forget what is kept; masks are finished as `inference` does."""
        self._logits, self._inference = {}, inference

    def keep(self, sentence: int, frame: int, logits_hw: Tensor) -> None:
        """What stands behind a finished mask."""
        self._logits[sentence, frame] = logits_hw.detach().cpu()

    def probabilities(self, frame: int, sentences: Sequence[int]) -> np.ndarray:
        """float32 [N, H, W] of these sentences at the source's size; near 0 where nothing was found."""
        assert self._inference is not None, "segment_video was not given these masks"
        found = [self._logits.get((sentence, frame)) for sentence in sentences]
        some = next((logits for logits in found if logits is not None), None)
        if some is None:
            return np.zeros((len(sentences), *self._inference.source), np.float32)
        stacked = torch.stack([torch.full_like(some, NOTHING) if logits is None else logits for logits in found])
        return self._inference.enlarged(stacked).sigmoid().numpy()
