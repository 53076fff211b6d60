"""The held-out videos that every network is asked about, and one network's answers to one video, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.synthetic.controls import ControlledVideos
from datasets.synthetic.scenes import Split, usual_frames
from datasets.video import MemoryVideo
from models.inference import InferenceConfig, evaluating
from models.key_frame import VideoResult, open_video, segment_video
from scripts.evidence.analysis import Trace
from scripts.evidence.rows import Asked, Row
from util import rle
from util.controls import true_keys, with_other_sentences
from util.metrics import jaccard
from util.scoring import Masks, score_by_frame
from util.types import ABSENT, PRESENT, ReferringVideo

if TYPE_CHECKING:
    from models.segmenter import Segmenter
    from models.windows import FeatureCache

SEED = 3_000_000
THINGS = range(1, 9)  # ids that a synthetic world can have
KEPT = 1_000_000  # frames x sentences: all features of a video, which every row uses


@dataclass(frozen=True)
class Exam:
    """`videos` of each split, of the world on which networks are trained, with its words, from a seed of their own."""

    world: SyntheticConfig
    videos: int

    def world_of(self, split: Split) -> SyntheticConfig:
        """The split's videos; `long` ones are longer in proportion."""
        frames = self.world.frames * usual_frames(split) // usual_frames("easy")
        return replace(self.world, split=split, seed=SEED, videos=self.videos, frames=frames)

    def videos_of(self, split: Split, asked: Asked) -> Sequence[ReferringVideo]:
        """What is asked of a split (`Row.videos`); pairs are twice as many videos."""
        world = self.world_of(split)
        if asked in ("shuffled", "reversed", "pairs"):
            return ControlledVideos(world, asked)
        videos = SyntheticVideos(replace(world, held_out="only") if asked == "new-words" else world)
        return [with_other_sentences(video) for video in videos] if asked == "swapped" else videos


class Held:
    """True masks of all things of a video, drawn once (a `MaskSource`)."""

    def __init__(self, video: ReferringVideo) -> None:
        assert video.masks is not None
        masks = video.masks
        self.masks_TNHW = np.stack([masks.read(index, THINGS)[0] for index in range(len(video.frames))])

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        masks = self.masks_TNHW[index, [THINGS.index(object_id) for object_id in object_ids]]
        return masks, np.where(masks.any(axis=(1, 2)), PRESENT, ABSENT).astype(np.int8)


class Candidate:
    """A network before one video: what several rows need is computed once."""

    def __init__(self, segmenter: Segmenter, video: ReferringVideo, inference: InferenceConfig) -> None:
        self.truth = Held(video)
        frames = MemoryVideo(np.stack([video.frames[t] for t in range(len(video.frames))]), video.frames.fps)
        self.video = replace(video, frames=frames, masks=self.truth)
        self.segmenter = segmenter
        self.inference = replace(inference, cached_frames=KEPT)
        self.sentences = [expression.text for expression in video.expressions]
        self._cache: FeatureCache | None = None
        self._answers: list[tuple[InferenceConfig, str, VideoResult]] = []
        self._best: dict[int, tuple[int, None]] | None = None

    def traces(self, row: Row) -> list[Trace]:
        """The row's answers to all sentences, scored."""
        result = self._answer(replace(self.inference, **row.inference), row.key)
        masks: Masks = result.masks if row.tracking == "network" else self._followed(result)
        key_E = result.key_E.tolist()
        scored = score_by_frame(masks, self.video)
        return [Trace(score, series, key) for (score, series), key in zip(scored, key_E, strict=True)]

    def _answer(self, config: InferenceConfig, key: str) -> VideoResult:
        for known, known_key, result in self._answers:
            if (known, known_key) == (config, key):
                return result
        cache = None if config.mode == "clip" else self._opened()
        result = segment_video(
            self.segmenter, self.video.frames, self.sentences, config, keys=self._keys(key), cache=cache
        )
        self._answers.append((config, key, result))
        return result

    def _opened(self) -> FeatureCache:
        self._cache = self._cache or open_video(self.segmenter, self.video.frames, self.sentences, self.inference)
        return self._cache

    def _keys(self, key: str) -> Mapping[int, tuple[int, np.ndarray | None]] | None:
        if key == "first":
            return {e: (0, None) for e in range(len(self.sentences))}
        if key == "true":
            return dict(true_keys(self.video))
        return self._best_keys() if key == "best" else None

    def _best_keys(self) -> Mapping[int, tuple[int, None]]:
        """For each sentence with a target that is ever hit: the frame in which the first pass's mask has the best J.

        The earliest of equals. The other sentences are left to the network.
        """
        if self._best is None:
            cache = self._opened()
            best = np.zeros((len(self.sentences), len(self.video.frames)))
            with evaluating(self.segmenter):
                for block in cache.blocks:
                    seen = cache.read(block, range(len(self.sentences)))
                    for frame in block:
                        for e, expression in enumerate(self.video.expressions):
                            truth_HW = self._true_mask(frame, expression.object_ids or ())
                            if truth_HW.any():
                                mask_HW = cache.inference.finish(seen.answer(frame, e).logits_hw[None])[0]
                                best[e, frame] = jaccard(mask_HW, truth_HW)
            self._best = {e: (int(row.argmax()), None) for e, row in enumerate(best) if row.any()}
        return self._best

    def _true_mask(self, frame: int, object_ids: Sequence[int]) -> np.ndarray:
        places = [THINGS.index(object_id) for object_id in object_ids]
        return np.logical_or.reduce(self.truth.masks_TNHW[frame, places], axis=0)

    def _followed(self, result: VideoResult) -> list[list[rle.RLE]]:
        """True masks, in every frame, of the things that each sentence's key shows; nothing without a key."""
        frames = range(len(self.video.frames))
        followed = []
        for e, key in enumerate(result.key_E.tolist()):
            shown: tuple[int, ...] = ()
            if key >= 0:
                shown = things_under(rle.decode(result.masks[e][key]), self.truth.masks_TNHW[key])
            followed.append([rle.encode(self._true_mask(frame, shown)) for frame in frames])
        return followed


def things_under(mask_HW: np.ndarray, masks_NHW: np.ndarray) -> tuple[int, ...]:
    """Ids of the things that a mask shows: those of which it covers more than half; else the one it overlaps best."""
    covered_N = (masks_NHW & mask_HW).sum((1, 2))
    shares_N = covered_N / np.maximum(masks_NHW.sum((1, 2)), 1)
    shown = tuple(THINGS[n] for n in np.flatnonzero(shares_N > 0.5))
    if shown or not covered_N.any():
        return shown
    return (THINGS[int(np.argmax([jaccard(mask_HW, mask) if mask.any() else 0.0 for mask in masks_NHW]))],)
