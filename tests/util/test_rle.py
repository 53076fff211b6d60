"""Run-length masks: the same bytes as COCO's, and damaged ones are refused."""

from __future__ import annotations

import numpy as np
import pytest

from util import rle
from util.errors import InputError


def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    found = [np.zeros((5, 7), bool), np.ones((5, 7), bool), np.eye(6, 9, dtype=bool), np.zeros((1, 1), bool)]
    found += [rng.random((h, w)) < p for h, w in ((17, 30), (64, 1), (1, 64)) for p in (0.02, 0.5, 0.98)]
    blob = np.zeros((720, 1280), bool)
    blob[100:600, 50:1200] = True
    return [*found, blob, ~blob]


@pytest.mark.parametrize("mask", masks(), ids=lambda mask: f"{mask.shape[0]}x{mask.shape[1]}")
def test_bytes_equal_coco_and_round_trip(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = rle.encode(mask)
    assert ours["counts"] == expected["counts"].decode("ascii")
    assert ours["size"] == list(expected["size"])
    assert (rle.decode(ours) == mask).all()
    assert rle.decode(expected).dtype == bool
    assert rle.area(ours) == mask.sum()


def test_plain_run_lengths_are_read() -> None:
    assert rle.decode({"size": [2, 3], "counts": [1, 2, 3]}).tolist() == [[False, True, False], [True, False, False]]


def test_any_non_zero_value_is_foreground() -> None:
    assert rle.area(rle.encode(np.array([[0, 255], [3, 0]]))) == 2


@pytest.mark.parametrize(
    "damaged",
    [
        {"size": [4, 4], "counts": [1, 2]},
        {"size": [4, 4], "counts": [-1, 17]},
        {"size": [4, 4], "counts": "~~"},
        {"size": [4, 4], "counts": "P"},
        {"size": [4, 4], "counts": "oooooooooooooooo0"},
        {"size": [4], "counts": "0"},
        {"counts": "0"},
        None,
    ],
)
def test_damaged_masks_are_refused(damaged: object) -> None:
    with pytest.raises(InputError):
        rle.decode(damaged)


def test_only_one_frame_at_a_time() -> None:
    with pytest.raises(InputError, match="two dimensions"):
        rle.encode(np.zeros((2, 3, 4)))
