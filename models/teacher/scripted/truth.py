"""The labels that scripted models answer from, found by the pixels of a frame, which is all a detector is given."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from models.teacher.match.frames import boxes_of
from models.teacher.parser import GENERIC, RuleParser
from util.errors import InputError
from util.types import FrameSource, ReferringVideo


class Truth:
    """Labelled videos by their frames. Frames must reach the models as these videos give them, bit for bit.

    Every frame of every video is read once, when the first is looked for.
    """

    def __init__(self, videos: Sequence[ReferringVideo], object_ids: Sequence[int] | None = None) -> None:
        """`object_ids`: the things to know of in each video; None: those that its sentences speak of."""
        self._videos, self._object_ids = videos, object_ids
        self._places: dict[bytes, tuple[int, int]] = {}
        self.video = lru_cache(maxsize=4)(self._read)

    def locate(self, image_HW3: np.ndarray) -> tuple[TrueVideo, int]:
        """The video of a frame and its number; the first of equal ones. Raises InputError for a strange image."""
        if not self._places:
            for number, video in enumerate(self._videos):
                for frame in range(len(video.frames)):
                    self._places.setdefault(_digest(video.frames[frame]), (number, frame))
        place = self._places.get(_digest(image_HW3))
        if place is None:
            raise InputError(
                "a scripted model was shown a frame that is in none of its videos; give it lossless frames"
            )
        return self.video(place[0]), place[1]

    def of_frames(self, frames: FrameSource) -> TrueVideo:
        """The video that begins with the first of these frames."""
        return self.locate(frames[0])[0]

    def _read(self, number: int) -> TrueVideo:
        return TrueVideo(self._videos[number], self._object_ids)


class TrueVideo:
    """Masks of a video's objects, and what its sentences call them and mean.

    id, objects   ids of those seen in any frame, in the order of the masks
    masks_TNHW    bool
    referents     sentence -> rows of the objects it means
    """

    def __init__(self, video: ReferringVideo, object_ids: Sequence[int] | None) -> None:
        assert video.masks is not None
        self.id = video.id
        ids = sorted({i for e in video.expressions for i in e.object_ids or ()} if object_ids is None else object_ids)
        masks = np.stack([video.masks.read(frame, ids)[0] for frame in range(len(video.frames))])
        seen = np.asarray(masks.any(axis=(0, 2, 3)))
        self.objects = [i for i, s in zip(ids, seen, strict=True) if s]
        self.masks_TNHW = masks[:, seen]
        self.boxes_TN4 = boxes_of(self.masks_TNHW)
        row = {object_id: n for n, object_id in enumerate(self.objects)}
        self.referents = {e.text: tuple(row[i] for i in e.object_ids or () if i in row) for e in video.expressions}
        self._called: list[set[str]] = [set() for _ in self.objects]
        parser = RuleParser()
        for text, rows in self.referents.items():
            noun = parser.parse(text).noun
            for n in rows:
                self._called[n].add(noun)

    def answers_to(self, n: int, noun: str) -> bool:
        """Whether object `n` is called that in a sentence, or nothing is known of what it is called."""
        return noun in GENERIC or noun in self._called[n] or self._called[n] <= GENERIC


def _digest(image_HW3: np.ndarray) -> bytes:
    return hashlib.sha256(repr(image_HW3.shape).encode() + np.ascontiguousarray(image_HW3).tobytes()).digest()
