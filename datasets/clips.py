"""Training clips: which frames, which sentences, which objects; and their batch.

A clip is a pure function of (seed, its number): the same on every machine, with any number of workers or ranks, and
after a resume. Nothing is retried: a clip in which the referent is never seen is a valid negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from datasets.clip_truth import fill_slots, read_masks, view_objects
from datasets.frame_sampler import published_frames, published_neighbours, spaced_frames
from datasets.pseudo_video import pseudo_video
from datasets.transforms import TransformConfig, change_colours, clean_caption, draw_view, flip_caption
from util.errors import InputError
from util.protocol import CORRECTED, Protocol
from util.types import ClipBatch, Expression, ReferringVideo, Targets

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
DIVISOR = 32

# Random streams beside each clip's own, which is [seed, n].
_ORDER, _SENTENCES, _LENGTH = 1, 2, 3


@dataclass(frozen=True)
class ClipConfig:
    """How clips are cut from videos."""

    frames: int | tuple[int, ...] = 5  # several = one is drawn for each step, the same for all its clips
    expressions: int = 1  # sentences per clip, different ones where the video has that many
    max_objects: int = 1  # object slots per sentence; what does not fit is merged into the last
    sampler: Literal["spaced", "published"] = "spaced"
    max_skip: int = 5  # greatest distance between neighbouring frames of a spaced clip ...
    min_skip: int = 1  # ... and the least: movements show over time
    answered: int | None = None  # frames, side by side in the clip, that are answered; the rest show what happens
    answered_gap: int | None = None  # frames at most from an answered frame to the next answered one; None: as spaced
    eventful: float = 0.0  # share of clips answered where a referent comes, goes or is covered, if that happens in them
    transform: TransformConfig = field(default_factory=TransformConfig)
    # What the tracking stream is told about: other frames of the clip, with its geometry and colours (their masks are
    # moved a little in training), or, as TF-RVOS does, a frame beside each one, augmented on its own.
    track_augment: Literal["shared", "independent"] = "shared"
    protocol: Protocol = CORRECTED

    def __post_init__(self) -> None:
        counts = (*self.lengths, self.expressions, self.max_objects, self.min_skip, self.answered or 1)
        if not self.lengths or min(counts) < 1 or self.max_skip < self.min_skip:
            raise InputError(
                "clips need frames, expressions, max_objects and min_skip of at least 1, and max_skip >= min_skip"
            )

    @property
    def lengths(self) -> tuple[int, ...]:
        """The choices of frames per clip."""
        return (self.frames,) if isinstance(self.frames, int) else self.frames


@dataclass(frozen=True)
class ClipSample:
    """One clip before it is batched. Shapes and states as in `Targets`, without B.

    frames_THWC uint8, boxes_ENT4 cxcywh divided by (width, height), identity: what to name in an error or a repro,
    answered_T and neighbours: as in `ClipBatch`; with the first, the truth's T are its frames
    """

    frames_THWC: np.ndarray
    times_T: Tensor
    captions: list[str]
    masks_ENTHW: Tensor
    boxes_ENT4: Tensor
    states_ENT: Tensor
    objects_EN: Tensor
    weights_E: Tensor
    identity: str
    answered_T: Tensor | None = None
    neighbours: ClipSample | None = None


def frames_at(config: ClipConfig, seed: int, step: int) -> int:
    """Frames per clip at a global step."""
    return int(_generator(_LENGTH, seed, step).choice(config.lengths))


def _generator(stream: int, *key: int) -> np.random.Generator:
    return np.random.default_rng([*key, stream, len(key)])


class ClipDataset:
    """Clips of one source of videos, numbered without end; one pass (epoch) after another, each in its own order.

    With `every_clip` a pass visits every sentence (in groups of `expressions`) at every stretch of `frames` frames of
    every video, as the published recipe counts its epochs. Otherwise it visits every video once, at a random place;
    this needs no look at the videos beforehand, and suits a synthetic world that makes a video when it is asked for.
    Where only some frames of a video are labelled, each of those stands for a stretch, and its clips hold that frame.
    With `pseudo_videos` the videos are images, each clip made of one of them (`datasets/pseudo_video.py`).
    """

    def __init__(
        self,
        videos: Sequence[ReferringVideo],
        config: ClipConfig,
        *,
        seed: int,
        per_step: int = 1,
        every_clip: bool = False,
        pseudo_videos: bool = False,
    ) -> None:
        """`per_step`: clips of one global step, over all ranks. Raises InputError when there is nothing to train on."""
        self.videos, self.config, self.seed, self.per_step = videos, config, seed, per_step
        if len(videos) == 0:
            raise InputError("no videos to train on; check the data source's root and split")
        counts = [_stretches(video, config) for video in videos] if every_clip else [1] * len(videos)
        self._first = np.concatenate([[0], np.cumsum(counts)])  # first clip of each video in a pass
        if self._first[-1] == 0:
            raise InputError("no sentences to train on; check the data source's root and split")
        self._every_clip, self._pseudo_videos = every_clip, pseudo_videos
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Clips of one pass."""
        return int(self._first[-1])

    def __getitem__(self, n: int) -> ClipSample:
        return self.sample(n, frames_at(self.config, self.seed, n // self.per_step))

    def sample(self, n: int, frames: int) -> ClipSample:
        """Clip `n` with that many frames."""
        passed, place = divmod(n, len(self))
        if self._order is None or self._order[0] != passed:
            self._order = passed, _generator(_ORDER, self.seed, passed).permutation(len(self))
        entry = int(self._order[1][place])
        number = int(np.searchsorted(self._first, entry, side="right")) - 1
        video, rng = self.videos[number], np.random.default_rng([self.seed, n])
        _check_answers(video)
        stretch = entry - int(self._first[number])
        if not self._every_clip:
            stretch = int(rng.integers(_stretches(video, self.config)))
        group, block = divmod(stretch, _blocks(video, self.config))
        # one order of the sentences for the whole pass, so that the groups of a stretch hold each of them once
        order = _generator(_SENTENCES, self.seed, passed, number).permutation(len(video.expressions))
        count = self.config.expressions
        chosen = [video.expressions[order[place % len(order)]] for place in range(group * count, (group + 1) * count)]
        if self._pseudo_videos:
            video, index = pseudo_video(video, frames, rng.spawn(1)[0]), np.arange(frames)
        else:
            index = self._frames_around(video, block, frames, rng)
        note = f"clip {n} of seed {self.seed}"
        sample = cut_clip(video, chosen, index, self.config, rng, note=note)
        if self.config.track_augment == "shared":
            return sample
        beside = published_neighbours(index, len(video.frames))
        return replace(sample, neighbours=cut_clip(video, chosen, beside, self.config, rng.spawn(1)[0], note=note))

    def _frames_around(self, video: ReferringVideo, block: int, frames: int, rng: np.random.Generator) -> np.ndarray:
        """The clip's frame numbers: around a stretch's first frame or, drawn evenly, any of it, or a labelled frame."""
        length, stride = len(video.frames), max(self.config.lengths)
        anchor = block * stride if video.labelled is None else video.labelled[block]
        if self.config.sampler == "published":
            return published_frames(anchor, length, frames, rng)
        if video.labelled is None:  # anywhere in its stretch, so that no frame is only ever a neighbour
            anchor = int(rng.integers(anchor, min(anchor + stride, length)))
        config = self.config
        return spaced_frames(anchor, length, frames, config.max_skip, rng, min_skip=config.min_skip)


def _blocks(video: ReferringVideo, config: ClipConfig) -> int:
    if video.labelled is not None:
        return len(video.labelled)
    return -(-len(video.frames) // max(config.lengths))


def _stretches(video: ReferringVideo, config: ClipConfig) -> int:
    return -(-len(video.expressions) // config.expressions) * _blocks(video, config)


def _check_answers(video: ReferringVideo) -> None:
    unknown = video.masks is None or video.labelled == ()
    if unknown or any(e.object_ids is None for e in video.expressions) or not video.expressions:
        raise InputError(f"video {video.id} has no masks or no answered sentences; train on a split that has both")


def cut_clip(
    video: ReferringVideo,
    expressions: Sequence[Expression],
    index_T: np.ndarray,
    config: ClipConfig,
    rng: np.random.Generator,
    *,
    note: str = "",
) -> ClipSample:
    """Frames `index_T` of a video with the truth of these sentences, augmented with draws of `rng`."""
    geometry, colours = rng.spawn(2)  # so that switching one of them off leaves the other as it was
    protocol = config.protocol
    view = draw_view(video.frames.size, config.transform, geometry)
    answered = None
    if config.answered:
        index_T, answered = _answered(video, expressions, index_T, config, config.answered, rng)
    distinct, back = np.unique(index_T, return_inverse=True)
    pixels_THWC = np.stack([video.frames[int(i)] for i in distinct])[back]
    if config.transform.photometric and protocol.photometric == "frame":  # published: before the clip is resized
        pixels_THWC = change_colours(pixels_THWC, colours, protocol)
    frames_THWC = view.frames(pixels_THWC).permute(0, 2, 3, 1).contiguous().numpy()
    if config.transform.photometric and protocol.photometric == "clip":
        frames_THWC = change_colours(frames_THWC, colours, protocol)

    ids = sorted({i for expression in expressions for i in expression.object_ids or ()})
    told, place = (distinct, back) if answered is None else np.unique(index_T[answered], return_inverse=True)
    masks_NTHW, known_NT = read_masks(video, told, ids)
    truth = view_objects(masks_NTHW[:, place], known_NT[:, place], view, protocol)
    slots = [fill_slots(truth, [ids.index(i) for i in e.object_ids or ()], config.max_objects) for e in expressions]
    captions = [clean_caption(expression.text) for expression in expressions]
    named = ",".join(expression.id for expression in expressions)
    return ClipSample(
        frames_THWC=frames_THWC,
        times_T=torch.from_numpy(index_T / video.frames.fps).float(),
        captions=[flip_caption(caption, protocol) for caption in captions] if view.flip else captions,
        masks_ENTHW=torch.stack([slot.masks_NTHW for slot in slots]),
        boxes_ENT4=torch.stack([slot.boxes_NT4 for slot in slots]),
        states_ENT=torch.stack([slot.states_NT for slot in slots]),
        objects_EN=torch.stack([torch.arange(config.max_objects) < len(e.object_ids or ()) for e in expressions]),
        weights_E=torch.tensor([expression.weight for expression in expressions]),
        identity=f"{note}: video {video.id}, sentences {named}, frames {index_T.tolist()}, {view}",
        answered_T=None if answered is None else torch.from_numpy(answered),
    )


def _answered(
    video: ReferringVideo, expressions: Sequence[Expression], index_T: np.ndarray, config: ClipConfig, count: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The clip's frames, and the positions of `count` of them side by side, one of them labelled (all of a short clip).

    The answered frames are moved together where the config asks for it, unless they were chosen for what happens
    between them or only some frames are labelled.
    """
    rng, events, gaps = (rng.spawn(1)[0] for _ in range(3))
    known = [p for p, frame in enumerate(index_T) if video.labelled is None or frame in video.labelled]
    first = int(rng.choice(known)) - int(rng.integers(count))
    first = min(max(first, 0), max(len(index_T) - count, 0))
    eventful: list[int] = []
    if config.eventful and video.labelled is None and events.random() < config.eventful:
        eventful = _events(video, expressions, index_T)
    if eventful:
        last_before = int(events.choice(eventful))
        first = min(max(last_before - int(events.integers(max(1, count - 1))), 0), max(len(index_T) - count, 0))
    answered = np.arange(first, min(first + count, len(index_T)))
    if config.answered_gap and video.labelled is None and not eventful:
        index_T = index_T.copy()
        for before, after in pairwise(answered):
            index_T[after] = min(index_T[after], index_T[before] + int(gaps.integers(1, config.answered_gap + 1)))
    return index_T, answered


def _events(video: ReferringVideo, expressions: Sequence[Expression], index_T: np.ndarray) -> list[int]:
    """Positions after which a sentence's referents show less than half, or more than twice, of what they did."""
    ids = sorted({i for expression in expressions for i in expression.object_ids or ()})
    masks_NTHW, _ = read_masks(video, index_T, ids)
    found = set()
    for expression in expressions:
        members = [ids.index(i) for i in expression.object_ids or ()]
        area_T = masks_NTHW[members].sum((0, 2, 3))
        less_T, more_T = np.minimum(area_T[1:], area_T[:-1]), np.maximum(area_T[1:], area_T[:-1])
        found |= set(np.flatnonzero(2 * less_T < more_T).tolist())
    return sorted(found)


def collate(samples: Sequence[ClipSample], divisor: int = DIVISOR) -> ClipBatch:
    """A batch of clips with equal T, E and N, padded at the bottom and right to multiples of `divisor`."""
    sizes = torch.tensor([sample.frames_THWC.shape[1:3] for sample in samples])
    height, width = (int(-(-side // divisor) * divisor) for side in sizes.amax(0))
    frames, *_ = samples[0].frames_THWC.shape
    frames_BTCHW = torch.zeros(len(samples), frames, 3, height, width)
    masks_BENTHW = torch.zeros(len(samples), *samples[0].masks_ENTHW.shape[:3], height, width, dtype=torch.bool)
    scale = torch.tensor(STD).view(3, 1, 1) * 255
    shift = torch.tensor(MEAN).view(3, 1, 1) * 255
    for b, sample in enumerate(samples):
        h, w = sample.frames_THWC.shape[1:3]
        pixels = torch.from_numpy(sample.frames_THWC).permute(0, 3, 1, 2)
        torch.div(pixels - shift, scale, out=frames_BTCHW[b, :, :, :h, :w])
        masks_BENTHW[b, ..., :h, :w] = sample.masks_ENTHW
    objects_BEN = torch.stack([sample.objects_EN for sample in samples])
    neighbours = [sample.neighbours for sample in samples if sample.neighbours is not None]
    answered = [sample.answered_T for sample in samples if sample.answered_T is not None]
    targets = Targets(
        masks_BENTHW=masks_BENTHW,
        boxes_BENT4=torch.stack([sample.boxes_ENT4 for sample in samples]),
        states_BENT=torch.stack([sample.states_ENT for sample in samples]),
        objects_BEN=objects_BEN,
        labels_BEN=torch.zeros(objects_BEN.shape, dtype=torch.long),
        weights_BE=torch.stack([sample.weights_E for sample in samples]),
    )
    return ClipBatch(
        frames_BTCHW=frames_BTCHW,
        sizes_B2=sizes,
        times_BT=torch.stack([sample.times_T for sample in samples]),
        captions=[sample.captions for sample in samples],
        targets=targets,
        identity=[sample.identity for sample in samples],
        answered_BT=torch.stack(answered) if answered else None,
        neighbours=collate(neighbours, divisor) if neighbours else None,
    )
