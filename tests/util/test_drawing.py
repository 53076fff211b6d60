"""Pictures and videos: colours where masks are, labels inside the frame, files that play at the right size and rate."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from util import rle
from util.drawing import (
    PALETTE,
    WHITE,
    colour_of,
    contact_sheet,
    outline,
    overlay,
    save_contact_sheet,
    save_image,
    shorten,
    text_width,
    write,
)
from util.errors import InputError
from util.types import ABSENT, PRESENT, Expression, ReferringVideo
from util.video_writer import VideoWriter


class Grey:
    """A video of grey frames whose brightness is their number."""

    fps = 4.0

    def __init__(self, frames: int, size: tuple[int, int] = (60, 100)) -> None:
        self.size, self.frames = size, frames

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full((*self.size, 3), 100 + index, np.uint8)


def square(size: tuple[int, int] = (60, 100), top: int = 20, left: int = 30, side: int = 24) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def answer(masks_ET: list[list[np.ndarray]], keys: list[int]) -> SimpleNamespace:
    masks = [[rle.encode(mask) for mask in masks_T] for masks_T in masks_ET]
    return SimpleNamespace(sentences=["the red ring", "a square"][: len(masks)], masks=masks, key_E=np.array(keys))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As if the disk were full after that many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def simulated(colour: tuple[int, int, int], kind: str) -> np.ndarray:
    """A colour in linear light as a protanope or deuteranope sees it (Viénot, Brettel and Mollon 1999)."""
    linear = (np.asarray(colour) / 255) ** 2.2
    seen = {"protan": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
            "deutan": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]}  # fmt: skip
    return (np.clip(np.array(seen[kind]) @ linear, 0, 1)) ** (1 / 2.2)


@pytest.mark.parametrize("kind", ["protan", "deutan"])
def test_palette_is_told_apart_by_colour_blind_eyes(kind: str) -> None:
    seen = [simulated(colour, kind) for colour in PALETTE]
    apart = min(np.linalg.norm(a - b) for n, a in enumerate(seen) for b in seen[:n])
    assert apart > 0.12 > np.linalg.norm(simulated((200, 60, 60), kind) - simulated((110, 100, 60), kind))
    assert colour_of(7) == PALETTE[0]


def test_overlay_tints_masks_and_nothing_else() -> None:
    frame, mask = Grey(1)[0], square()
    image = overlay(frame, np.stack([mask, np.zeros_like(mask)]))
    middle = square(top=24, left=34, side=16)
    assert (image[middle] == np.uint8(0.5 * 100 + 0.5 * np.array(PALETTE[0]))).all()
    changed = (image != frame).any(-1)
    assert changed[mask].all() and not changed[~square(top=18, left=28, side=28)].any()
    assert (frame == 100).all()


def test_labels_are_drawn_for_visible_masks_and_stay_inside() -> None:
    frame = Grey(1, (120, 200))[0]
    for top, left in ((0, 0), (96, 176), (50, 90)):
        mask = square((120, 200), top, left)
        plain = overlay(frame, np.stack([mask, mask]))
        labelled = overlay(frame, np.stack([mask, mask]), ["one", "a very long sentence that does not fit " * 3])
        chips = [(labelled == colour).all(-1) & (plain != colour).any(-1) for colour in PALETTE[:2]]
        assert all(chip.sum() >= 30 for chip in chips)
        assert np.array_equal(labelled[mask & ~(labelled != plain).any(-1)], plain[mask & ~(labelled != plain).any(-1)])
    nothing = np.zeros((1, 120, 200), bool)
    assert np.array_equal(overlay(frame, nothing, ["unseen"]), frame)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (31, 33)])
def test_overlay_of_any_size(size: tuple[int, int]) -> None:
    image = overlay(np.zeros((*size, 3), np.uint8), np.ones((2, *size), bool), ["a sentence", "日本語 été"])
    assert image.shape == (*size, 3)


def test_text_is_cut_to_its_width_and_drawn_in_its_colour() -> None:
    text = "the small red ring that moves left"
    short = shorten(text, 10, 90)
    assert short.endswith("...") and text.startswith(short[:-3]) and text_width(short, 10) <= 90
    assert shorten("ring", 10, 90) == "ring"
    image = np.zeros((30, 120, 3), np.uint8)
    write(image, "HHH", 4, 8, 10, (250, 0, 0))
    rows, columns = np.flatnonzero(image[..., 0].max(1) > 60), np.flatnonzero(image[..., 0].max(0) > 60)
    assert 7 <= rows[0] <= 8 and 17 <= rows[-1] <= 18 and columns[0] >= 4
    assert columns[-1] <= 4 + text_width("HHH", 10) and not image[..., 1:].any()


def test_outline_lies_on_the_masks_border() -> None:
    image = np.zeros((60, 100, 3), np.uint8)
    outline(image, square(), WHITE)
    assert (image[20, 30:54] == 255).all() and not image[24:40, 34:50].any()


def test_contact_sheet_shows_keys_times_and_truth() -> None:
    video, mask = Grey(12), square()
    found = answer([[mask] * 6 + [mask & False] * 6, [mask & False] * 12], [5, -1])
    sheet = contact_sheet(video, found, count=4)
    with_truth = contact_sheet(video, found, truth=lambda frame: np.stack([mask, mask & (frame == 0)]), count=4)
    assert sheet.shape == with_truth.shape and sheet.shape[1] == 4 * 330 + 10
    row = 10 + 18 + 10  # through the first sentence's strip
    strip = (sheet[row] == PALETTE[0]).all(-1)
    assert 0.4 < strip.sum() / (0.36 * sheet.shape[1]) < 0.6
    assert not (sheet[row + 30, 40:] == PALETTE[1]).all(-1).any()
    tinted = (np.abs(sheet.astype(int) - (0.5 * 105 + 0.5 * np.array(PALETTE[0]))).max(-1) <= 1).sum()
    assert tinted > 1000  # the key, frame 5, is among the four
    changed = (sheet != with_truth).any(-1)
    assert (with_truth[changed] == WHITE).all(-1).sum() > 500


@pytest.mark.parametrize("frames", [1, 2, 3, 50])
def test_contact_sheet_of_any_length_shows_its_keys(frames: int) -> None:
    video = Grey(frames)
    sheet = contact_sheet(video, answer([[square()] * frames], [frames // 2]), count=4)
    seen = {int(level) - 100 for level in np.unique(sheet[sheet.ptp(-1) == 0] if hasattr(sheet, "ptp") else sheet)}
    assert frames // 2 in seen


def test_contact_sheet_of_a_dataset_video_has_its_truth(tmp_path: Path) -> None:
    class Masks:
        def read(self, index: int, object_ids: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
            shown = np.array([square() & (index > 0)] * len(object_ids)).reshape(-1, 60, 100)
            return shown, np.where(shown.any((1, 2)), PRESENT, ABSENT)

    def video(ids: tuple[int, ...] | None) -> ReferringVideo:
        return ReferringVideo("v", Grey(3), ("0", "1", "2"), (Expression("0", "a square", ids),), Masks())

    found = answer([[square(left=60)] * 3], [1])
    for name, ids in (("known", (1,)), ("unknown", None)):
        save_contact_sheet(tmp_path / "new" / f"{name}.png", video(ids), found)
    known, unknown = (cv2.imread(str(tmp_path / "new" / f"{name}.png")) for name in ("known", "unknown"))
    assert known.shape == unknown.shape and (known != unknown).any()


def test_images_that_cannot_be_written_say_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"):
        save_image(tmp_path / "file" / "a.png", Grey(1)[0])
    with files_of_at_most(10), pytest.raises(InputError, match="free space"):
        save_image(tmp_path / "a.png", Grey(1)[0])


def read_back(path: Path) -> tuple[list[np.ndarray], Fraction, str]:
    av = pytest.importorskip("av")
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
        return frames, stream.average_rate, f"{stream.codec_context.name} {stream.codec_context.pix_fmt}"


@pytest.mark.parametrize(
    "size, fps, rate",
    [((64, 96), 24.0, Fraction(24)), ((63, 95), 30000 / 1001, Fraction(30000, 1001)), ((33, 64), 6.5, Fraction(13, 2))],
)
def test_video_is_h264_with_its_size_and_rate(
    tmp_path: Path, size: tuple[int, int], fps: float, rate: Fraction
) -> None:
    path = tmp_path / "new" / "video.mp4"
    colours = [(200, 40, 40), (40, 200, 40), (40, 40, 200)]
    with VideoWriter(path, fps=fps) as video:
        for colour in colours:
            video.write(np.full((*size, 3), colour, np.uint8))
            assert not path.exists()
    frames, found, codec = read_back(path)
    assert codec == "h264 yuv420p" and found == rate and len(frames) == 3
    assert frames[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    for frame, colour in zip(frames, colours, strict=True):
        assert np.abs(frame.astype(int) - colour).max() <= 6  # the added row and column too
    head = path.read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")
    assert [p.name for p in path.parent.iterdir()] == ["video.mp4"]


def test_video_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (20, 96, 96, 3)).astype(np.uint8)
    failures = [
        ("size", lambda video: [video.write(frame) for frame in (noise[0], noise[0, :32])]),
        ("no frames", lambda video: None),
        ("a bug", lambda video: [video.write(noise[0]), (_ for _ in ()).throw(InputError("a bug"))]),
    ]
    for said, fail in failures:
        with pytest.raises(InputError, match=said), VideoWriter(path, fps=10) as video:
            fail(video)
    with files_of_at_most(2000), pytest.raises(InputError, match="free space"), VideoWriter(path, fps=10) as video:
        for frame in noise:
            video.write(frame)
    assert list(tmp_path.iterdir()) == []
