"""Frames that several passes read: decoded once as far as they fit into memory; and a hash of what a video shows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from datasets.video import FileVideo, FolderVideo
from util.types import FrameSource

BUDGET = 512 << 20  # bytes of frames kept: 430 frames of 854x480


class HeldFrames:
    """A `FrameSource` that keeps the frames first read, up to `budget` bytes, and reads the others again."""

    def __init__(self, frames: FrameSource, budget: int = BUDGET) -> None:
        self._frames, self._left = frames, budget
        self._held: dict[int, np.ndarray] = {}
        self.decoded = 0  # frames that were asked of the source

    @property
    def fps(self) -> float:
        return self._frames.fps

    @property
    def size(self) -> tuple[int, int]:
        return self._frames.size

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> np.ndarray:
        if index in self._held:
            return self._held[index]
        frame_HW3 = self._frames[index]
        self.decoded += 1
        if frame_HW3.nbytes <= self._left:
            self._left -= frame_HW3.nbytes
            self._held[index] = frame_HW3
        return frame_HW3


def content_hash(frames: FrameSource) -> str:
    """sha256 of the files that frames come from, or of the pixels where there is no file. Names do not count."""
    total = hashlib.sha256(repr(len(frames)).encode())
    if isinstance(frames, FolderVideo):
        for path in frames.paths:
            total.update(_file_hash(path))
    elif isinstance(frames, FileVideo):
        total.update(_file_hash(frames.path))
    else:
        for index in range(len(frames)):
            frame_HW3 = frames[index]
            total.update(repr(frame_HW3.shape).encode())
            total.update(frame_HW3.tobytes())
    return total.hexdigest()


def _file_hash(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
