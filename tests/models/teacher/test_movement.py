"""Movement beside the camera's: what stands still goes nowhere however the camera pans, and what moves does."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from datasets.tracks import Track, TrackPrompt, Tracks
from datasets.video import MemoryVideo
from models.teacher.match.frames import boxes_of
from models.teacher.movement import MOMENTS, MOVED, camera, gone, travels
from models.teacher.parser import RuleParser
from util import rle

T, SIZE = 12, (96, 128)
WALL = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8), (0, 0), 1.5)


def filmed(pan: int, speed: int, *, wall: np.ndarray = WALL, length: int = T) -> tuple[Tracks, MemoryVideo]:
    """A wall, a square painted on it (row 0) and one that moves along it (row 1); the camera pans."""
    frames, masks = [], np.zeros((2, length, *SIZE), bool)
    for frame in range(length):
        image = wall[20 : 20 + SIZE[0], 20 + pan * frame : 20 + pan * frame + SIZE[1]].copy()
        for row, left in enumerate((90 - pan * frame, 20 + (speed - pan) * frame)):
            masks[row, frame, 40:60, max(left, 0) : max(left + 20, 0)] = True
            image[masks[row, frame]] = (250, 40, 40)
        frames.append(image)
    return tracks_of(masks), MemoryVideo(np.stack(frames), 12.0)


def tracks_of(masks: np.ndarray) -> Tracks:
    """Tracks of sure masks bool [N, T, H, W]."""
    area = masks.mean((2, 3)).astype(np.float32)
    sure, count = np.where(area > 0, 5, -5).astype(np.float32), len(masks)
    return Tracks(
        "d", "train", "v", tuple(f"{t:05d}" for t in range(masks.shape[1])), masks.shape[2:], 12.0, {},
        tuple(Track(str(row), "detector", (TrackPrompt(0, "box"),)) for row in range(count)),
        tuple(tuple(rle.encode(mask) if mask.any() else None for mask in row) for row in masks),
        sure, np.full(area.shape, 0.9, np.float32), np.full(area.shape, 0.9, np.float32),
        (boxes_of(masks) / np.array([masks.shape[3], masks.shape[2]] * 2)).astype(np.float32), area,
        np.ones(area.shape, bool), np.zeros(area.shape, bool),
    )  # fmt: skip


@pytest.mark.parametrize("pan", [0, 1, 3])
def test_the_camera_moves_nothing(pan: int) -> None:
    tracks, video = filmed(pan, speed=2)
    pans = camera(tracks, video)
    assert len(pans) == MOMENTS
    assert all(np.allclose(p.matrix_23[:, 2], [-3 * pan, 0], atol=0.3) and p.last == p.first + 3 for p in pans)
    assert gone(tracks, 0, pans) < MOVED / 2
    assert gone(tracks, 1, pans) == pytest.approx(6 / np.hypot(*SIZE), abs=0.3 / np.hypot(*SIZE))


def test_what_cannot_be_told_is_not_a_number() -> None:
    plain = np.full_like(WALL, 90)
    tracks, video = filmed(0, speed=2, wall=plain)
    assert camera(tracks, video) == [] and np.isnan(gone(tracks, 0, []))
    tracks, video = filmed(0, speed=2, length=1)
    assert camera(tracks, video) == []
    masks = np.zeros((1, T, *SIZE), bool)
    masks[0, 5, 10:20, 10:20] = True
    assert np.isnan(gone(tracks_of(masks), 0, camera(tracks_of(masks), filmed(1, speed=2)[1])))


def test_large_frames_are_looked_at_small() -> None:
    wall = cv2.resize(WALL, None, fx=8, fy=8)
    frames = MemoryVideo(np.stack([wall[:768, 16 * t : 16 * t + 1024] for t in range(4)]), 12.0)
    tracks = tracks_of(np.zeros((0, 4, 768, 1024), bool))
    (pan,) = camera(tracks, frames)
    np.testing.assert_allclose(pan.matrix_23, [[1, 0, -48], [0, 1, 0]], atol=0.5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the dog running to the left", True), ("the man who crosses the road", True), ("the girl dancing", False),
        ("the dog that does not move", False), ("the brown dog", False), ("the cat standing still", False),
    ],
)  # fmt: skip
def test_sentences_that_say_that_something_goes(text: str, expected: bool) -> None:
    assert travels(RuleParser().parse(text)) is expected
