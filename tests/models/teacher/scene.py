"""Squares on known paths, a detector's findings and a segmenter for them: what the logic of following is tested on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from datasets.video import MemoryVideo
from models.teacher.detect.boxes import Candidate
from models.teacher.interfaces import Detection, ModelInfo, ObjectFrame, Prompt
from util.types import Box, FrameSource, ReferringVideo

INFO = ModelInfo("scene", "squares", None, "none")


@dataclass(frozen=True)
class Path:
    """A square: frames in which it is seen, its corner in frame 0, pixels a frame to the right, and its side."""

    frames: Collection[int]
    x: int
    y: int
    speed: int = 1
    side: int = 12


@dataclass
class Scene:
    """`drifts`: (number of the path, frame) -> the path that its track goes over to there."""

    paths: Sequence[Path]
    length: int = 24
    size: tuple[int, int] = (60, 80)
    drifts: Mapping[tuple[int, int], int] = field(default_factory=dict)
    added: int = 0
    steps: int = 0

    def mask(self, number: int, frame: int) -> np.ndarray:
        path, mask = self.paths[number], np.zeros(self.size, bool)
        left = path.x + path.speed * frame
        if frame in path.frames:
            mask[path.y : path.y + path.side, max(left, 0) : max(left + path.side, 0)] = True
        return mask

    def box(self, number: int, frame: int) -> Box | None:
        y, x = np.nonzero(self.mask(number, frame))
        return (float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1)) if len(x) else None

    def found(self, frame: int, *, missed: Collection[int] = (), twice: bool = False) -> list[Candidate]:
        """What a perfect detector finds, but for the paths it misses."""
        boxes = [self.box(number, frame) for number in range(len(self.paths)) if number not in missed]
        scores = [(box, 0.9 - 0.01 * place) for place, box in enumerate(boxes) if box is not None]
        once = [Candidate(Detection(box, score, "square", "square"), {"square": score}) for box, score in scores]
        return once * (2 if twice else 1)

    @property
    def video(self) -> ReferringVideo:
        frames = MemoryVideo(np.zeros((self.length, *self.size, 3), np.uint8), 6.0)
        return ReferringVideo("scene", frames, frames.names, ())

    @property
    def info(self) -> ModelInfo:
        return INFO

    def open(self, frames: FrameSource) -> Session:
        return Session(self)


class Session:
    """Follows the path that the prompt shows most of; skipping a frame is an error."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.objects: dict[int, tuple[int, dict[int, int]]] = {}
        self.closed = False

    def add(self, object_id: int, prompt: Prompt) -> ObjectFrame:
        assert object_id not in self.objects
        mask = prompt.mask_HW
        if mask is None:
            mask = np.zeros(self.scene.size, bool)
            left, top, right, bottom = (round(side) for side in prompt.box or (0, 0, 0, 0))
            mask[top:bottom, left:right] = True
        masks = [self.scene.mask(number, prompt.frame) for number in range(len(self.scene.paths))]
        ious = [(other & mask).sum() / (other | mask).sum() for other in masks]
        self.objects[object_id] = int(np.argmax(ious)), {1: prompt.frame, -1: prompt.frame}
        self.scene.added += 1
        return self._see(self.objects[object_id][0], prompt.frame)

    def step(self, object_id: int, frame: int, *, reverse: bool = False) -> ObjectFrame:
        number, at = self.objects[object_id]
        way = -1 if reverse else 1
        assert frame == at[way] + way
        at[way] = frame
        self.scene.steps += 1
        if not reverse:
            number = self.scene.drifts.get((number, frame), number)
            self.objects[object_id] = number, at
        return self._see(number, frame)

    def remove(self, object_id: int) -> None:
        del self.objects[object_id]

    def close(self) -> None:
        self.closed = True

    def _see(self, number: int, frame: int) -> ObjectFrame:
        mask = self.scene.mask(number, frame)
        seen = bool(mask.any())
        return ObjectFrame(
            mask, 5.0 if seen else -5.0, 0.9, 0.95 if seen else np.nan, np.eye(8, dtype=np.float32)[number]
        )
