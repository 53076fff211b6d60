"""A segmenter that follows the true object under its prompt, but for the faults it was told to make."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from models.teacher.detect.boxes import box_iou
from models.teacher.interfaces import ModelInfo, ObjectFrame, Prompt
from models.teacher.match.frames import boxes_of
from util.types import FrameSource

from .faults import OBJECT_SCORE, PREDICTED_IOU, STABILITY, Faults
from .truth import TrueVideo, Truth

POINTER = 256  # numbers of a pointer, as SAM 2's
LEAST_IOU = 0.25  # below it a prompt fits no object, and the patch of background under it is followed


class ScriptedSegmenter:
    """`steps` counts the object frames it was asked for, of all sessions."""

    def __init__(self, truth: Truth, faults: Faults | None = None) -> None:
        self._truth, self.faults = truth, faults or Faults()
        self.steps = 0

    @property
    def info(self) -> ModelInfo:
        return self.faults.info

    def open(self, frames: FrameSource) -> ScriptedSession:
        return ScriptedSession(self, self._truth.of_frames(frames))


@dataclass
class _Followed:
    """What an object of a session is: a row of the truth, or a patch of background.

    key  of its random numbers; at  last frames reached, forward and back; swaps  direction -> (frame, row from there)
    """

    row: int | None
    patch_HW: np.ndarray | None
    key: tuple[str | int, ...]
    at: dict[bool, int]
    swaps: dict[bool, tuple[int, int] | None] = field(default_factory=dict)


class ScriptedSession:
    """A `SegmenterSession`. A step that skips a frame is an AssertionError: a real one would be another video."""

    def __init__(self, owner: ScriptedSegmenter, video: TrueVideo) -> None:
        self._owner, self._video, self._faults = owner, video, owner.faults
        self._objects: dict[int, _Followed] = {}

    def add(self, object_id: int, prompt: Prompt) -> ObjectFrame:
        """Begin an object. The fault of going over to another one is drawn for what is under the prompt."""
        assert object_id not in self._objects, "an object begins once; remove it first"
        row = self._under(prompt)
        patch = None if row is not None else self._patch(prompt)
        at = "patch" if row is None else self._video.objects[row]
        place = [round(side) for side in prompt.box or ()] if row is None else []
        key = (self._video.id, at, prompt.frame, *place)
        self._objects[object_id] = _Followed(row, patch, key, {False: prompt.frame, True: prompt.frame})
        return self._see(self._objects[object_id], prompt.frame, row)

    def step(self, object_id: int, frame: int, *, reverse: bool = False) -> ObjectFrame:
        followed = self._objects[object_id]
        assert frame == followed.at[reverse] + (-1 if reverse else 1), "frames are stepped one after another"
        followed.at[reverse] = frame
        if reverse not in followed.swaps:
            followed.swaps[reverse] = self._swap(followed, frame, reverse)
        swap, row = followed.swaps[reverse], followed.row
        if swap is not None and (frame <= swap[0] if reverse else frame >= swap[0]):
            row = swap[1]
        return self._see(followed, frame, row)

    def remove(self, object_id: int) -> None:
        del self._objects[object_id]

    def close(self) -> None:
        self._objects.clear()

    def _under(self, prompt: Prompt) -> int | None:
        """The object that a prompt tells of, or None where it fits none."""
        masks_NHW = self._video.masks_TNHW[prompt.frame]
        if prompt.mask_HW is not None:
            shared = (masks_NHW & prompt.mask_HW).sum((1, 2)) / np.maximum((masks_NHW | prompt.mask_HW).sum((1, 2)), 1)
        elif prompt.box is not None:
            shared = box_iou(self._video.boxes_TN4[prompt.frame], np.array([prompt.box], float))[:, 0]
        else:
            points = [(int(y), int(x), 1 if label else -1) for x, y, label in prompt.points]
            shared = np.array([sum(sign for y, x, sign in points if mask[y, x]) for mask in masks_NHW], float)
        best = int(shared.argmax()) if len(shared) else 0
        return best if len(shared) and shared[best] >= LEAST_IOU else None

    def _patch(self, prompt: Prompt) -> np.ndarray:
        """The prompt's mask, or the ellipse in its box or around its points."""
        if prompt.mask_HW is not None:
            return prompt.mask_HW.astype(bool)
        points = np.array([point[:2] for point in prompt.points if point[2]] or [(0.0, 0.0)])
        box = prompt.box or (*(points.min(0) - 4), *(points.max(0) + 5))
        height, width = self._video.masks_TNHW.shape[2:]
        y, x = np.mgrid[:height, :width] + 0.5
        across, down = max(box[2] - box[0], 1) / 2, max(box[3] - box[1], 1) / 2
        return ((x - box[0] - across) / across) ** 2 + ((y - box[1] - down) / down) ** 2 <= 1

    def _swap(self, followed: _Followed, first: int, reverse: bool) -> tuple[int, int] | None:
        """When this sweep goes over to which object: the nearest that is seen then, or to none."""
        if followed.row is None:
            return None
        draw = self._faults.draw("swap", *followed.key, int(reverse))
        happens, where = draw.random() < self._faults.id_swaps, draw.random()
        if not happens:
            return None
        last = 0 if reverse else len(self._video.masks_TNHW) - 1
        frame = first + round(where * (last - first))
        boxes = self._video.boxes_TN4[frame]
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        own = centres[followed.row]
        apart = np.hypot(*(centres - (own if np.isfinite(own).all() else np.nanmean(centres, axis=0))).T)
        apart[followed.row] = np.nan
        return None if np.isnan(apart).all() else (frame, int(np.nanargmin(apart)))

    def _see(self, followed: _Followed, frame: int, row: int | None) -> ObjectFrame:
        self._owner.steps += 1
        mask = self._video.masks_TNHW[frame, row] if row is not None else followed.patch_HW
        assert mask is not None
        if mask.any() and self._faults.happens("mask", self._faults.mask_noise, followed.key, frame):
            mask = damaged(mask, self._faults.draw("damage", *followed.key, frame))
        seen = bool(mask.any())
        draw = self._faults.draw("score", "mask", *followed.key, frame)
        mean, spread = OBJECT_SCORE
        score = draw.normal(mean if seen else -mean, spread)
        predicted, stability = (float(np.clip(draw.normal(*how), 0, 1)) for how in (PREDICTED_IOU, STABILITY))
        looks = self._faults.draw("pointer", *(followed.key if row is None else (self._video.id, row)))
        pointer = looks.normal(0, 1, POINTER) + draw.normal(0, 0.2, POINTER)
        return ObjectFrame(
            mask.copy(), float(score), predicted, stability if seen else float("nan"), pointer.astype(np.float32)
        )


def damaged(mask_HW: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """A mask that has lost a side, has swollen, or has a blot beside it; never empty."""
    x0, y0, x1, y1 = boxes_of(mask_HW)
    extent = max(x1 - x0, y1 - y0)
    kind = draw.integers(3)
    if kind == 0:
        y, x = np.nonzero(mask_HW)
        angle = draw.uniform(0, 2 * np.pi)
        along = x * np.cos(angle) + y * np.sin(angle)
        keep = along <= np.quantile(along, draw.uniform(0.3, 0.7))
        cut = np.zeros_like(mask_HW)
        cut[y[keep], x[keep]] = True
        return cut
    size = max(3, int(extent * draw.uniform(0.3, 0.7)) | 1)
    if kind == 1:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        return cv2.dilate(mask_HW.astype(np.uint8), disc).astype(bool)
    blot = mask_HW.astype(np.uint8)
    centre = (int(draw.uniform(x0 - extent / 2, x1 + extent / 2)), int(draw.uniform(y0 - extent / 2, y1 + extent / 2)))
    cv2.circle(blot, centre, size // 2 + 1, 1, -1)
    return blot.astype(bool)
