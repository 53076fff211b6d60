"""JHMDB-Sentences on disk: reading the official tree as `ReferringVideo`, and writing one. It is for evaluation only.

    ROOT/jhmdb_sentences_samples_metadata.json              [video, frame's path, masks' path, frames, text], MTTR's
    ROOT/Rename_Images/ACTION/VIDEO/FRAME.png               frames counted from 1
    ROOT/puppet_mask/ACTION/VIDEO/puppet_mask.mat           MATLAB 5; `part_mask` H x W x T, one mask for each frame

The paths in the rows begin with the folder that held ROOT on their author's machine, so they count from Rename_Images
and puppet_mask on. A row is one of three frames of a video that are scored (they were drawn without a seed, so the
published file alone reproduces published numbers); a video has one sentence and one object, 1. In all other frames
the masks are IGNORE.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from datasets import tree
from datasets.video import FolderVideo
from util.errors import InputError
from util.types import IGNORE, PRESENT, Expression, ReferringVideo

FPS = 30.0  # HMDB-51's, of which these are clips
SAMPLES = "jhmdb_sentences_samples_metadata.json"
FRAMES, MASKS = "Rename_Images", "puppet_mask"
OBJECT = 1  # the id of a video's one object
ACTION = "synthetic"  # folder of the videos that we write

_Row = tuple[str, str, int, str]  # path of the frame, path of the masks, number of frames, text


def read_jhmdb(root: str | Path, split: str = "test") -> tree.LazyVideos:
    """The videos of the one split, `test`, in the order of their ids.

    Needs scipy for the masks. Raises InputError when the samples are missing or malformed as a whole, and at an index
    for a fault of that video.
    """
    root = Path(root)
    _only_split(split)
    path = root / SAMPLES
    content = tree.read_json(path, "the samples; they come with MTTR and ReferFormer, and")
    rows: dict[str, list[_Row]] = {}
    for number, row in enumerate(content if isinstance(content, list) else [content]):
        types = [type(value) for value in row] if isinstance(row, list) else []
        if types != [str, str, str, int, str]:
            raise InputError(f"{path}: row {number} is not [video, frame, masks, frames, text]; download it again")
        rows.setdefault(row[0], []).append(tuple(row[1:]))
    tree.require_folder(root / FRAMES, "the frames, ACTION/VIDEO/00001.png ...,")
    tree.require_folder(root / MASKS, "the masks, ACTION/VIDEO/puppet_mask.mat,")
    return tree.LazyVideos(sorted(rows), partial(_video, root, rows))


def image_id(video: ReferringVideo, expression: Expression, index: int) -> str:
    """The published ground truth's name of frame `index`, from 0: `v_{video}_f_{frame}`; a video has one sentence."""
    return f"v_{video.id}_f_{index + 1}"


def _only_split(split: str) -> None:
    if split != "test":
        raise InputError(f"JHMDB-Sentences is for evaluation: its one split is test, not {split!r}")


def _video(root: Path, rows: dict[str, list[_Row]], video: str) -> ReferringVideo:
    path = root / SAMPLES
    where = f"{path}: video {video!r}"
    tree.plain_name(video, path)
    images = [_inside(root, FRAMES, frame, path) for frame, _, _, _ in rows[video]]
    about = {
        (image.parent, masks, count, text) for image, (_, masks, count, text) in zip(images, rows[video], strict=True)
    }
    if len(about) > 1:
        raise InputError(f"{where} has rows of different folders, lengths or sentences; download the file again")
    folder, masks, count, text = about.pop()
    labelled = tuple(sorted({tree.whole_number(image.stem, f"{where}, frame") - 1 for image in images}))
    if not 0 <= labelled[0] <= labelled[-1] < count < 1e6:
        raise InputError(f"{where} has {count} frames, and scores frame {labelled[-1] + 1}; download the file again")
    if not text.strip():
        raise InputError(f"{where} has no text; write its sentence, or leave its rows out")
    names = tuple(f"{number:05d}" for number in range(1, count + 1))
    tree.require_folder(folder, "the frames of this video")
    frames = FolderVideo((folder / f"{name}.png" for name in names), FPS)
    truth = PuppetMasks(_inside(root, MASKS, masks, path), frames, labelled)
    return ReferringVideo(video, frames, names, (Expression("0", text, (OBJECT,)),), truth, labelled)


def _inside(root: Path, folder: str, given: str, path: Path) -> Path:
    """A row's path, taken from `folder` on. Raises InputError where it has no such part or climbs out of it."""
    parts = PurePosixPath(given).parts
    if folder not in parts:
        raise InputError(f"{path}: {given[:100]!r} is not a path in {folder}; download the file again")
    inner = parts[parts.index(folder) :]
    return root.joinpath(*(tree.plain_name(part, path) for part in inner))


