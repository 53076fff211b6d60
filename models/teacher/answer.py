"""What the teacher answers for one video, in the form that overlays, sheets and mask files are written from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.teacher.pipeline import Taught
from models.teacher.resolver import Decision
from util import rle


class TaughtAnswer:
    """An `Answer` (util/answer_files.py): masks of each sentence, the union of the tracks that it means.

    With `doubtful`, tracks of answers that were rejected are shown too, and where none fits the one that comes nearest.
    A sentence's key frame is the one in which its first track was found; -1 where there is none.
    """

    def __init__(self, taught: Taught, *, doubtful: bool = False) -> None:
        self.sentences: Sequence[str] = [expression.text for expression in taught.video.expressions]
        self._tracks = taught.tracks
        weighed = zip(taught.decisions, taught.qualities, strict=True)
        self._rows = [
            decision.rows if quality is not None and quality.weight > 0 else _best(decision) if doubtful else ()
            for decision, quality in weighed
        ]
        length, presence_NT = taught.tracks.length, taught.tracks.presence_NT()
        self.masks: Sequence[Sequence[rle.RLE]] = [
            [rle.encode(self._mask(rows, frame)) for frame in range(length)] for rows in self._rows
        ]
        self.presence_ET = np.array(
            [presence_NT[list(rows)].max(0) if rows else np.zeros(length) for rows in self._rows], np.float32
        ).reshape(len(self._rows), length)
        weights = [quality.weight if quality is not None else 0.0 for quality in taught.qualities]
        self.scores_ET = self.presence_ET * np.array(weights, np.float32)[:, None]
        self.key_E = np.array([taught.tracks.tracks[r[0]].prompts[0].frame if r else -1 for r in self._rows], np.int64)

    def frame_masks(self, frame: int) -> np.ndarray:
        """Masks bool [E, H, W]."""
        return np.stack([self._mask(rows, frame) for rows in self._rows])

    def _mask(self, rows: Sequence[int], frame: int) -> np.ndarray:
        mask_HW = np.zeros(self._tracks.size, bool)
        for row in rows:
            mask_HW |= self._tracks.mask(row, frame)
        return mask_HW


def _best(decision: Decision) -> tuple[int, ...]:
    """The tracks of an answer; without an answer, the one that fits best."""
    return decision.rows or (() if decision.runner_up is None else (decision.runner_up,))


def summary(taught: Taught) -> list[str]:
    """A line for each sentence: where its answer is seen and how far it is trusted, or why there is none."""
    lines = []
    visible_NT = taught.tracks.visible_NT()
    found = zip(taught.video.expressions, taught.decisions, taught.qualities, strict=True)
    for expression, decision, quality in found:
        if quality is not None and quality.weight > 0:
            seen = int(visible_NT[list(decision.rows)].any(0).sum())
            said = f"in {seen} of {taught.tracks.length} frames, match {decision.p:.2f}, weight {quality.weight:.2f}"
        elif quality is not None:
            said = f"rejected: {quality.reason}"
        else:
            near = f", the best match is {decision.p:.2f}" if np.isfinite(decision.p) else ""
            said = f"no answer: {decision.status}" + (f" ({decision.reason})" if decision.reason else "") + near
        lines.append(f"{expression.text!r}: {said}")
    return lines
