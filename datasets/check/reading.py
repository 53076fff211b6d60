"""Reading one video from end to end: every frame, every mask, every sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from datasets import tree
from datasets.check.findings import Finding, fault, note, some
from datasets.ref_youtube_vos import LabelMasks
from datasets.video import FolderVideo
from util.errors import InputError
from util.types import ABSENT, PRESENT, ReferringVideo

VOID = 255  # the DAVIS evaluator leaves out pixels of this value
_TURNED = 5  # EXIF orientations from here to 8 exchange the sides


def read_video(video: ReferringVideo) -> Iterator[Finding]:
    """Everything that is wrong with a video's frames, masks and sentences, each once."""
    seen: set[str] = set()
    for finding in (*_sentences(video), *_frames(video), *_masks(video)):
        if finding.text not in seen:  # the size of a broken first frame is asked for again and again
            seen.add(finding.text)
            yield finding


def labelled_frames(video: ReferringVideo) -> range | tuple[int, ...]:
    """Positions of the frames whose masks can be read."""
    if video.masks is None:
        return ()
    return range(len(video.frames)) if video.labelled is None else video.labelled


def _sentences(video: ReferringVideo) -> Iterator[Finding]:
    names = video.frame_names
    if len(set(names)) != len(names):
        yield note("inconsistent", f"video {video.id} lists a frame more than once: {some(_twice(names))}")
    elif list(names) != sorted(names):
        yield note("inconsistent", f"video {video.id} lists its frames out of order; other readers sort them")
    if not video.expressions:
        yield note("empty", f"video {video.id} has no sentences")


def _twice(names: tuple[str, ...]) -> set[str]:
    return {name for place, name in enumerate(names) if name in names[:place]}


# ---- frames ----------------------------------------------------------------------------------------------------------


def _frames(video: ReferringVideo) -> Iterator[Finding]:
    first: tuple[int, int] | None = None
    for index in range(len(video.frames)):
        try:
            if not isinstance(video.frames, FolderVideo):
                video.frames[index]
                continue
            path = video.frames.paths[index]
            size = read_whole(path)
        except InputError as error:
            yield fault(error)
            continue
        if first is None:
            first = size
        if size != first:
            shown = f"{size[1]}x{size[0]} pixels, but the others of the video have {first[1]}x{first[0]}"
            yield Finding("mis-sized", f"{path} has {shown}; resize it")


def read_whole(path: Path) -> tuple[int, int]:
    """(height, width) of an image, all bytes of which were read.

    A JPEG is decoded at an eighth of its size, to be fast. Raises InputError for a missing, truncated or otherwise
    unreadable file.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= _TURNED
            image.draft("RGB", (width // 8, height // 8))
            image.load()
    except FileNotFoundError:
        raise InputError(f"missing frame {path}; copy it there") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read {path}: {error}; copy or extract this frame again") from error
    return (width, height) if turned else (height, width)


# ---- masks -----------------------------------------------------------------------------------------------------------


def _masks(video: ReferringVideo) -> Iterator[Finding]:
    ids = sorted({i for expression in video.expressions for i in expression.object_ids or ()})
    if video.masks is None or not ids:
        return
    states: dict[int, set[int]] = {i: set() for i in ids}
    whole = True
    for index in labelled_frames(video):
        try:
            if isinstance(video.masks, LabelMasks):
                yield from _label_file(video.masks.path(index), video.frames.size, states)
            else:
                for i, state in zip(ids, video.masks.read(index, ids)[1], strict=True):
                    states[i].add(int(state))
        except InputError as error:
            yield fault(error)
            whole = False
    for i in ids if whole else ():
        if PRESENT not in states[i]:
            yield note("empty", f"video {video.id}: object {i} has sentences, but no mask in any labelled frame")


def _label_file(path: Path, size: tuple[int, int], states: dict[int, set[int]]) -> Iterator[Finding]:
    """What a label image holds that is read, but not as other programs read it; adds the objects' `states`."""
    values = set(np.flatnonzero(np.bincount(tree.read_labels(path, size).ravel())).tolist())
    for i in states:
        states[i].add(PRESENT if i in values else ABSENT)
    with Image.open(path) as image:
        mode, (width, height) = image.mode, image.size
    if mode not in ("P", "L"):
        yield note("inconsistent", f"{path} is a PNG of mode {mode}, not palette or grey; its first channel is read")
    if (height, width) != size:
        fitted = f"mask of {width}x{height} for a frame of {size[1]}x{size[0]}"
        yield note("mis-sized", f"{path}: {fitted}; it is cut, or filled with background")
    if VOID in values:
        held = "only 0 and 255, as in DAVIS-2016" if values <= {0, VOID} else "255 beside object ids"
        text = f"{path.parent}: masks hold {held}; 255 is void to the DAVIS evaluator, not an object"
        yield note("inconsistent", text)