class PuppetMasks:
    """Masks of a video's one object out of its puppet_mask.mat, known in the scored frames."""

    def __init__(self, path: Path, frames: FolderVideo, labelled: Collection[int]) -> None:
        self._path, self._frames, self._labelled = path, frames, frozenset(labelled)

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Masks bool [N, H, W] and states int8 [N]. Raises InputError for a missing, unreadable or misfitting file."""
        masks = np.zeros((len(object_ids), *self._frames.size), bool)
        if index not in self._labelled or not object_ids:
            return masks, np.full(len(object_ids), IGNORE, np.int8)
        masks[:] = tree.fit_mask(self.stored(index), self._frames.size, str(self._path))
        return masks, tree.states_of(masks)

    def stored(self, index: int) -> np.ndarray:
        """The mask bool [H, W] of frame `index`, at the size it has in the file. Raises InputError as `read` does."""
        count = self._all.shape[2]
        if index >= count:
            raise InputError(f"{self._path} has {count} masks, none for frame {index + 1}; unpack it again")
        return self._all[..., index]

    @cached_property
    def _all(self) -> np.ndarray:
        return read_puppet_mask(self._path, self._frames.size)


def read_puppet_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """`part_mask` of a file, bool [H, W, T], as stored.

    Nothing is read of masks that are not near `size`. Raises InputError for a missing file, one that is
    not MATLAB 5, and a member that is missing or of another shape.
    """
    try:
        import scipy.io
    except ImportError:
        raise InputError("the masks of JHMDB-Sentences are MATLAB files; to read them: pip install scipy") from None
    if not path.is_file():
        raise InputError(f"missing {path}: the masks of this video are expected there; unpack puppet_mask again")
    try:
        shapes = {name: shape for name, shape, _ in scipy.io.whosmat(path)}
        _check_shape(shapes.get("part_mask"), size, path)
        stored = np.asarray(scipy.io.loadmat(path, variable_names=["part_mask"])["part_mask"]) > 0
    except InputError:
        raise
    except Exception as error:  # a damaged file makes scipy fail anywhere, with any type
        raise InputError(f"cannot read {path} as a MATLAB 5 file: {error}; unpack it again") from error
    return stored if stored.ndim == 3 else stored[..., None]  # MATLAB drops a last axis of 1


def _check_shape(shape: tuple[int, ...] | None, size: tuple[int, int], path: Path) -> None:
    if shape is None or len(shape) not in (2, 3):
        raise InputError(f"{path} has no part_mask of H x W x T; unpack puppet_mask again")
    if not tree.near(shape[0], shape[1], size):
        raise InputError(f"{path}: masks of {shape[1]}x{shape[0]} for frames of {size[1]}x{size[0]}; fix the data")


# ---- writing ---------------------------------------------------------------------------------------------------------


def write_jhmdb(
    videos: Iterable[ReferringVideo], root: str | Path, split: str, *, quality: int = tree.JPEG_QUALITY
) -> tree.Written:
    """Write videos as the split `test` of a new tree at `root`; frames are PNG, hence exact, and `quality` has no part.

    Of each video the first sentence with one object that is seen is written, the others are left out. Up to three
    frames are scored, spread evenly over those that show the object. The samples come last, so an interrupted tree is
    not taken for a whole one. Raises InputError for a folder that is not empty.
    """
    _only_split(split)
    root = tree.new_folder(Path(root))
    samples: list[list[Any]] = []
    left_out: list[str] = []
    written = 0
    for video in videos:
        tree.plain_name(video.id, root)
        chosen = None
        for expression in video.expressions:
            reason = "a video has one sentence" if chosen else None
            if not chosen:
                reason, stored = _masks_of(video, expression)
                chosen = None if reason else (expression, stored)
            if reason:
                left_out.append(f"{video.id}/{expression.id}: {reason}")
        if chosen:
            samples += _write_video(root, video, *chosen)
            written += 1
    tree.write_json(root / SAMPLES, samples)
    return tree.Written(root, written, written, tuple(left_out))


def _masks_of(video: ReferringVideo, expression: Expression) -> tuple[str | None, np.ndarray]:
    """Why a sentence cannot be held, or None; its object's masks uint8 [H, W, T]."""
    stored = np.zeros((*video.frames.size, len(video.frames)), np.uint8)
    if video.masks is None or expression.object_ids is None:
        return "no answer", stored
    if len(expression.object_ids) != 1:
        return f"{len(expression.object_ids)} objects", stored
    for index in range(len(video.frames)):
        masks, states = video.masks.read(index, expression.object_ids)
        stored[..., index] = masks[0] & (states[0] == PRESENT)
    return (None if stored.any() else "its object is never seen"), stored


def _write_video(root: Path, video: ReferringVideo, expression: Expression, stored: np.ndarray) -> list[list[Any]]:
    """Frames and masks; returns the video's rows."""
    import scipy.io

    folder, masks = root / FRAMES / ACTION / video.id, root / MASKS / ACTION / video.id
    folder.mkdir(parents=True)
    masks.mkdir(parents=True)
    for index in range(len(video.frames)):
        Image.fromarray(video.frames[index]).save(folder / f"{index + 1:05d}.png")
    scipy.io.savemat(masks / "puppet_mask.mat", {"part_mask": stored}, do_compression=True)
    seen = np.flatnonzero(stored.any((0, 1)))
    scored = np.unique(seen[np.linspace(0, len(seen) - 1, 5).round().astype(int)[1:4]])
    base = f"./jhmdb_sentences/{{}}/{ACTION}/{video.id}"
    return [
        [video.id, f"{base.format(FRAMES)}/{index + 1:05d}.png", f"{base.format(MASKS)}/puppet_mask.mat",
         len(video.frames), expression.text]
        for index in scored.tolist()
    ]  # fmt: skip
