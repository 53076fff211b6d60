"""Videos that show the same under whatever name, told by a 64-bit hash of each of a few frames.

A frame's hash (Zauner 2010) is of its grey 32 x 32 reduction: a bit for each of the 8 x 8 lowest frequencies of its
cosine transform says whether it lies above their median. It hardly changes with size, compression and brightness. Two
frames are alike when at most 6 bits differ, and a video is suspected of being another when 3 of its 8 frames are like
any of the other's 8. A frame of one colour has no hash. What is cut out or mirrored is not noticed, nor a part of a
video that shows something else than its 8 frames.

    {"schema": "rvos-hashes/1", "videos": {"ID": ["0123456789abcdef", ...]}}
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets import tree
from util import atomic
from util.errors import InputError
from util.types import FrameSource, ReferringVideo

SCHEMA = "rvos-hashes/1"
FRAMES = 8
NEAR = 6  # differing bits of frames that are alike
ENOUGH = 3  # such frames; or all, of a video that has fewer
PLAIN = 4.0  # standard deviation of grey values below which a frame has no hash

Known = Mapping[str, np.ndarray]  # video -> uint64, its frames' hashes


def frame_hash(image_HW3: np.ndarray) -> int | None:
    """64 bits of an image uint8 RGB; None where it shows too little."""
    grey = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.std() < PLAIN:
        return None
    low = cv2.dct(small)[:8, :8].ravel()
    bits = low > np.median(low)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def video_hashes(frames: FrameSource) -> np.ndarray:
    """Hashes uint64 of up to `FRAMES` frames, evenly spread. Raises InputError where one cannot be read."""
    places = np.unique(np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int)).tolist()
    hashes = [frame_hash(frames[place]) for place in places]
    return np.array([h for h in hashes if h is not None], np.uint64)


def alike(hashes: np.ndarray, known: Known) -> list[str]:
    """The videos of `known` that one with these `hashes` is suspected of being."""
    if not len(hashes):
        return []
    return [
        name
        for name, others in known.items()
        if len(others)
        and (np.bitwise_count(hashes[:, None] ^ others[None]).min(1) <= NEAR).sum() >= min(ENOUGH, len(hashes))
    ]


def suspects(videos: Sequence[ReferringVideo], places: Iterable[int], known: Known) -> dict[str, list[str]]:
    """Those of `videos` at `places` that look like others, and like which. One that cannot be read is left out."""
    found: dict[str, list[str]] = {}
    for place in places if known else ():
        try:
            video = videos[place]
            others = alike(video_hashes(video.frames), known)
        except InputError:
            continue  # whoever reads all of it says what is wrong with it
        if others:
            found[video.id] = others
    return found


def write_hashes(path: Path, videos: Known) -> None:
    """Write hashes of videos, in the order of their ids."""
    content = {name: [f"{int(h):016x}" for h in videos[name]] for name in sorted(videos)}
    atomic.write_bytes(path, atomic.canonical({"schema": SCHEMA, "videos": content}).encode())


def read_hashes(files: Iterable[Path]) -> dict[str, np.ndarray]:
    """Hashes of the videos in all files. Raises InputError for a file that `write_hashes` did not write."""
    found: dict[str, np.ndarray] = {}
    for path in files:
        content = tree.read_json(path, "hashes of evaluation videos")
        videos = content.get("videos") if isinstance(content, dict) and content.get("schema") == SCHEMA else None
        if not isinstance(videos, dict):
            raise InputError(f"{path} holds no hashes ({SCHEMA}); make them with `teach hashes`")
        for name, texts in videos.items():
            if not isinstance(texts, list) or not all(re.fullmatch("[0-9a-f]{16}", str(text)) for text in texts):
                raise InputError(f"{path}: video {name} has something else than hashes; make them again")
            found[name] = np.array([int(text, 16) for text in texts], np.uint64)
    return found


def fingerprint(known: Known) -> str:
    """sha256 of hashes, which a data set made without these videos notes; "" where there are none."""
    return atomic.sha256(atomic.canonical({k: [int(h) for h in v] for k, v in known.items()})) if known else ""
