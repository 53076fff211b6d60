"""Pictures of an answer: overlays with labels, and a contact sheet of a whole video. Images are uint8 RGB [H, W, 3]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from util import rle
from util.errors import InputError
from util.scoring import true_masks
from util.types import FrameSource, ReferringVideo

# Okabe and Ito's colours without black, told apart by colour-blind eyes; neighbours in the list differ most
PALETTE = (
    (230, 159, 0), (86, 180, 233), (204, 121, 167), (0, 158, 115), (213, 94, 0), (240, 228, 66), (0, 114, 178),
)  # fmt: skip
WHITE, INK, GREY, PAPER, DARK = (255, 255, 255), (35, 35, 40), (120, 120, 128), (255, 255, 255), (16, 16, 20)
FONT = cv2.FONT_HERSHEY_SIMPLEX
SMOOTH = 4  # text is drawn this much larger and shrunk, which places small letters evenly
STROKE = 1 if int(cv2.__version__.split(".")[0]) >= 5 else SMOOTH  # OpenCV 5 has a real font, in which 2 means bold

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]  # left, top, right, bottom


class Segmentation(Protocol):
    """What a contact sheet shows of an answer (`models/key_frame.py`, VideoResult)."""

    @property
    def sentences(self) -> Sequence[str]: ...

    @property
    def masks(self) -> Sequence[Sequence[rle.RLE]]: ...

    @property
    def key_E(self) -> np.ndarray: ...


def colour_of(sentence: int) -> Colour:
    """The colour of a sentence, by its place in the list; they repeat after seven."""
    return PALETTE[sentence % len(PALETTE)]


def overlay(frame_HW3: np.ndarray, masks_EHW: np.ndarray, sentences: Sequence[str] | None = None) -> np.ndarray:
    """The frame with each mask tinted and outlined in its sentence's colour, and labelled where `sentences` are given.

    Where masks overlap, the outlines of both are seen. The frame is not changed.
    """
    image = frame_HW3.copy()
    for e, mask in enumerate(masks_EHW):
        tint = np.asarray(colour_of(e), np.float32)
        image[mask] = (0.5 * image[mask] + 0.5 * tint).astype(np.uint8)
    for e, mask in enumerate(masks_EHW):
        outline(image, mask, colour_of(e))
    taken: list[Box] = []
    for e, mask in enumerate(masks_EHW):
        if sentences is not None and mask.any():
            _label(image, mask, sentences[e], colour_of(e), taken)
    return image


def outline(image: np.ndarray, mask_HW: np.ndarray, colour: Colour) -> None:
    """Draw the mask's border into the image, a thin line of this colour."""
    thin = max(1, round(min(image.shape[:2]) / 240))
    borders, _ = cv2.findContours(mask_HW.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, borders, -1, colour, thin)


def write(image: np.ndarray, text: str, left: int, top: int, height: int, colour: Colour = INK) -> None:
    """Draw a line of text whose capitals are `height` pixels high, its top left corner at (left, top).

    Characters that OpenCV's font lacks appear as question marks.
    """
    wide, high = text_width(text, height) + 1, height + height // 2 + 2
    large = np.zeros((high * SMOOTH, wide * SMOOTH), np.uint8)
    place = (0, (height + 1) * SMOOTH)
    cv2.putText(large, text, place, FONT, _scale(height * SMOOTH), 255, STROKE, cv2.LINE_AA)
    patch = image[max(0, top - 1) : max(0, top - 1 + high), left : left + wide]
    if not patch.size:
        return
    ink = cv2.resize(large, (wide, high), interpolation=cv2.INTER_AREA)[-patch.shape[0] :, : patch.shape[1], None] / 255
    patch[:] = np.round(patch * (1 - ink) + np.asarray(colour) * ink)


