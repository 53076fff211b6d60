"""What the dataset layouts on disk share: reading their JSON, checking names, finding frames, writing a new tree."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from datasets.video import FolderVideo
from util.errors import InputError
from util.types import ABSENT, PRESENT, ReferringVideo

JPEG_QUALITY = 95
OFF_BY = 1  # pixels by which a mask may miss its frame's size: DAVIS has a mask of 853x480 for a frame of 854x480


class LazyVideos(Sequence[ReferringVideo]):
    """Videos by id, each built by `build(id)` when it is indexed."""

    def __init__(self, ids: Iterable[str], build: Callable[[str], ReferringVideo]) -> None:
        self.ids = tuple(ids)
        self._build = build

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> ReferringVideo: ...

    @overload
    def __getitem__(self, index: slice) -> list[ReferringVideo]: ...

    def __getitem__(self, index: int | slice) -> ReferringVideo | list[ReferringVideo]:
        if isinstance(index, slice):
            return [self._build(video) for video in self.ids[index]]
        return self._build(self.ids[index])


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
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"cannot read {path} ({expected}): {error}; download it again") from error


def read_videos(path: Path) -> dict[str, dict[str, Any]]:
    """The `videos` entry of a meta_expressions.json, with every id and frame name checked (see `plain_name`)."""
    content = read_json(path, "the sentences (meta_expressions.json)")
    videos = content.get("videos") if isinstance(content, dict) else None
    if not isinstance(videos, dict):
        raise InputError(f'{path} has no "videos" mapping; it is not a meta_expressions.json')
    for video, entry in videos.items():
        try:
            names = [video, *entry["frames"], *entry["expressions"]]
            sentences = [expression["exp"] for expression in entry["expressions"].values()]
        except (TypeError, KeyError, AttributeError):
            raise InputError(f'{path}: video {video!r} needs "frames" and "expressions" with an "exp" each') from None
        for name in names:
            plain_name(name, path)
        if not entry["frames"] or not all(isinstance(sentence, str) for sentence in sentences):
            raise InputError(f"{path}: video {video!r} has no frames, or a sentence that is not text")
    return videos


def plain_name(name: object, path: Path) -> str:
    """`name` if it is a bare file name; ids become paths, and must stay inside. Raises InputError otherwise."""
    if not isinstance(name, str) or not re.fullmatch(r"(?!\.{1,2}$)[^/\\:\0]+", name):
        raise InputError(
            f"{path}: {name!r} cannot be a file name; ids and frame names must be plain names without / or .."
        )
    return name


def require_folders(folder: Path, videos: Iterable[str], what: str) -> None:
    """Raises InputError when `folder` does not hold a folder for each video."""
    if not folder.is_dir():
        raise InputError(f"missing {folder}: {what} are expected there, a folder for each video; check root and split")
    there = {path.name for path in folder.iterdir()}
    missing = [video for video in videos if video not in there]
    if missing:
        named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise InputError(f"{folder} lacks {len(missing)} videos ({named}); {what} are expected there: unpack all parts")


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
            if image.mode not in ("P", "L", "1", "LA"):
                raise InputError(f"{path} is a {image.mode} image; object ids need a palette or grey PNG")
            labels = np.array(image.getchannel(0) if image.mode == "LA" else image)
    except FileNotFoundError:
        raise InputError(
            f"missing {path}: the object masks of this frame are expected there; unpack Annotations"
        ) from None
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"cannot read {path}: {error}; unpack Annotations again") from error
    return fit_mask(labels.astype(np.uint8), size, str(path))


def fit_mask(mask: np.ndarray, size: tuple[int, int], where: str) -> np.ndarray:
    """`mask` [h, w] at `size`, which it may miss by `OFF_BY` pixels. Raises InputError for a greater difference."""
    if mask.shape == size:
        return mask
    height, width = size
    if max(abs(mask.shape[0] - height), abs(mask.shape[1] - width)) > OFF_BY:
        raise InputError(
            f"{where}: mask of {mask.shape[1]}x{mask.shape[0]} for a frame of {width}x{height}; fix the data"
        )
    fitted = np.zeros(size, mask.dtype)
    fitted[: mask.shape[0], : mask.shape[1]] = mask[:height, :width]
    return fitted


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
    """All frames of a video as JPEGs under their names."""
    folder.mkdir(parents=True)
    for index, name in enumerate(video.frame_names):
        plain_name(name, folder)
        Image.fromarray(video.frames[index]).save(folder / f"{name}.jpg", quality=quality, subsampling=0)


def write_json(path: Path, content: Any) -> None:
    """`content` as JSON at `path`, whole or not at all."""
    write_text(path, json.dumps(content, indent=1))


def write_text(path: Path, text: str, encoding: str = "utf-8") -> None:
    """`text` at `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding=encoding)
    partial.replace(path)
