"""Predictions of any program as PNG files, in a folder or a zip, in the layouts that the benchmarks take.

    [PREFIX/]VIDEO/EXPRESSION/FRAME.png    not 0 where the mask is; Ref-YouTube-VOS (PREFIX Annotations), MeViS (none)
    [PREFIX/]anno_{0..3}/VIDEO/FRAME.png   pixel = object id; Ref-DAVIS17

PREFIX may be missing, Annotations, or valid (what ReferFormer writes). Nothing is unpacked.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from datasets import tree
from util.errors import InputError
from util.scoring import FrameMasks
from util.types import ReferringVideo

PREFIXES = ("", "Annotations", "valid")
GREY = ("L", "P", "1", "LA")  # modes whose first channel is the mask
# what reading an entry of a damaged zip raises
_UNREADABLE = (
    OSError, KeyError, EOFError, RuntimeError, NotImplementedError, ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class PngFiles:
    """The files under a folder or in a zip, by their names with / between the parts."""

    def __init__(self, root: Path) -> None:
        """Raises InputError when there is nothing, the zip is damaged, or one of its names climbs out of its folder."""
        self.root = root
        self._names: frozenset[str] | None = None  # of a zip
        self._folders: frozenset[str] = frozenset()
        self._archive: zipfile.ZipFile | None = None
        if not root.is_dir():
            self._names = frozenset(_names_in(root))
            self._folders = frozenset(str(parent) for name in self._names for parent in PurePosixPath(name).parents)

    def has_folder(self, name: str) -> bool:
        return (self.root / name).is_dir() if self._names is None else str(PurePosixPath(name)) in self._folders

    def has(self, name: str) -> bool:
        return (self.root / name).is_file() if self._names is None else name in self._names

    def read(self, name: str) -> bytes:
        """Content of a file. Raises InputError when it cannot be read."""
        try:
            if self._names is None:
                return (self.root / name).read_bytes()
            if self._archive is None:  # opened when first used: each of several processes needs its own
                self._archive = zipfile.ZipFile(self.root)
            return self._archive.read(name)
        except _UNREADABLE as error:
            raise InputError(f"cannot read {self.root / name}: {error}; write it again") from error

    def image(self, name: str) -> Image.Image:
        """A PNG, decoded whole. Raises InputError when it is missing or damaged."""
        if not self.has(name):
            raise InputError(f"missing {self.root / name}: every listed frame of every sentence needs a PNG; write it")
        try:
            image = Image.open(io.BytesIO(self.read(name)))
            image.load()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"cannot read {self.root / name}: {error}; write it again") from error
        return image

    def labels(self, name: str, size: tuple[int, int]) -> np.ndarray:
        """Values uint8 [H, W] of a PNG: palette indices or grey values.

        A size off by one pixel is cut or filled (see `tree.fit_mask`). Raises InputError for any other size or a colour
        image, and as `image` does.
        """
        image = self.image(name)
        if image.mode not in GREY:
            raise InputError(f"{self.root / name} is a {image.mode} image; masks need a grey or palette PNG")
        values = np.asarray(image.getchannel(0) if image.mode == "LA" else image)
        return tree.fit_mask(values.astype(np.uint8), size, str(self.root / name))

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_archive": None}


def _names_in(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    except FileNotFoundError:
        raise InputError(f"missing {path}: predictions are expected there, a folder of PNGs or a zip") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise InputError(f"{path} is neither a folder nor a whole zip ({error}); pack it again") from error
    for name in names:
        if name.startswith("/") or "\\" in name or ":" in name or ".." in PurePosixPath(name).parts:
            raise InputError(
                f"{path}: the name {name!r} leads out of the zip's folder; pack it again, with plain names"
            )
    return names


def prefix_of(files: PngFiles, folders: Sequence[str]) -> str:
    """The prefix, with its /, under which one of `folders` lies. Raises InputError when none does."""
    for prefix in PREFIXES:
        inside = f"{prefix}/" if prefix else ""
        if any(files.has_folder(inside + folder) for folder in folders):
            return inside
    known = ", ".join(prefix or "the folder itself" for prefix in PREFIXES)
    raise InputError(
        f"{files.root} holds none of the {len(folders)} folders asked for ({', '.join(folders[:3])}, ...), nor do the "
        f"places inside it that are known ({known}); give the folder that holds them"
    )


def masks_of(files: PngFiles, prefix: str, video: ReferringVideo) -> FrameMasks | None:
    """The masks of a video's sentences; None when the predictions have no folder for the video.

    Raises InputError for a sentence that is missing, and when a mask is read as `PngFiles.labels` does.
    """
    folder = f"{prefix}{video.id}"
    if not files.has_folder(folder):
        return None
    for expression in video.expressions:
        if not files.has_folder(f"{folder}/{expression.id}"):
            raise InputError(f"missing {files.root / folder / expression.id}: the masks of {expression.text!r} belong "
                             "there; write them, or leave out the whole video")  # fmt: skip

    def read(expression: int, frame: int) -> np.ndarray:
        name = f"{folder}/{video.expressions[expression].id}/{video.frame_names[frame]}.png"
        return files.labels(name, video.frames.size) != 0

    return read
