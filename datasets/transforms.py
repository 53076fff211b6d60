"""Training augmentation of one clip: flip, resize, crop, colour. Every draw is made once per clip.

The recipe is spec'd by ReferFormer's; where `Protocol` says `published` its defects are kept: a caption flipped by
substring, colour drawn anew for each frame and wrapped at 255, boxes without their last row and column.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as tv

from util.protocol import CORRECTED, Protocol
from util.resize import resized


@dataclass(frozen=True)
class TransformConfig:
    """What training does to a clip. The defaults are the published recipe's for video; RefCOCO's has its own sizes."""

    short_sides: tuple[int, ...] = (288, 320, 352, 392, 416, 448, 480, 512)  # one is drawn per clip
    max_side: int = 640
    crop: float = 0.5  # probability of: resize to one of crop_from, cut out a window, then resize that
    crop_from: tuple[int, ...] = (400, 500, 600)
    crop_sides: tuple[int, int] = (384, 600)  # least and greatest side of the window
    cropped_short_sides: tuple[int, ...] | None = None  # sizes of a window; None = those of whole frames
    cropped_max_side: int | None = None
    flip: float = 0.5  # probability of mirroring, which exchanges left and right in the sentences
    photometric: bool = True


@dataclass(frozen=True)
class View:
    """Where a clip is looked at: mirrored or not, resized to `before`, cut to `window`, resized to `size`.

    before, size  (height, width); window (top, left, height, width) inside `before`; None = not done
    """

    source: tuple[int, int]
    size: tuple[int, int]
    flip: bool = False
    before: tuple[int, int] | None = None
    window: tuple[int, int, int, int] | None = None

    def frames(self, frames_THWC: np.ndarray) -> Tensor:
        """uint8 [T, H, W, 3] -> uint8 [T, 3, h, w], bilinear with anti-aliasing (as PIL's)."""
        return self._shown(tv_tensors.Video(torch.from_numpy(frames_THWC).permute(0, 3, 1, 2)))

    def masks(self, masks_NTHW: np.ndarray) -> Tensor:
        """bool [N, T, H, W] -> bool [N, T, h, w], nearest neighbour."""
        # bytes: nearest neighbour of bool would go by way of float32
        return self._shown(tv_tensors.Mask(torch.from_numpy(masks_NTHW.view(np.uint8)))).bool()

    def boxes(self, boxes: Tensor) -> Tensor:
        """Corners x0 y0 x1 y1 [..., 4] in source pixels -> corners in the view, cut at its window.

        This is how the published recipe moves boxes; `box_from: mask` takes them from the final masks instead.
        """
        flat = tv_tensors.BoundingBoxes(boxes.reshape(-1, 4), format="XYXY", canvas_size=self.source)
        return self._shown(flat).view(boxes.shape)

    def _shown(self, source: tv_tensors.TVTensor) -> Tensor:
        """Video, masks or boxes of the source as the view shows them: torchvision treats each by its type."""
        shown: Tensor = tv.horizontal_flip(source) if self.flip else source
        if self.before is not None:
            shown = tv.resize(shown, list(self.before), antialias=True)
        if self.window is not None:
            shown = tv.crop(shown, *self.window)
        if tuple(tv.get_size(shown)) != self.size:
            shown = tv.resize(shown, list(self.size), antialias=True)
        return shown.as_subclass(Tensor)


def draw_view(size: tuple[int, int], config: TransformConfig, rng: np.random.Generator) -> View:
    """A random view of frames of `size` (height, width)."""
    flip = bool(rng.random() < config.flip)
    cut = bool(rng.random() < config.crop)
    short_side = int(rng.choice(config.cropped_short_sides or config.short_sides if cut else config.short_sides))
    if not cut:
        return View(size, resized(size, short_side, config.max_side), flip)
    before = resized(size, int(rng.choice(config.crop_from)))
    height, width = (_side(side, config.crop_sides, rng) for side in before)
    top, left = (int(rng.integers(0, b - s + 1)) for b, s in zip(before, (height, width), strict=True))
    shown = resized((height, width), short_side, config.cropped_max_side or config.max_side)
    return View(size, shown, flip, before, (top, left, height, width))


def _side(side: int, limits: tuple[int, int], rng: np.random.Generator) -> int:
    greatest = min(side, limits[1])
    return int(rng.integers(min(limits[0], greatest), greatest + 1))


# ---- colour ----------------------------------------------------------------------------------------------------------


def change_colours(frames_THWC: np.ndarray, rng: np.random.Generator, protocol: Protocol = CORRECTED) -> np.ndarray:
    """Random brightness, contrast, saturation and hue of uint8 [T, H, W, 3] RGB frames, in SSD's order.

    Corrected: one draw for the clip, values held in 0..255. Published: a draw per frame, values wrapped at 256, and
    channels exchanged at random ("the red car" turns blue).
    """
    if protocol.photometric == "frame":
        return np.stack([_colours(frame[None], rng, published=True)[0] for frame in frames_THWC])
    return _colours(frames_THWC, rng, published=False)


def _colours(frames_THWC: np.ndarray, rng: np.random.Generator, *, published: bool) -> np.ndarray:
    brightness = float(rng.uniform(-32, 32)) if rng.random() < 0.5 else 0.0
    contrast_first = bool(rng.random() < 0.5)
    contrast = float(rng.uniform(0.5, 1.5)) if rng.random() < 0.5 else 1.0
    saturation = float(rng.uniform(0.5, 1.5)) if rng.random() < 0.5 else 1.0
    hue = float(rng.uniform(-18, 18)) if rng.random() < 0.5 else 0.0
    order = rng.permutation(3) if published and rng.random() < 0.5 else None
    frames = frames_THWC.astype(np.float32) + np.float32(brightness)
    if contrast_first:
        frames *= np.float32(contrast)
    if saturation != 1.0 or hue != 0.0:
        frames = turn_hue(frames, saturation, hue, published=published)
    if not contrast_first:
        frames *= np.float32(contrast)
    if order is not None:
        frames = frames[..., order]
    if published:
        return (frames.astype(np.int32) & 255).astype(np.uint8)  # truncated, then wrapped: what casting to uint8 did
    np.clip(frames, 0, 255, out=frames)
    return np.rint(frames, out=frames).astype(np.uint8)


def turn_hue(frames_THWC: np.ndarray, saturation: float, hue: float, *, published: bool) -> np.ndarray:
    """float32 RGB frames in 0..255 with their saturation multiplied and their hue turned by degrees, by way of HSV.

    |hue| < 360. Published: out-of-range values go through as they are, and the saturation may exceed 1.
    """
    turned_THWC = np.empty(frames_THWC.shape, np.float32)
    for frame, turned in zip(frames_THWC, turned_THWC, strict=True):  # one by one: a frame stays in the cache
        # channels as they are: red for blue mirrors the hue circle only
        hsv: np.ndarray = cv2.cvtColor(frame if published else np.clip(frame, 0, 255), cv2.COLOR_BGR2HSV)
        hsv[..., 1] *= saturation
        if not published:
            np.minimum(hsv[..., 1], 1, out=hsv[..., 1])
        angle = hsv[..., 0] + hue
        angle[angle >= 360] -= 360  # several times faster than the remainder, and the same to the last bit
        angle[angle < 0] += 360
        hsv[..., 0] = angle
        cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR, dst=turned)
    return turned_THWC


