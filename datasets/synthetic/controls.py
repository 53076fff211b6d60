"""Copies of synthetic videos that tell whether an answer follows from what happens in time.

reversed: the frames backwards, asked what means another thing then than forwards.
shuffled: the frames in a random order with the answers of the original: what a sentence needs of their order is gone.
pairs: two videos with one first frame after which other things happen, asked what means another thing in each.

What is asked of a video under a control is drawn as for the video itself, and kept where the verifier finds a target in
both videos, and not the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from datasets.video_list import VideoList
from util.types import Expression, FrameSource, MaskSource, ReferringVideo

from .observed import Observed, observe
from .sentences import Sentence
from .verifier import Verifier
from .videos import SyntheticConfig, SyntheticVideos
from .world import counterpart

Places = Mapping[int, np.ndarray]  # of what is seen in a frame: the middle (x, y) of each thing's visible mask
Control = Literal["reversed", "shuffled", "pairs"]
_DRAWN = 4  # times as many sentences are drawn for a control that keeps only some
_SHUFFLE = 3  # stream of a video's seed beside those of videos.py


@dataclass(frozen=True)
class Case:
    """A video and what decides its answers.

    sentences: those of the video's expressions, in their order.
    alike: for each, what it means here, and under a control that changes it what it means without: the answers between
        which one must guess who cannot tell the two videos apart.
    """

    video: ReferringVideo
    observed: Observed
    sentences: tuple[Sentence, ...]
    alike: tuple[tuple[tuple[int, ...], ...], ...]

    @cached_property
    def verifier(self) -> Verifier:
        return Verifier(self.observed)

    @property
    def ids(self) -> tuple[int, ...]:
        """Of all things in the video, ascending."""
        return tuple(sorted(thing.id for thing in self.observed.things))

    @cached_property
    def places(self) -> list[Places]:
        """Of every frame."""
        return [self._places(index) for index in range(len(self.video.frames))]

    def _places(self, index: int) -> Places:
        assert self.video.masks is not None
        masks_NHW, _ = self.video.masks.read(index, self.ids)
        found = {}
        for id_, mask_HW in zip(self.ids, masks_NHW, strict=True):
            if mask_HW.any():
                rows, columns = np.nonzero(mask_HW)
                found[id_] = np.array([columns.mean(), rows.mean()])
        return found


class ControlledVideos(VideoList):
    """Synthetic videos under a control, or as they are; a video of which a control can ask nothing has no sentence.

    Videos 2n and 2n + 1 are a pair; otherwise number n is the control of video n.
    """

    def __init__(self, config: SyntheticConfig, control: Control | None = None) -> None:
        self.control = control
        self._most = config.expressions
        if control in ("reversed", "pairs"):
            config = replace(config, expressions=_DRAWN * config.expressions)
        self.source = SyntheticVideos(config)

    def __len__(self) -> int:
        return len(self.source) * (2 if self.control == "pairs" else 1)

    def video(self, number: int) -> ReferringVideo:
        return self.case(number).video

    def case(self, number: int) -> Case:
        """Video `number` with what decides its answers."""
        if self.control == "pairs":
            return self._pair(number // 2, second=number % 2 == 1)
        world, sentences = self.source.program(number)
        video, observed = self.source.filmed(number, world, sentences), observe(world)
        if self.control == "reversed":
            observed = observed.reversed()
            kept = changed(sentences, Verifier(observed))[: self._most]
            sentences = tuple(after for _, after in kept)
            video = _ordered(video, np.arange(len(video.frames))[::-1], "reversed")
            return Case(_asked(video, sentences), observed, sentences, _answers(kept))
        if self.control == "shuffled":
            draw = np.random.default_rng((self.source.config.seed, number, _SHUFFLE))
            observed = in_order(observed, draw.permutation(observed.moments))
            video = _ordered(video, draw.permutation(len(video.frames)), "shuffled")
        return Case(video, observed, sentences, tuple((sentence.object_ids,) for sentence in sentences))

    def _pair(self, number: int, *, second: bool) -> Case:
        world, sentences = self.source.program(number)
        other = counterpart(world)
        kept = changed(sentences, Verifier(observe(other)))[: self._most]
        sentences = tuple(pair[second] for pair in kept)
        shown = other if second else world
        video = self.source.filmed(number, shown, sentences)
        video = replace(video, id=f"{video.id}-{'second' if second else 'first'}")
        return Case(video, observe(shown), sentences, _answers(kept))


def changed(sentences: Sequence[Sentence], elsewhere: Verifier) -> list[tuple[Sentence, Sentence]]:
    """The sentences that have another target in another video, and beside each what it is there."""
    found = [(sentence, elsewhere.referents(sentence.program)) for sentence in sentences if sentence.object_ids]
    return [(here, replace(here, object_ids=ids)) for here, ids in found if ids and ids != here.object_ids]


def _answers(kept: Sequence[tuple[Sentence, Sentence]]) -> tuple[tuple[tuple[int, ...], ...], ...]:
    return tuple((here.object_ids, there.object_ids) for here, there in kept)


class _Frames:
    """Frames in another order, at the same rate (a `FrameSource`)."""

    def __init__(self, frames: FrameSource, order: np.ndarray) -> None:
        self._frames, self._order = frames, order

    @property
    def fps(self) -> float:
        return self._frames.fps

    @property
    def size(self) -> tuple[int, int]:
        return self._frames.size

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._frames[int(self._order[index])]


class _Masks:
    """Masks in another order (a `MaskSource`)."""

    def __init__(self, masks: MaskSource, order: np.ndarray) -> None:
        self._masks, self._order = masks, order

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        return self._masks.read(int(self._order[index]), object_ids)


def _ordered(video: ReferringVideo, order: np.ndarray, name: str) -> ReferringVideo:
    """The video with frame order[n] as its n-th."""
    assert video.masks is not None
    frames, masks = _Frames(video.frames, order), _Masks(video.masks, order)
    return replace(video, id=f"{video.id}-{name}", frames=frames, masks=masks)


def in_order(observed: Observed, order: np.ndarray) -> Observed:
    """What is observed when moment order[n] is shown as the n-th."""
    return replace(observed, whole_NTHW=observed.whole_NTHW[:, order], labels_THW=observed.labels_THW[order])


def _asked(video: ReferringVideo, sentences: Sequence[Sentence]) -> ReferringVideo:
    expressions = tuple(
        Expression(str(order), sentence.text, sentence.object_ids, sentence.family)
        for order, sentence in enumerate(sentences)
    )
    return replace(video, expressions=expressions)