def text_width(text: str, height: int) -> int:
    """Pixels that `write` needs for it."""
    return -(-cv2.getTextSize(text, FONT, _scale(height * SMOOTH), STROKE)[0][0] // SMOOTH)


def shorten(text: str, height: int, width: int) -> str:
    """The text, or as much of it as fits into `width` pixels, with dots."""
    if text_width(text, height) <= width:
        return text
    while text and text_width(text + "...", height) > width:
        text = text[:-1]
    return text.rstrip() + "..."


def contact_sheet(
    frames: FrameSource,
    answer: Segmentation,
    *,
    truth: Callable[[int], np.ndarray] | None = None,
    count: int = 8,
    columns: int = 4,
    cell_width: int = 320,
) -> np.ndarray:
    """One picture of a video's answer: its sentences and when each was found, then `count` frames, keys among them.

    `truth(frame)` gives true masks bool [E, H, W]; they are outlined in white, and their times drawn as a thin line.
    """
    height, width = frames.size
    cell_height = max(1, round(height * cell_width / width))
    picked = _picked(len(frames), [int(k) for k in answer.key_E if k >= 0], count)
    columns = min(columns, max(2, len(picked)))  # two at least, so that sentences have room
    gap, bar = 10, 26
    sheet_width = columns * (cell_width + gap) + gap
    cells = [_cell(frames, answer, t, truth(t) if truth else None, (cell_height, cell_width), bar) for t in picked]
    head = _legend(frames, answer, truth, sheet_width, gap)
    rows = -(-len(cells) // columns)
    sheet = np.full((len(head) + rows * (cell_height + bar + gap), sheet_width, 3), PAPER, np.uint8)
    sheet[: len(head)] = head
    for n, cell in enumerate(cells):
        top = len(head) + n // columns * (cell_height + bar + gap)
        left = gap + n % columns * (cell_width + gap)
        sheet[top : top + cell.shape[0], left : left + cell_width] = cell
    return sheet


def save_contact_sheet(path: Path, video: ReferringVideo, answer: Segmentation) -> None:
    """Write the contact sheet of an answered video, with the truth where it is known.

    Raises InputError when it cannot be written.
    """
    known = video.masks is not None and all(e.object_ids is not None for e in video.expressions)
    truth = (lambda frame: true_masks(video, frame)[0]) if known else None
    save_image(path, contact_sheet(video.frames, answer, truth=truth))


def save_image(path: Path, image: np.ndarray) -> None:
    """Write an image (RGB, or grey [H, W]) in the format of the suffix, making its folder.

    Raises InputError when it cannot be written.
    """
    ordered = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, coded = cv2.imencode(path.suffix, ordered)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(coded.tobytes())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; free space or choose another folder") from error


@cache
def _capital() -> float:
    """Pixels of a capital letter's height at scale 1, measured: getTextSize counts the room above it in OpenCV 5."""
    drawn = np.zeros((400, 400), np.uint8)
    cv2.putText(drawn, "H", (50, 350), FONT, 8.0, 255, 1)
    return float(np.count_nonzero(drawn.any(1))) / 8


def _scale(height: int) -> float:
    return height / _capital()


def _label(image: np.ndarray, mask_HW: np.ndarray, text: str, colour: Colour, taken: list[Box]) -> None:
    """A tag beside the mask: above it, else below, else as near to above as no other tag is."""
    frame_height, frame_width = image.shape[:2]
    height = int(np.clip(frame_height / 40, 6, 22))
    pad = max(3, height // 2)
    text = shorten(text, height, round(0.7 * frame_width) - 4 * pad)
    wide, high = text_width(text, height) + 4 * pad + height // 2, height + 2 * pad
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    left = int(np.clip((columns[0] + columns[-1] - wide) // 2, 0, max(0, frame_width - wide)))
    lowest = max(0, frame_height - high)
    above, below = rows[0] - high - pad, rows[-1] + pad
    places = [int(y) for y in (above, below) if 0 <= y <= lowest]
    places += sorted(range(0, lowest + 1, max(1, high // 2)), key=lambda y: abs(y - above))

    def free(top: int) -> bool:
        return all(left >= r or left + wide <= x or top >= b or top + high <= y for x, y, r, b in taken)

    top = next((place for place in places if free(place)), 0)
    taken.append((left, top, left + wide, top + high))
    patch = image[top : top + high, left : left + wide]
    patch[:] = (0.25 * patch + 0.75 * np.asarray(DARK)).astype(np.uint8)
    chip = pad + height // 2
    patch[pad : pad + height, pad : pad + chip] = colour
    write(image, text, left + 2 * pad + chip, top + pad, height, WHITE)


def _picked(frames: int, keys: Sequence[int], count: int) -> list[int]:
    """`count` frames spread evenly; the nearest makes room for each key."""
    picked = sorted({round(x) for x in np.linspace(0, frames - 1, min(count, frames))})
    for key in dict.fromkeys(keys):
        free = [frame for frame in picked if frame not in keys]
        if key not in picked and free:
            picked.remove(min(free, key=lambda frame: abs(frame - key)))
            picked.append(key)
    return sorted(picked)


def _cell(
    frames: FrameSource, answer: Segmentation, frame: int, truth_EHW: np.ndarray | None, size: tuple[int, int], bar: int
) -> np.ndarray:
    """One frame of the sheet with its number and time below, and the colours of the sentences whose key it is."""
    height, width = size

    def fit(image: np.ndarray) -> np.ndarray:
        smaller = image.shape[0] > height
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)

    # scaled first and drawn on after, so that lines are as thin on small videos as on large ones
    masks = [fit(rle.decode(masks_T[frame]).astype(np.float32)) > 0.5 for masks_T in answer.masks]
    image = overlay(fit(frames[frame]), np.asarray(masks))
    for mask in () if truth_EHW is None else truth_EHW:
        outline(image, fit(mask.astype(np.float32)) > 0.5, WHITE)
    cell = np.full((height + bar, width, 3), PAPER, np.uint8)
    cell[:height] = image
    seconds = f"  {frame / frames.fps:.1f} s" if frames.fps > 0 and len(frames) > 1 else ""
    caption = f"frame {frame}{seconds}"
    write(cell, caption, 0, height + 8, 9, GREY)
    left = text_width(caption, 9) + 14
    for e, key in enumerate(answer.key_E):
        if key == frame:
            cell[height + 7 : height + 18, left : left + 11] = colour_of(e)
            left += 16
    if left > text_width(caption, 9) + 14:
        write(cell, "key", left, height + 8, 9, GREY)
    return cell


def _legend(
    frames: FrameSource, answer: Segmentation, truth: Callable[[int], np.ndarray] | None, width: int, gap: int
) -> np.ndarray:
    """A line per sentence: its colour, its words, and when in the video it was found (true times below, in grey)."""
    line, strip, video, note = 30, round(0.36 * width), len(frames), 18
    head = np.full((note + gap + line * len(answer.sentences) + 8, width, 3), PAPER, np.uint8)
    told = "when it was found; dark mark: key frame" + ("; grey line, white outline: truth" if truth else "")
    write(head, shorten(told, 8, strip), width - gap - strip, gap, 8, GREY)
    true_ET = np.zeros((len(answer.sentences), video), bool)
    for frame in range(video if truth else 0):
        assert truth is not None
        true_ET[:, frame] = truth(frame).any((1, 2))
    for e, sentence in enumerate(answer.sentences):
        top = note + gap + e * line
        head[top + 4 : top + 18, gap : gap + 14] = colour_of(e)
        write(head, shorten(sentence, 11, width - strip - 4 * gap - 24), gap + 24, top + 5, 11)
        left = width - gap - strip
        head[top + 4 : top + 16, left : left + strip] = (236, 236, 240)
        found_T = [rle.area(mask) > 0 for mask in answer.masks[e]]
        for frame in range(video):
            x0, x1 = (left + round(strip * (frame + k) / video) for k in (0, 1))
            if found_T[frame]:
                head[top + 4 : top + 16, x0:x1] = colour_of(e)
            if true_ET[e, frame]:
                head[top + 18 : top + 21, x0:x1] = GREY
        if answer.key_E[e] >= 0:
            x = left + round(strip * (int(answer.key_E[e]) + 0.5) / video)
            head[top + 2 : top + 18, max(left, x - 1) : x + 2] = INK
    return head
