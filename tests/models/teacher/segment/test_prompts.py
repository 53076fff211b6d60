"""Prompts: what is refused, how a box and a mask reach the model's square, and points that lie well inside."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.teacher.interfaces import Prompt
from models.teacher.segment.prompts import BOTTOM_RIGHT, POINTS, TOP_LEFT, Clicks, points_of, prepare
from util.errors import InputError

SIZE, SIDE = (60, 80), 128
RING = np.hypot(*(np.indices(SIZE) - np.array([30, 40])[:, None, None]))
RING_HW = (RING < 20) & (RING > 8)


def test_a_box_is_scaled_to_the_square_and_cut_at_the_frame() -> None:
    told = prepare(Prompt(0, box=(-5.0, 15.0, 40.0, 90.0)), SIZE, SIDE)
    assert isinstance(told, Clicks)
    assert told.points_P2.tolist() == [[0.0, 32.0], [64.0, 128.0]]
    assert told.labels_P.tolist() == [TOP_LEFT, BOTTOM_RIGHT]


def test_a_thin_mask_survives_a_smaller_square() -> None:
    thin = np.zeros((600, 800), bool)
    thin[300] = True
    told = prepare(Prompt(0, mask_HW=thin), (600, 800), SIDE)
    assert isinstance(told, torch.Tensor) and set(told.unique().tolist()) == {0.0, 1.0}
    assert 1 <= told.any(1).sum() <= 2


EMPTY = np.zeros(SIZE, bool)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(0), "has 0 of them"),
        (Prompt(0, box=(1, 1, 5, 5), points=((3, 3, 1),)), "has 2 of them"),
        (Prompt(0, box=(10, 10, 10, 20)), "no area"),
        (Prompt(0, box=(90, 10, 99, 20)), "no area"),
        (Prompt(0, box=(float("nan"), 10, 99, 20)), "no area"),
        (Prompt(0, mask_HW=EMPTY), "empty"),
        (Prompt(0, mask_HW=EMPTY[1:]), "at the video's size"),
        (Prompt(0, points=((81, 3, 1),)), "beside the 80x60 frame"),
        (Prompt(0, points=((8, 3, 2),)), "label is not 0 or 1"),
        (Prompt(0, points=((8, 3, 0),)), "at least one on it"),
    ],
)
def test_a_prompt_that_means_nothing_is_refused(prompt: Prompt, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(prompt, SIZE, SIDE)


def test_points_lie_inside_away_from_the_border_and_depend_on_the_key_alone() -> None:
    points = points_of(RING_HW, "video/1")
    assert len(points) == POINTS and all(label == 1 for *_, label in points)
    depths = [min(20 - r, r - 8) for r in (np.hypot(y - 30.5, x - 40.5) for x, y, _ in points)]
    assert min(depths) > 1.5  # a uniform draw would reach the border
    assert depths[0] > 5  # the ring is 12 pixels thick
    assert points == points_of(RING_HW, "video/1") != points_of(RING_HW, "video/2")
    prepare(Prompt(0, points=points), SIZE, SIDE)


def test_one_pixel_gives_as_many_points_and_none_gives_an_error() -> None:
    one = EMPTY.copy()
    one[59, 79] = True
    assert points_of(one, "a") == ((79.5, 59.5, 1),) * POINTS
    with pytest.raises(InputError, match="empty mask"):
        points_of(EMPTY, "a")
