"""A segmenter that is told a box and prompts with points or a mask instead, as Grounded SAM 2 can.

The box is segmented first; the object then begins from that mask, or from points inside it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from models.teacher.interfaces import ModelInfo, ObjectFrame, Prompt, SegmenterSession, VideoSegmenter
from models.teacher.segment.prompts import points_of
from util.types import FrameSource

PromptBy = Literal["box", "point", "mask"]


class PromptedBy:
    """`VideoSegmenter` around another. Prompts that are no boxes go through as they are."""

    def __init__(self, segmenter: VideoSegmenter, kind: Literal["point", "mask"]) -> None:
        self._segmenter, self._kind = segmenter, kind

    @property
    def info(self) -> ModelInfo:
        info = self._segmenter.info
        return replace(info, backend=f"{info.backend}, boxes turned into {self._kind} prompts")

    def open(self, frames: FrameSource) -> SegmenterSession:
        return _Session(self._segmenter.open(frames), self._kind)


class _Session:
    def __init__(self, session: SegmenterSession, kind: Literal["point", "mask"]) -> None:
        self._session, self._kind = session, kind

    def add(self, object_id: int, prompt: Prompt) -> ObjectFrame:
        found = self._session.add(object_id, prompt)
        if prompt.box is None or not found.mask_HW.any():
            return found
        self._session.remove(object_id)
        if self._kind == "mask":
            again = self._session.add(object_id, Prompt(prompt.frame, mask_HW=found.mask_HW))
            return replace(again, predicted_iou=found.predicted_iou)
        points = points_of(found.mask_HW, f"{prompt.frame}/{prompt.box}")
        return self._session.add(object_id, Prompt(prompt.frame, points=points))

    def step(self, object_id: int, frame: int, *, reverse: bool = False) -> ObjectFrame:
        return self._session.step(object_id, frame, reverse=reverse)

    def remove(self, object_id: int) -> None:
        self._session.remove(object_id)

    def close(self) -> None:
        self._session.close()
