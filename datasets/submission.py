"""What the benchmarks' servers take: one PNG for each listed frame, in a zip that is checked before it is done.

    ref_youtube_vos   Annotations/VIDEO/EXPRESSION/FRAME.png    mode L, 0 or 255
    mevis             VIDEO/EXPRESSION/FRAME.png                mode L, 0 or 255; no folder above
    ref_davis17       anno_{0..3}/VIDEO/FRAME.png               palette, pixel = object id

All at the frames' own size. A video's folders appear when all its masks are written, so what an interrupted run leaves
is whole and is not written again.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from tqdm import tqdm

from datasets.predictions import PngFiles
from datasets.ref_youtube_vos import PALETTE
from util.davis_scores import SETS
from util.errors import InputError
from util.types import ReferringVideo

Benchmark = Literal["ref_youtube_vos", "mevis", "ref_davis17"]
PREFIX = {"ref_youtube_vos": "Annotations/", "mevis": "", "ref_davis17": ""}
Values = Callable[[int, int], np.ndarray]  # (place of the folder, frame) -> uint8 [H, W]


@dataclass(frozen=True)
class Expected:
    """A file of a submission, and what it must be."""

    name: str
    size: tuple[int, int]
    mode: str


def folders_of(benchmark: Benchmark, video: ReferringVideo) -> list[str]:
    """A video's folders in a submission, without prefix: one for each sentence, or for each annotation set."""
    if benchmark == "ref_davis17":
        return [f"anno_{number}/{video.id}" for number in range(SETS)]
    return [f"{video.id}/{expression.id}" for expression in video.expressions]


def expected(benchmark: Benchmark, videos: Sequence[ReferringVideo]) -> Iterator[Expected]:
    """Every file that the submission must have, video by video."""
    mode = "P" if benchmark == "ref_davis17" else "L"
    for video in videos:
        for folder in folders_of(benchmark, video):
            for name in video.frame_names:
                yield Expected(f"{PREFIX[benchmark]}{folder}/{name}.png", video.frames.size, mode)


def is_written(benchmark: Benchmark, root: Path, video: ReferringVideo) -> bool:
    """Whether `write_video` has finished this video."""
    return all((root / f"{PREFIX[benchmark]}{folder}").is_dir() for folder in folders_of(benchmark, video))


def write_video(benchmark: Benchmark, root: Path, video: ReferringVideo, values: Values) -> None:
    """Write a video's PNGs under `root`: `values(n, frame)` of its n-th folder, masks bool or object ids [H, W]."""
    for number, folder in enumerate(folders_of(benchmark, video)):
        target = root / f"{PREFIX[benchmark]}{folder}"
        partial = root / ".partial" / folder
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for frame, name in enumerate(video.frame_names):
            drawn = values(number, frame)
            image = Image.fromarray(drawn.astype(np.uint8) * (255 if benchmark != "ref_davis17" else 1))
            if benchmark == "ref_davis17":
                image.putpalette(PALETTE)
            image.save(partial / f"{name}.png")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # from a run that ended between this video's folders
            shutil.rmtree(target)
        partial.replace(target)


def pack(
    benchmark: Benchmark, files: PngFiles, prefix: str, videos: Sequence[ReferringVideo], path: Path, *, progress: bool
) -> int:
    """Write the zip at `path` from PNGs that lie under `prefix`, whole or not at all; returns how many it holds.

    Each PNG is decoded and compared with what is expected of it, and the finished zip is read again. Raises InputError
    naming the first file that is missing or wrong.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    named = set()
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            for entry in tqdm(expected(benchmark, videos), "packing", disable=None if progress else True, unit=" PNG"):
                source = prefix + entry.name.removeprefix(PREFIX[benchmark])
                _check(files.image(source), entry, str(files.root / source))
                archive.writestr(entry.name, files.read(source))
                named.add(entry.name)
        with zipfile.ZipFile(partial) as archive:
            damaged = archive.testzip()
            if damaged is not None or set(archive.namelist()) != named or not named:
                raise InputError(f"{path}: the zip is not what was written ({damaged}); is the disk full or broken?")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return len(named)


def _check(image: Image.Image, entry: Expected, where: str) -> None:
    height, width = entry.size
    if image.size != (width, height):
        raise InputError(f"{where} has {image.size[0]}x{image.size[1]} pixels, but the frame {width}x{height}; write "
                         "masks at the frames' own size")  # fmt: skip
    if image.mode != entry.mode:
        raise InputError(f"{where} is a {image.mode} image; the benchmark takes mode {entry.mode}")
    if entry.mode == "L":
        counts = image.histogram()
        if counts[0] + counts[255] != width * height:
            raise InputError(f"{where} has grey values besides 0 and 255; write masks as 0 and 255")
