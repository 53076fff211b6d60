"""Joint training: an image becomes a short pseudo-video, as in SeqFormer and ReferFormer.

One frame is the image itself, in a random place of the clip; every other one is a copy of the image with its own draw
of brightness and hue, perspective, rotation, shift and motion blur. The published numbers are the constants below;
there the draws came from the clock, here they follow from the generator that is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from util.errors import InputError
from util.types import ABSENT, IGNORE, PRESENT, FrameSource, MaskSource, ReferringVideo

FPS = 6.0  # Ref-YouTube-VOS's, beside which pseudo-videos are trained

BRIGHTNESS = 40  # greatest change of all channels, in grey levels
HUE_AND_SATURATION = 5  # greatest change of both, in 256ths of a turn and of full saturation
PERSPECTIVE = 0.08  # standard deviation of how far a corner moves inwards, in parts of the sides
ROTATION = 20.0  # degrees
SHIFT = 0.1  # parts of the sides
BLUR = 0.25  # probability
BLUR_SIZES = (9, 11)  # pixels of its kernel


@dataclass(frozen=True)
class Copy:
    """What is done to one copy of an image.

    brightness      added to every channel, in grey levels
    hue_saturation  added to hue and saturation, 256ths; 0 = colours stay
    warp_33         pixel of the image -> pixel of the copy, homogeneous
    blur            kernel of the motion blur, sum 1, or None
    """

    brightness: int
    hue_saturation: int
    warp_33: np.ndarray
    blur: np.ndarray | None

    def frame(self, image_HW3: np.ndarray) -> np.ndarray:
        """The copy uint8 [H, W, 3] of an RGB image; black where nothing of the image lies."""
        frame: np.ndarray = np.clip(image_HW3.astype(np.int16) + self.brightness, 0, 255).astype(np.uint8)
        if self.hue_saturation:
            hsv = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV_FULL).astype(np.int16)
            hsv[..., 0] = (hsv[..., 0] + self.hue_saturation) % 256
            hsv[..., 1] = np.clip(hsv[..., 1] + self.hue_saturation, 0, 255)
            frame = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB_FULL)
        frame = cv2.warpPerspective(frame, self.warp_33, frame.shape[1::-1], flags=cv2.INTER_LINEAR)
        return frame if self.blur is None else cv2.filter2D(frame, -1, self.blur)

    def mask(self, mask_HW: np.ndarray) -> np.ndarray:
        """The same of a mask bool [H, W], by the nearest pixel; blur leaves it as it is."""
        mask = mask_HW.astype(np.uint8)
        return cv2.warpPerspective(mask, self.warp_33, mask.shape[1::-1], flags=cv2.INTER_NEAREST).astype(bool)


def draw_copy(size: tuple[int, int], rng: np.random.Generator) -> Copy:
    """A random copy of an image of `size` (height, width)."""
    which = rng.permutation(2)[: rng.integers(1, 3)]  # one of the two changes of colour, or both
    brightness = int(rng.integers(-BRIGHTNESS, BRIGHTNESS + 1))
    hue = int(rng.integers(-HUE_AND_SATURATION, HUE_AND_SATURATION + 1))
    warp_33 = _draw_shift(size, rng) @ _draw_perspective(size, rng)
    blur = _motion_blur(int(rng.choice(BLUR_SIZES)), rng) if rng.random() < BLUR else None
    return Copy(brightness * (0 in which), hue * (1 in which), warp_33, blur)


def _draw_perspective(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Four points inside the image, near its corners, become its corners."""
    height, width = size
    inwards_42 = np.abs(rng.normal(0, PERSPECTIVE, (4, 2))) % 0.5
    outer_42 = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    inner_42 = np.abs(outer_42 - inwards_42)
    sides = np.array([width, height], float)
    return cv2.getPerspectiveTransform(*((points * sides).astype(np.float32) for points in (inner_42, outer_42)))


def _draw_shift(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A rotation about the centre and a shift."""
    height, width = size
    turned_23 = cv2.getRotationMatrix2D((width / 2, height / 2), float(rng.uniform(-ROTATION, ROTATION)), 1.0)
    shift_2 = rng.uniform(-SHIFT, SHIFT, 2) * (width, height)
    return np.vstack([turned_23 + np.pad(shift_2[:, None], ((0, 0), (2, 0))), [0, 0, 1]])


def _motion_blur(size: int, rng: np.random.Generator) -> np.ndarray:
    """A line through the kernel's middle in any direction, stronger at one of its ends."""
    forward, angle = (float(value) for value in rng.uniform((0, 0), (1, 360)))
    line = np.zeros((size, size), np.float32)
    line[:, size // 2] = np.linspace(forward, 1 - forward, size)
    turn_23 = cv2.getRotationMatrix2D((size // 2, size // 2), angle, 1.0)
    kernel = cv2.warpAffine(line, turn_23, (size, size), flags=cv2.INTER_LINEAR)
    return kernel / kernel.sum()


class PseudoFrames:
    """The frames of a pseudo-video, each made when it is asked for."""

    fps = FPS

    def __init__(self, image: FrameSource, copies: Sequence[Copy | None]) -> None:
        self._image, self._copies = image, copies

    @property
    def size(self) -> tuple[int, int]:
        return self._image.size

    def __len__(self) -> int:
        return len(self._copies)

    def __getitem__(self, index: int) -> np.ndarray:
        copy, image = self._copies[index], self._image[0]
        return image if copy is None else copy.frame(image)


class PseudoMasks:
    """Their masks; what is shifted out of the picture is absent."""

    def __init__(self, masks: MaskSource, copies: Sequence[Copy | None]) -> None:
        self._masks, self._copies = masks, copies

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Masks bool [N, H, W] and states int8 [N]."""
        copy = self._copies[index]
        masks, states = self._masks.read(0, object_ids)
        if copy is None or not len(masks):
            return masks, states
        masks = np.stack([copy.mask(mask) for mask in masks])
        seen = np.where(masks.any((-2, -1)), PRESENT, ABSENT)
        return masks, np.where(states == IGNORE, IGNORE, seen).astype(np.int8)


def pseudo_video(image: ReferringVideo, frames: int, rng: np.random.Generator) -> ReferringVideo:
    """A video of `frames` frames of an image, which is a video of one. Raises InputError for a longer one."""
    if len(image.frames) != 1:
        raise InputError(f"{image.id} is a video of {len(image.frames)} frames; pseudo_video is for images only")
    copies: list[Copy | None] = [draw_copy(image.frames.size, rng) for _ in range(frames - 1)]
    copies.insert(int(rng.integers(frames)), None)
    return replace(
        image,
        frames=PseudoFrames(image.frames, copies),
        frame_names=tuple(f"{index:05d}" for index in range(frames)),
        masks=None if image.masks is None else PseudoMasks(image.masks, copies),
    )
