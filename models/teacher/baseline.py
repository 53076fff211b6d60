"""The policies of the public pipelines, rewritten plainly, as something to be measured against.

    anchor      one frame is looked at: the first, from the middle outwards, that shows as many boxes as there are
                sentences, else the one that shows most. What is found there is tracked forward and back.
    continuous  every `step` frames the detector is asked again. A detection goes to the first track whose mask it
                overlaps by more than 0.8, else it is a new one; a track that no detection went to ends. The segmenter
                starts anew from these masks. Nothing is tracked back.

In both a sentence is matched in one frame only, and means the best track there whose score reaches 0.5. What these
pipelines do worse still is left out: they take a lone candidate unasked, and drop sentences that mean the same object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.teacher.interfaces import Detector, ExpressionParser, Matcher, Parsed, Prompt, Question, VideoSegmenter
from models.teacher.match.frames import view_of
from util.types import FrameSource, ReferringVideo

SCORE = 0.5  # least score of a box, and of a match
SAME = 0.8  # IoU above which a detection belongs to a track


@dataclass(frozen=True)
class Baseline:
    """One of the two policies: `step` None is the anchor's. `answer` gives masks bool [E, T, H, W]."""

    parser: ExpressionParser
    detector: Detector
    segmenter: VideoSegmenter
    matcher: Matcher
    step: int | None = None

    def answer(self, video: ReferringVideo) -> np.ndarray:
        """The mask of each sentence in each frame; empty where nothing was found or matched."""
        parsed = [self.parser.parse(expression.text) for expression in video.expressions]
        nouns = sorted({sentence.noun for sentence in parsed})
        if self.step is None:
            frame = self._anchor(video.frames, nouns, len(parsed))
            tracks_NTHW = self._both_ways(video.frames, frame, nouns)
        else:
            tracks_NTHW = self._onwards(video.frames, nouns, self.step)
            frame = int(tracks_NTHW.any((2, 3)).sum(0).argmax()) if len(tracks_NTHW) else 0
        return self._match(video, parsed, tracks_NTHW, frame)

    def _boxes(self, frames: FrameSource, frame: int, nouns: Sequence[str]) -> list[tuple[float, float, float, float]]:
        return [d.box for d in self.detector.detect(frames[frame], nouns) if d.score >= SCORE]

    def _anchor(self, frames: FrameSource, nouns: Sequence[str], sentences: int) -> int:
        best, most = 0, -1
        for frame in middle_first(len(frames)):
            found = len(self._boxes(frames, frame, nouns))
            if found >= sentences:
                return frame
            if found > most:
                best, most = frame, found
        return best

    def _joined(self, masks: Sequence[np.ndarray], tracks: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Detections by the first track of `tracks` that each overlaps, or under a new id."""
        joined: dict[int, np.ndarray] = {}
        fresh = max(tracks, default=-1) + 1
        for mask in masks:
            fits = (i for i, other in {**tracks, **joined}.items() if _iou(mask, other) > SAME)
            found = next(fits, None)
            if found is None:
                found, fresh = fresh, fresh + 1
            joined[found] = mask
        return joined

    def _found(self, frames: FrameSource, frame: int, nouns: Sequence[str]) -> list[np.ndarray]:
        """Masks of what the detector finds in a frame."""
        session = self.segmenter.open(frames)
        boxes = self._boxes(frames, frame, nouns)
        masks = [session.add(number, Prompt(frame, box=box)).mask_HW for number, box in enumerate(boxes)]
        session.close()
        return [mask for mask in masks if mask.any()]

    def _both_ways(self, frames: FrameSource, anchor: int, nouns: Sequence[str]) -> np.ndarray:
        begun = self._joined(self._found(frames, anchor, nouns), {})
        tracks_NTHW = np.zeros((len(begun), len(frames), *frames.size), bool)
        session = self.segmenter.open(frames)
        for number, mask in enumerate(begun.values()):
            tracks_NTHW[number, anchor] = session.add(number, Prompt(anchor, mask_HW=mask)).mask_HW
            for frame in range(anchor + 1, len(frames)):
                tracks_NTHW[number, frame] = session.step(number, frame).mask_HW
            for frame in range(anchor - 1, -1, -1):
                tracks_NTHW[number, frame] = session.step(number, frame, reverse=True).mask_HW
        session.close()
        return tracks_NTHW

    def _onwards(self, frames: FrameSource, nouns: Sequence[str], step: int) -> np.ndarray:
        length = len(frames)
        tracks: dict[int, np.ndarray] = {}  # id -> masks [T, H, W]
        last: dict[int, np.ndarray] = {}
        for start in range(0, length, step):
            found = self._found(frames, start, nouns)
            last = self._joined(found, last) if found else last
            session = self.segmenter.open(frames)
            for number, mask in last.items():
                if not mask.any():
                    continue
                masks_THW = tracks.setdefault(number, np.zeros((length, *frames.size), bool))
                masks_THW[start] = session.add(number, Prompt(start, mask_HW=mask)).mask_HW
                for frame in range(start + 1, min(start + step + 1, length)):
                    masks_THW[frame] = session.step(number, frame).mask_HW
            session.close()
            last = {number: tracks[number][min(start + step, length - 1)] for number in last if number in tracks}
        return np.stack(list(tracks.values())) if tracks else np.zeros((0, length, *frames.size), bool)

    def _match(
        self, video: ReferringVideo, parsed: Sequence[Parsed], tracks_NTHW: np.ndarray, frame: int
    ) -> np.ndarray:
        masks_ETHW = np.zeros((len(parsed), len(video.frames), *video.frames.size), bool)
        if not len(tracks_NTHW) or not parsed:
            return masks_ETHW
        views = [view_of(number, masks) for number, masks in enumerate(tracks_NTHW)]
        scores = self.matcher.score(Question(video.id, {frame: video.frames[frame]}, views, parsed)).scores_ENF[:, :, 0]
        for e, row in enumerate(np.nan_to_num(scores)):
            if row.max() >= SCORE:
                masks_ETHW[e] = tracks_NTHW[int(row.argmax())]
        return masks_ETHW


def middle_first(length: int) -> list[int]:
    """All frames, breadth first in the binary tree whose nodes (start, end) stand for their middle."""
    order, nodes = [], [(0, length - 1)]
    for start, end in nodes:
        if start <= end:
            middle = (start + end) // 2
            order.append(middle)
            nodes += [(start, middle - 1), (middle + 1, end)]
    return order


def _iou(mask: np.ndarray, other: np.ndarray) -> float:
    union = (mask | other).sum()
    return float((mask & other).sum() / union) if union else 0.0
