"""What the dataset layouts on disk share: reading their JSON, checking names, finding frames, writing a new tree."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets.video import FolderVideo
from datasets.video_list import VideoList
from util import rle
from util.errors import InputError
from util.types import ABSENT, PRESENT, ReferringVideo

JPEG_QUALITY = 95
OFF_BY = 1  # pixels by which a mask may miss its frame's size: DAVIS has a mask of 853x480 for a frame of 854x480


class LazyVideos(VideoList):
    """Videos by id, each built by `build(id)` when it is indexed."""

    def __init__(self, ids: Iterable[str], build: Callable[[str], ReferringVideo]) -> None:
        self.ids = tuple(ids)
        self._build = build

    def __len__(self) -> int:
        return len(self.ids)

    def video(self, number: int) -> ReferringVideo:
        """Built anew each time."""
        return self._build(self.ids[number])

    def check(self) -> LazyVideos:
        """These videos, once each is known to be described properly; no frame or mask is read.

        Raises InputError with the first that is not, and how many others there are.
        """
        faults = []
        for video in self.ids:
            try:
                self._build(video)
            except InputError as error:
                faults.append(error)
        if len(faults) > 1:
            raise InputError(f"{faults[0]} ({len(faults) - 1} more videos have a fault; `data check` lists them all)")
        if faults:
            raise faults[0]
        return self


@dataclass(frozen=True)
class Written:
    """What a writer wrote, and the sentences its layout cannot hold: "video/expression: why"."""

    folder: Path
    videos: int
    expressions: int
    left_out: tuple[str, ...]


def read_json(path: Path, expected: str) -> Any:
    """The content of a JSON file. Raises InputError naming what is `expected` there when it is missing or malformed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"missing {path}: {expected} is expected there; check the data set's root and split") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path} ({expected}): {error}; download it again") from error


def read_videos(path: Path) -> dict[str, Any]:
    """The `videos` entry of a meta_expressions.json; `video_entry` checks one of them. Raises InputError without it."""
    content = read_json(path, "the sentences (meta_expressions.json)")
    videos = content.get("videos") if isinstance(content, dict) else None
    if not isinstance(videos, dict):
        raise InputError(f'{path} has no "videos" mapping; it is not a meta_expressions.json')
    return videos


def video_entry(videos: dict[str, Any], video: str, path: Path) -> dict[str, Any]:
    """Entry `video` of a meta_expressions.json, with its ids, frame names, sentences and fps checked.

    Raises InputError for what cannot be a file name (see `plain_name`), a sentence without text, no frames, or a
    number of frames a second that is none.
    """
    entry, where = videos[video], f"{path}: video {video!r}"
    plain_name(video, path)
    if not isinstance(entry, dict) or not isinstance(entry.get("frames"), list) or not entry["frames"]:
        raise InputError(f'{where} has no list of "frames"; download the file again')
    for name in entry["frames"]:
        plain_name(name, path)
    sentences = entry.get("expressions")
    if not isinstance(sentences, dict):
        raise InputError(f'{where} has no "expressions" mapping; download the file again')
    for key, sentence in sentences.items():
        plain_name(key, path)
        if not isinstance(sentence, dict) or not isinstance(sentence.get("exp"), str) or not sentence["exp"].strip():
            raise InputError(f'{where}, expression {key!r} has no text ("exp"); write its sentence, or leave it out')
        if not isinstance(sentence.get("type"), str | None):
            raise InputError(f"{where}, expression {key!r} has the type {sentence['type']!r}; a type is a word")
    rate = entry.get("fps", 1)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1e6:
        raise InputError(f'{where} has {rate!r} frames a second ("fps"); that is a number above 0')
    return entry


def plain_name(name: object, path: Path) -> str:
    """`name` if it is a bare file name; ids become paths, and must stay inside. Raises InputError otherwise."""
    if not isinstance(name, str) or not re.fullmatch(r"(?!\.{1,2}$)[^/\\:\0\ud800-\udfff]{1,200}", name):
        shown = repr(name) if len(repr(name)) < 100 else repr(name)[:100] + "..."
        raise InputError(
            f"{path}: {shown} cannot be a file name; ids and frame names must be plain names without / or .."
        )
    return name


def whole_number(value: object, where: str) -> int:
    """An id as int, which JSON files give as a number or as text. Raises InputError, naming `where`, for another."""
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise InputError(f"{where}: {text[:40]!r} is not a whole number from 0; ids are whole numbers")
    return int(text)


def require_folder(folder: Path, what: str) -> Path:
    """`folder`, where it is one. Raises InputError saying `what` is expected there."""
    if not folder.is_dir():
        raise InputError(f"missing {folder}: {what} are expected there; check root and split, or unpack all parts")
    return folder