# ---- sentences -------------------------------------------------------------------------------------------------------

_MIRRORED = {"left": "right", "clockwise": "anticlockwise"}
_MIRRORED |= {word: mirrored for mirrored, word in _MIRRORED.items()}
_MIRRORED |= dict.fromkeys(("anti-clockwise", "counterclockwise", "counter-clockwise"), "clockwise")
_SIDE = re.compile(
    r"\b(?P<turn>(?:anti-?|counter-?)?clockwise)\b"
    r"|\b(?P<side>left|right)(?P<end>most|wards?|hand|)\b",
    re.IGNORECASE,
)
_VERB = re.compile(r"\b(?:who|which|that|has|have|had|having|just|then|he|she|it|they)\s+$", re.IGNORECASE)
_ARTICLE = re.compile(r"\b(?:the|its|his|her|their|far|to|from|on)\s+$", re.IGNORECASE)
_ADVERB = re.compile(r"\s+(?:next|beside|behind|before|after|away|above|below|under|underneath|now)\b", re.IGNORECASE)


def clean_caption(text: str) -> str:
    """Lower case and single spaces, as the published video datasets feed their sentences."""
    return " ".join(text.lower().split())


def flip_caption(text: str, protocol: Protocol = CORRECTED) -> str:
    """The sentence that is true of the mirrored video.

    Corrected: whole words of side and of turning are exchanged ("left", "rightmost", "leftwards", "clockwise"), the
    verb ("the man who left") and the adverb ("right behind the car") are not. Published: every "left" and "right",
    inside other words too ("bright" -> "bleft").
    """
    if protocol.caption_flip == "substring":
        return text.replace("left", "\0").replace("right", "left").replace("\0", "right")
    return _SIDE.sub(_mirror, text)


def _mirror(match: re.Match[str]) -> str:
    before, after = match.string[: match.start()], match.string[match.end() :]
    if match["turn"]:
        return _like(match["turn"], _MIRRORED[match["turn"].lower()])
    side = match["side"].lower()
    if not match["end"]:
        if side == "left" and _VERB.search(before):
            return match[0]
        if side == "right" and _ADVERB.match(after) and not _ARTICLE.search(before):
            return match[0]
    return _like(match["side"], _MIRRORED[side]) + match["end"]


def _like(example: str, word: str) -> str:
    """`word` in the letter case of `example`."""
    if example.isupper():
        return word.upper()
    return word.capitalize() if example[0].isupper() else word
