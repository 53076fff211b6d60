"""Following what a detector finds in a live stream: no frame is seen before it comes, and memory is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.teacher.interfaces import Detector, SegmenterSession, VideoSegmenter
from models.teacher.sweep import Followed, ForwardSweep, SweepConfig
from models.teacher.tracking import Search
from util.errors import InputError
from util.types import Box

HELD = 2  # frames: a segmenter reads the one it is stepped to, and a prompt is in that one too
LEAST = 16  # frames that a video has at least for SAM 2, which answers differently in shorter ones
VOTES = 64  # detections remembered of an object


class LiveFrames:
    """A `FrameSource` that grows at its end and forgets its beginning."""

    def __init__(self, first_HW3: np.ndarray, fps: float) -> None:
        self.fps = fps
        self.size: tuple[int, int] = (first_HW3.shape[0], first_HW3.shape[1])
        self._held: dict[int, np.ndarray] = {}
        self.seen = 0

    def append(self, frame_HW3: np.ndarray) -> int:
        """Number of the frame. Raises InputError for one that is not uint8 RGB of the stream's size."""
        if frame_HW3.dtype != np.uint8 or frame_HW3.shape != (*self.size, 3):
            raise InputError(
                f"frame {self.seen} of the stream is {frame_HW3.dtype} {frame_HW3.shape}; all must be uint8 "
                f"{(*self.size, 3)}"
            )
        self._held[self.seen] = frame_HW3
        self._held.pop(self.seen - HELD, None)
        self.seen += 1
        return self.seen - 1

    def __len__(self) -> int:
        return max(self.seen, LEAST)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._held[index]


@dataclass(frozen=True)
class StreamFrame:
    """What is in a frame: ids that stay, the noun of each object, masks bool [N, H, W], boxes and detection scores."""

    frame: int
    ids: tuple[int, ...]
    nouns: tuple[str, ...]
    masks_NHW: np.ndarray
    boxes: tuple[Box, ...]
    scores: tuple[float, ...]


class ObjectStream:
    """Push frames, get objects. The detector looks in the first frame and in every `every`-th after it.

    `sweep.give_up` must be set: after so many frames without it an object is forgotten, and its id is not used again.
    """

    def __init__(
        self,
        segmenter: VideoSegmenter,
        detector: Detector,
        nouns: Sequence[str],
        *,
        every: int = 20,
        fps: float = 25.0,
        sweep: SweepConfig | None = None,
    ) -> None:
        """Raises InputError when nothing is looked for, or nothing would ever be forgotten."""
        self._segmenter, self._detector, self._every, self._fps = segmenter, detector, every, fps
        self._config = sweep or SweepConfig(give_up=100)
        if self._config.give_up is None or every < 1:
            raise InputError("a stream needs give_up and every of at least 1 frame, or its memory grows for ever")
        self._frames: LiveFrames | None = None
        self._session: SegmenterSession | None = None
        self._next_id = 1
        self.look_for(nouns)

    def look_for(self, nouns: Sequence[str]) -> None:
        """Forget all objects and look for these nouns from the next frame on; ids go on counting."""
        if not nouns:
            raise InputError("name something to look for in the stream")
        self._nouns, self._since = tuple(nouns), self._frames.seen if self._frames else 0
        self.close()
        self._ids: dict[int, int] = {}  # number in the session -> id

    def push(self, frame_HW3: np.ndarray) -> StreamFrame:
        """Follow everything into this frame. Raises InputError for one of another size."""
        if self._frames is None:
            self._frames = LiveFrames(frame_HW3, self._fps)
        frame = self._frames.append(frame_HW3)
        if self._session is None:
            self._session = self._segmenter.open(self._frames)
            self._sweep = ForwardSweep(self._session, self._config)
        looks = {frame} if (frame - self._since) % self._every == 0 else set()
        found = Search(self._detector, self._nouns, looks).candidates(frame, self._frames)
        live = self._sweep.push(frame, found)
        shown = [(self._sweep.objects[place], mask_HW) for place, mask_HW in sorted(live.items())]
        answer = self._answer(frame, shown)
        self._forget(frame)
        return answer

    def close(self) -> None:
        """Free what the segmenter holds."""
        if self._session is not None:
            self._session.close()
        self._session = None

    def _answer(self, frame: int, shown: Sequence[tuple[Followed, np.ndarray]]) -> StreamFrame:
        ids, boxes = [], []
        for followed, _ in shown:
            if followed.number not in self._ids:
                self._ids[followed.number] = self._next_id
                self._next_id += 1
            ids.append(self._ids[followed.number])
            left, top, right, bottom = followed.seen[frame].box or (0, 0, 0, 0)
            boxes.append((float(left), float(top), float(right), float(bottom)))
        assert self._frames is not None
        masks = np.array([mask_HW for _, mask_HW in shown], bool).reshape(len(shown), *self._frames.size)
        scores = tuple(max((vote.score for vote in followed.votes), default=0.0) for followed, _ in shown)
        return StreamFrame(frame, tuple(ids), tuple(f.prompt.noun for f, _ in shown), masks, tuple(boxes), scores)

    def _forget(self, frame: int) -> None:
        """Objects that are lost, and of the others what no later frame asks for."""
        assert self._session is not None and self._config.give_up is not None
        for followed in list(self._sweep.objects):
            for past in [past for past in followed.seen if past <= frame - self._config.give_up]:
                del followed.seen[past]
            del followed.votes[:-VOTES]
            if followed.lost(frame + 1, 1, self._config.give_up):
                self._sweep.objects.remove(followed)
                self._session.remove(followed.number)
                self._ids.pop(followed.number, None)
