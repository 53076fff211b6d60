"""Video sources: a folder of frames, one image, a video file or an array, all read as `FrameSource`.

Frames are decoded when they are asked for and not kept, except for the few that `datasets/video_file.py` holds so that
a file can be walked backwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from datasets.video_file import FileVideo
from util.errors import InputError
from util.types import FrameSource

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
FOLDER_FPS = 24.0  # a folder does not say how fast its frames were taken; this is cinema's and DAVIS's rate

__all__ = ["FOLDER_FPS", "IMAGE_SUFFIXES", "FileVideo", "FolderVideo", "MemoryVideo", "natural_order", "open_video"]


class MemoryVideo:
    """Frames already in memory: uint8 [T, H, W, 3] RGB."""

    def __init__(
        self, frames: np.ndarray | Sequence[np.ndarray], fps: float, names: Sequence[str] | None = None
    ) -> None:
        """Raises InputError for no frames, frames of different sizes, another type or another rank."""
        if len(frames) == 0:
            raise InputError("the video has no frames; give at least one")
        if len({frame.shape for frame in frames}) > 1:
            raise InputError("the frames have different sizes; bring them to one size first")
        self._frames = np.asarray(frames)
        if self._frames.dtype != np.uint8 or self._frames.ndim != 4 or self._frames.shape[3] != 3:
            raise InputError(f"frames must be uint8 [T, H, W, 3], not {self._frames.dtype} {self._frames.shape}")
        self.fps = float(fps)
        self.names = tuple(names) if names is not None else tuple(f"{i:05d}" for i in range(len(frames)))

    @property
    def size(self) -> tuple[int, int]:
        return self._frames.shape[1], self._frames.shape[2]

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._frames[index]


class FolderVideo:
    """Image files in the given order; `.names` are their names without suffix. Nothing is opened until it is needed."""

    def __init__(self, paths: Iterable[Path], fps: float) -> None:
        """Raises InputError when there is no path."""
        self.paths = tuple(paths)
        if not self.paths:
            raise InputError("the video has no frames; give at least one image")
        self.fps = float(fps)
        self.names = tuple(path.stem for path in self.paths)
        self._size: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the first frame, which all others must have."""
        if self._size is None:
            self._size = _image_size(self.paths[0])
        return self._size

    def check(self) -> None:
        """Read every header; raises InputError for an unreadable file or a frame of another size."""
        for path in self.paths:
            self._compare(path, _image_size(path))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        """Raises InputError when the file is missing, unreadable or of another size than the first frame."""
        path = self.paths[index]
        frame_HW3 = _read_image(path)
        if self._size is None:
            self._size = frame_HW3.shape[:2] if index == 0 else _image_size(self.paths[0])
        self._compare(path, frame_HW3.shape[:2])
        return frame_HW3

    def _compare(self, path: Path, size: tuple[int, ...]) -> None:
        if size != self.size:
            first, other = ("{1}x{0}".format(*s) for s in (self.size, size))
            raise InputError(
                f"{path} is {other} pixels, but {self.paths[0].name} is {first}; "
                "all frames of a video need one size: resize them, or move the odd ones out of the folder"
            )


def natural_order(name: str) -> tuple[tuple[int, str], ...]:
    """Sort key that reads digits as numbers: frame2 before frame10."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part)


def open_video(path: str | Path, *, fps: float | None = None) -> FrameSource:
    """The video at `path`: a folder of images (natural order), a video file, or one image (a video of one frame).

    `fps` replaces the file's own rate, or the folder's assumed `FOLDER_FPS`. Raises InputError when there is nothing
    at the path, it cannot be read, it holds no frames, or its frames have different sizes.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"no such file or folder: {path}; check the path")
    if path.is_file() and path.suffix.lower() not in IMAGE_SUFFIXES:
        return FileVideo(path, fps=fps)
    if path.is_file():
        paths = [path]
    else:
        images = (p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
        paths = sorted(images, key=lambda p: natural_order(p.name))
    if not paths:
        raise InputError(f"no frames in {path}; a folder must hold images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    video = FolderVideo(paths, fps or FOLDER_FPS)
    video.check()
    return video


def _image_size(path: Path) -> tuple[int, int]:
    with _opened(path) as image:
        width, height = image.size
        try:
            turned = image.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 exchange the sides
        except (OSError, ValueError, SyntaxError) as error:  # a PNG is read to its end for it
            raise InputError(f"cannot read {path}: {error}; copy or extract this frame again") from error
    return (width, height) if turned else (height, width)


def _read_image(path: Path) -> np.ndarray:
    with _opened(path) as image:
        try:
            ImageOps.exif_transpose(image, in_place=True)
            return np.array(image if image.mode == "RGB" else image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"cannot read {path}: {error}; copy or extract this frame again") from error


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise InputError(f"missing frame {path}; copy it there") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read {path}: {error}; copy or extract this frame again") from error