def frames_of(folder: Path, names: Sequence[str], fps: float) -> FolderVideo:
    """Frames `names` of a video folder, which hold the suffix .jpg in every supported data set."""
    return FolderVideo((folder / f"{name}.jpg" for name in names), fps)


def read_labels(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Object ids uint8 [H, W] of an annotation PNG: palette indices, grey values, or the grey of grey with alpha.

    A mask that misses `size` by one pixel is cut or filled with background, as the official evaluators' resizing does;
    raises InputError for a greater difference, a colour image, and a missing or unreadable file.
    """
    try:
        with Image.open(path) as image:
            mode = image.mode
            labels = np.array(image.getchannel(0) if mode == "LA" else image)
    except FileNotFoundError:
        raise InputError(
            f"missing {path}: the object masks of this frame are expected there; unpack Annotations"
        ) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read {path}: {error}; unpack Annotations again") from error
    if mode not in ("P", "L", "1", "LA"):
        raise InputError(f"{path} is a {mode} image; object ids need a palette or grey PNG")
    return fit_mask(labels.astype(np.uint8), size, str(path))


def fit_mask(mask: np.ndarray, size: tuple[int, int], where: str) -> np.ndarray:
    """`mask` [h, w] at `size`, which it may miss by `OFF_BY` pixels. Raises InputError for a greater difference."""
    if mask.shape == size:
        return mask
    height, width = size
    if not near(mask.shape[0], mask.shape[1], size):
        raise InputError(
            f"{where}: mask of {mask.shape[1]}x{mask.shape[0]} for a frame of {width}x{height}; fix the data"
        )
    fitted = np.zeros(size, mask.dtype)
    fitted[: mask.shape[0], : mask.shape[1]] = mask[:height, :width]
    return fitted


def near(height: int, width: int, size: tuple[int, int]) -> bool:
    """Whether a mask of this height and width can be taken for a frame of `size`."""
    return max(abs(height - size[0]), abs(width - size[1])) <= OFF_BY


def decode_mask(runs: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """A run-length mask as bool [H, W] of `size`, which it may miss by `OFF_BY` pixels.

    Raises InputError, naming `where`, for what is no such mask; nothing of another size is decoded.
    """
    try:
        height, width = (int(side) for side in runs["size"])
    except (TypeError, KeyError, ValueError, OverflowError, IndexError):
        raise InputError(f'{where}: no run-length mask ("size", "counts"); download it again') from None
    if not near(height, width, size):
        raise InputError(f"{where}: mask of {width}x{height} for a frame of {size[1]}x{size[0]}; fix the data")
    try:
        mask = rle.decode(runs)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return fit_mask(mask, size, where)


def states_of(masks_NHW: np.ndarray) -> np.ndarray:
    """PRESENT or ABSENT int8 [N]: whether each mask shows anything."""
    return np.where(masks_NHW.any((-2, -1)), PRESENT, ABSENT).astype(np.int8)


def new_folder(folder: Path) -> Path:
    """An empty folder, made where it is missing. Raises InputError when it is not empty or cannot be made."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is not empty; give a new folder, so that no data set is mixed with another")
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"cannot make the folder {folder}: {error}; choose another") from error
    return folder


def write_frames(folder: Path, video: ReferringVideo, quality: int) -> None:
    """All frames of a video as JPEGs under their names. What is a JPEG already is copied, and loses nothing."""
    folder.mkdir(parents=True)
    paths = video.frames.paths if isinstance(video.frames, FolderVideo) else [None] * len(video.frames)
    for index, (name, path) in enumerate(zip(video.frame_names, paths, strict=True)):
        plain_name(name, folder)
        if path is not None and _is_upright_jpeg(path, video.frames.size):
            shutil.copyfile(path, folder / f"{name}.jpg")
        else:
            Image.fromarray(video.frames[index]).save(folder / f"{name}.jpg", quality=quality, subsampling=0)


def _is_upright_jpeg(path: Path, size: tuple[int, int]) -> bool:
    """Whether any reader sees the file as we do: an RGB JPEG of that size which no EXIF entry turns."""
    try:
        with Image.open(path) as image:
            plain = image.format == "JPEG" and image.mode == "RGB" and image.getexif().get(0x0112, 1) == 1
            return plain and image.size == size[::-1]
    except (OSError, ValueError, SyntaxError):
        return False


def write_json(path: Path, content: Any) -> None:
    """`content` as JSON at `path`, whole or not at all."""
    write_text(path, json.dumps(content, indent=1))


def write_text(path: Path, text: str, encoding: str = "utf-8") -> None:
    """`text` at `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding=encoding)
    partial.replace(path)
