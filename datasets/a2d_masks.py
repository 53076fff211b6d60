"""The HDF5 masks of A2D-Sentences: one file for each labelled frame, VIDEO/FRAME.h5, frames counted from 1.

    instance  N numbers, those of a2d_annotation.txt
    reMask    N x W x H of 0 and 1 (MATLAB's column order, so transposed here); W x H where N is 1
    reBBox    4 x N: x1, y1, x2, y2; not read, written for other readers

Only the instances that appear in a frame are listed. One official file (EadxBPmQvtg, frame 25) lists an instance twice;
the first of the two counts, as it does in the published ground truth.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets import tree
from util.errors import InputError
from util.types import IGNORE

MOST = 10_000  # instances in one frame; more means that the file is damaged


class InstanceMasks:
    """Masks of a video, known in the frames that have a file and for the instances which that file lists.

    In other frames, and for an instance that is not listed, the state is IGNORE: the data set says nothing of them, and
    the published evaluation leaves such a pair of frame and instance out.
    """

    def __init__(self, folder: Path, size: tuple[int, int], labelled: Collection[int]) -> None:
        """`labelled`: positions of the labelled frames, from 0; frame 0 is the file 00001.h5."""
        self._folder, self._size, self._labelled = folder, size, frozenset(labelled)

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Masks bool [N, H, W] and states int8 [N]. Raises InputError for a missing, unreadable or misfitting file."""
        masks = np.zeros((len(object_ids), *self._size), bool)
        states = np.full(len(object_ids), IGNORE, np.int8)
        if index in self._labelled:
            path = mask_path(self._folder, index)
            found = read_instances(path, object_ids, self._size)
            for place, instance in enumerate(object_ids):
                if instance in found:
                    masks[place] = tree.fit_mask(found[instance], self._size, str(path))
                    states[place] = tree.states_of(masks[place])
        return masks, states


def mask_path(folder: Path, index: int) -> Path:
    """The file of frame `index`, counted from 0, in a video's folder."""
    return folder / f"{index + 1:05d}.h5"


def labelled_frames(folder: Path) -> tuple[int, ...]:
    """Positions from 0 of the frames that have a file, ascending. Raises InputError for a name that is no number."""
    tree.require_folder(folder, "the masks of this video")
    found = [tree.whole_number(path.stem, str(path)) - 1 for path in folder.glob("*.h5") if path.name[0] != "."]
    if not found:
        raise InputError(f"{folder} has no mask (00001.h5, ...); unpack a2d_annotation_with_instances again")
    return tuple(sorted(found))


def read_instances(path: Path, wanted: Collection[int], size: tuple[int, int]) -> dict[int, np.ndarray]:
    """Masks bool [H, W], as stored, of those instances of `wanted` that the file lists.

    Nothing is read of a mask that is not near `size`. Raises InputError for a missing file, one that is
    no whole HDF5 file, a missing member, and a shape that does not fit.
    """
    h5py = _h5py()
    if not path.is_file():
        raise InputError(f"missing {path}: the masks of this frame are expected there; unpack them again")
    try:
        with h5py.File(path, "r") as file:
            numbers = _numbers(_member(file, "instance", path), path)
            member = _member(file, "reMask", path)
            _check_shape(member.shape, len(numbers), size, path)
            # from the back, so that the first of two equal numbers stays
            places = {number: place for place, number in reversed(list(enumerate(numbers))) if number in wanted}
            slices = {n: member[place] if len(member.shape) == 3 else member[:] for n, place in places.items()}
            return {number: (np.asarray(mask) > 0).T for number, mask in slices.items()}
    except InputError:
        raise
    except Exception as error:  # a damaged file makes h5py fail anywhere, with any type
        raise InputError(f"cannot read {path} as HDF5: {error}; unpack it again") from error


def _member(file: Any, name: str, path: Path) -> Any:
    if name not in file or not hasattr(file[name], "shape") or file[name].shape is None:
        raise InputError(f"{path} has no array {name!r}; a file of masks holds instance and reMask: unpack it again")
    return file[name]


def _numbers(member: Any, path: Path) -> list[int]:
    if member.size > MOST:
        raise InputError(f"{path} lists {member.size} instances in one frame; it is damaged: unpack it again")
    values = np.asarray(member).ravel()
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all() or (values != values.round()).any():
        raise InputError(f"{path}: the members of 'instance' are not whole numbers; unpack it again")
    return [int(value) for value in values]


def _check_shape(shape: tuple[int, ...], instances: int, size: tuple[int, int], path: Path) -> None:
    """More masks than instances do occur; the surplus belongs to nobody."""
    fits = shape[0] >= instances if len(shape) == 3 else len(shape) == 2 and instances <= 1
    if not fits:
        raise InputError(
            f"{path}: reMask is {'x'.join(map(str, shape))} for {instances} instances, not N x W x H (or W x H for "
            "one); unpack it again"
        )
    width, height = shape[-2:]
    if not tree.near(height, width, size):
        raise InputError(f"{path}: mask of {width}x{height} for a frame of {size[1]}x{size[0]}; fix the data")


def write_instances(path: Path, masks: Mapping[int, np.ndarray]) -> None:
    """Write the masks [H, W] of a frame's instances, each of which shows something."""
    stacked = np.stack([mask.T for mask in masks.values()]).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _h5py().File(path, "w") as file:
        file["instance"] = np.array(list(masks), np.int64)
        file.create_dataset("reMask", data=stacked[0] if len(masks) == 1 else stacked, compression="gzip")
        file["reBBox"] = np.array([mask_box(mask) for mask in masks.values()], np.float64).T


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of a mask [H, W], the latter two exclusive; zeros where it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise InputError("the masks of A2D-Sentences are HDF5 files; to read them: pip install h5py") from None
    return h5py
