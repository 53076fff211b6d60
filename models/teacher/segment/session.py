"""A session of any SAM 2: every object has a state of its own, all share one frame's features, and memory is bounded.

States of their own make objects independent of each other, so that one may join late, leave, or be followed backwards
without changing a bit of any other. A frame is encoded once for all objects as long as they are stepped frame by frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.teacher.interfaces import ObjectFrame, Prompt
from models.teacher.segment.model_frames import ModelFrames
from models.teacher.segment.prompts import Clicks, prepare
from util.errors import InputError


@dataclass(frozen=True)
class Raw:
    """What a model says of one object in one frame: logits [h, w], two numbers, and the pointer [D]."""

    logits_hw: Tensor
    object_score: float
    predicted_iou: float
    pointer_D: Tensor


class ObjectState(Protocol):
    """One object inside a model: what its memory holds, and how it goes on."""

    @property
    def tracked(self) -> dict[int, Any]:
        """Memories of frames that were tracked, by frame; those of prompted frames are not among them."""
        ...

    def prompt(self, frame: int, told: Clicks | Tensor) -> Raw:
        """Segment the frame by clicks or a mask, and remember it for good."""
        ...

    def track(self, frame: int, reverse: bool) -> Raw:
        """Segment the frame by memory, and remember it."""
        ...


class PerObjectSession:
    """`SegmenterSession` over such states. `reach`: how many tracked frames back a model looks at most."""

    def __init__(self, frames: ModelFrames, new_object: Callable[[], ObjectState], reach: int) -> None:
        self._frames, self._new_object, self._reach = frames, new_object, reach
        self._objects: dict[int, ObjectState] = {}
        self._birth: dict[int, int] = {}

    def add(self, object_id: int, prompt: Prompt) -> ObjectFrame:
        """Begin an object, or tell a known one again in the frame that it was stepped to last, which then counts as
        prompted. Raises InputError for a prompt outside the video, empty or of the wrong size.
        """
        if not 0 <= prompt.frame < len(self._frames):
            raise InputError(f"a prompt is for frame {prompt.frame} of a video of {len(self._frames)} frames")
        told = prepare(prompt, self._frames.size, self._frames.side)
        state = self._objects.get(object_id) or self._new_object()
        state.tracked.pop(prompt.frame, None)
        raw = state.prompt(prompt.frame, told)
        self._objects[object_id] = state
        self._birth.setdefault(object_id, prompt.frame)
        # At the model's resolution a thin mask may vanish: in its own frame the mask given is the answer.
        return self._answer(raw, None if prompt.mask_HW is None else prompt.mask_HW != 0)

    def step(self, object_id: int, frame: int, *, reverse: bool = False) -> ObjectFrame:
        state, birth = self._objects[object_id], self._birth[object_id]
        assert frame < birth if reverse else frame > birth, "objects are stepped away from their prompt"
        answer = self._answer(state.track(frame, reverse), None)
        for stale in [past for past in state.tracked if not self._needed(past, frame, birth, reverse)]:
            del state.tracked[stale]
        return answer

    def remove(self, object_id: int) -> None:
        del self._objects[object_id], self._birth[object_id]

    def close(self) -> None:
        self._objects.clear()
        self._birth.clear()

    def _needed(self, past: int, frame: int, birth: int, reverse: bool) -> bool:
        """Whether a frame may still be looked at: by the next one, or, before the reverse sweep, by its first ones."""
        if reverse:
            return past - frame < self._reach
        return frame - past < self._reach or past - birth < self._reach

    def _answer(self, raw: Raw, mask_HW: np.ndarray | None) -> ObjectFrame:
        logits = F.interpolate(raw.logits_hw.float()[None, None], self._frames.size, mode="bilinear")[0, 0]
        if not torch.isfinite(logits).all():
            raise InputError("the segmenter's masks are not finite numbers: its weights are damaged; fetch them again")
        return ObjectFrame(
            mask_HW=(logits > 0).cpu().numpy() if mask_HW is None else mask_HW,
            object_score=raw.object_score,
            predicted_iou=raw.predicted_iou,
            stability=stability(logits),
            pointer_D=raw.pointer_D.float().cpu().numpy(),
        )


def stability(logits_HW: Tensor) -> float:
    """IoU of {logit > 1} and {logit > -1}: how little the mask depends on its threshold. NaN when both are empty."""
    inner, outer = int((logits_HW > 1).sum()), int((logits_HW > -1).sum())
    return inner / outer if outer else float("nan")
