"""What each corruption does to a mask, which frames become references, and how often."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from models.tracking_training import (
    CorruptionConfig,
    corrupt,
    dilate,
    drop_patch,
    erode,
    reference_index,
    roughen,
    scheduled_probability,
    tracked,
    warp,
)
from util.boxes import masks_to_boxes

PROBABILITIES = ("erode", "dilate", "boundary", "drop", "wrong_object", "stale", "jitter")
OFF = replace(CorruptionConfig(), **dict.fromkeys(PROBABILITIES, 0.0))


def _generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def _squares(count: int = 3) -> Tensor:
    """Masks [N, 24, 32] of a 10 x 12 rectangle, rows 6 to 15, columns 10 to 21."""
    masks = torch.zeros(count, 24, 32)
    masks[:, 6:16, 10:22] = 1
    return masks


def _box(mask: Tensor) -> list[float]:
    return masks_to_boxes(mask > 0.5).tolist()


def test_dilate_and_erode_by_each_masks_own_radius() -> None:
    radii = torch.tensor([0.0, 1, 2])
    assert [_box(mask) for mask in dilate(_squares(), radii, 2)] == [[10, 6, 22, 16], [9, 5, 23, 17], [8, 4, 24, 18]]
    assert [_box(mask) for mask in erode(_squares(), radii, 2)] == [[10, 6, 22, 16], [11, 7, 21, 15], [12, 8, 20, 14]]
    for result in (dilate(_squares(), radii, 2), erode(_squares(), radii, 2)):
        assert _filled(result)


def test_the_border_does_not_erode() -> None:
    assert (erode(torch.ones(1, 5, 7), torch.ones(1), 1) == 1).all()


def _filled(masks: Tensor) -> bool:
    """Whether each mask is exactly its own box."""
    boxes = masks_to_boxes(masks > 0.5)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    return torch.equal(masks.sum((-2, -1)), area)


def test_roughen_changes_the_edge_alone() -> None:
    masks = _squares(2)
    rough = roughen(masks, torch.rand(2, 24, 32), 2)
    band = (dilate(masks, torch.full((2,), 2.0), 2) - erode(masks, torch.full((2,), 2.0), 2)).bool()
    assert torch.equal(rough[~band], masks[~band])
    assert (rough[band] != masks[band]).float().mean() > 0.5
    assert rough.min() >= 0 and rough.max() <= 1 and rough[band].std() > 0.2
    assert not torch.equal(rough[0], rough[1])


def test_drop_patch_cuts_its_rectangle_out() -> None:
    place, size = torch.tensor([[0.5, 0.5], [0.0, 1.0]]), torch.tensor([[0.5, 0.2], [0.5, 0.4]])
    expected = _squares(2)
    expected[0, 10:12, 13:19] = 0  # 6 x 2 around the middle
    expected[1, 14:16, 10:13] = 0  # a quarter of a patch at the lower left
    assert torch.equal(drop_patch(_squares(2), place, size), expected)


def test_warp_shifts_scales_and_turns_about_the_object() -> None:
    still, one = torch.zeros(1, 2), torch.ones(1)
    masks = _squares(1)
    torch.testing.assert_close(warp(masks, still, one, 0 * one), masks)
    shifted = warp(masks, torch.tensor([[0.25, -0.2]]), one, 0 * one)  # 3 right, 2 up
    torch.testing.assert_close(shifted, masks.roll((-2, 3), (-2, -1)))
    assert _box(warp(masks, still, 1.5 * one, 0 * one)[0]) == pytest.approx([7, 3.5, 25, 18.5], abs=1)
    assert _box(warp(masks, still, one, math.pi / 2 * one)[0]) == pytest.approx([11, 5, 21, 17], abs=1)
    corner = torch.zeros(1, 24, 32)
    corner[:, 8:14, 10:14] = 1
    corner[:, 8:10, 10:22] = 1  # heavy at the upper left
    right = warp(corner, still, one, math.pi / 2 * one)  # clockwise: heavy at the upper right
    x, y = (right[0].sum(d) @ torch.arange(n).float() / right.sum() for d, n in ((0, 32), (1, 24)))
    assert x > 16 and y < 11


def test_corrupt_off_is_the_mask_itself() -> None:
    masks = torch.rand(4, 24, 32)
    assert torch.equal(corrupt(masks, torch.ones_like(masks), OFF, _generator()), masks)


def _smaller(before: Tensor, after: Tensor) -> bool:
    return bool((after <= before).all()) and after.sum() < before.sum()


def _larger(before: Tensor, after: Tensor) -> bool:
    return bool((after >= before).all()) and after.sum() > before.sum()


def _soft(before: Tensor, after: Tensor) -> bool:
    return bool(((after > 0) & (after < 1)).any()) and after[10, 15] == 1


def _moved(before: Tensor, after: Tensor) -> bool:
    overlap = (before * after).sum() / torch.maximum(before, after).sum()
    return bool(0.4 < overlap < 1)


def _other(before: Tensor, after: Tensor) -> bool:
    return bool((after[:4] == 1).all()) and not after[4:].any()


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("erode", _smaller),
        ("dilate", _larger),
        ("boundary", _soft),
        ("drop", _smaller),
        ("jitter", _moved),
        ("wrong_object", _other),
    ],
)
def test_each_switch_of_corrupt(name: str, effect: Callable[[Tensor, Tensor], bool]) -> None:
    masks, others = _squares(40), torch.zeros(40, 24, 32)
    others[:, :4] = 1
    always = corrupt(masks, others, replace(OFF, **{name: 1.0}), _generator())
    assert all(effect(before, after) for before, after in zip(masks, always, strict=True))
    assert always.min() >= 0 and always.max() <= 1
    half = corrupt(masks, others, replace(OFF, **{name: 0.5}), _generator())
    changed = (half != masks).flatten(1).any(1)
    assert 8 <= changed.sum() <= 32
    assert all(effect(before, after) for before, after in zip(masks[changed], half[changed], strict=True))
    assert torch.equal(half, corrupt(masks, others, replace(OFF, **{name: 0.5}), _generator()))


def test_all_at_once_keeps_the_range_and_empty_masks_empty() -> None:
    config = replace(CorruptionConfig(), **dict.fromkeys(PROBABILITIES, 1.0))
    masks = torch.cat((_squares(4), torch.zeros(4, 24, 32)))
    result = corrupt(masks, torch.zeros_like(masks), config, _generator())
    assert result.isfinite().all() and result.min() >= 0 and result.max() <= 1
    assert not result[4:].any() and result[:4].flatten(1).any(1).all()


def test_no_other_object_is_no_swap() -> None:
    masks = _squares(4)
    others = torch.zeros_like(masks)
    others[2:, 0] = 1
    result = corrupt(masks, others, replace(OFF, wrong_object=1.0), _generator())
    assert torch.equal(result, torch.cat((masks[:2], others[2:])))


def test_references_are_neighbours_half_of_them_in_the_future() -> None:
    index = reference_index(200, 5, _generator())
    assert {tuple(row) for row in index.tolist()} == {(1, 0, 3, 2, 3), (1, 2, 1, 4, 3)}  # the first is the published
    assert 0.3 < (index[:, 1] == 2).float().mean() < 0.7
    for frames in (2, 3, 8):
        index = reference_index(20, frames, _generator())
        assert ((index - torch.arange(frames)).abs() == 1).all()
        assert index.min() >= 0 and index.max() < frames
    assert reference_index(3, 1, _generator()).tolist() == [[0], [0], [0]]


def test_stale_references_are_further_away_where_the_clip_allows() -> None:
    index = reference_index(300, 5, _generator(), stale=1.0)
    distance = (index - torch.arange(5)).abs()
    assert (distance >= 2).all()
    assert [sorted(set(index[:, t].tolist())) for t in range(5)] == [[2, 3, 4], [3, 4], [0, 4], [0, 1], [0, 1, 2]]
    assert ((reference_index(20, 3, _generator(), stale=1.0) - torch.arange(3)).abs() == torch.tensor([2, 1, 2])).all()
    some = (reference_index(300, 5, _generator(), stale=0.3) - torch.arange(5)).abs() >= 2
    assert 0.25 < some.float().mean() < 0.35


def test_share_without_tracking() -> None:
    given = tracked((500, 2), 0.2, _generator())
    assert given.shape == (500, 2) and 0.75 < given.float().mean() < 0.85
    assert tracked((50, 2), 0.0, _generator()).all() and not tracked((50, 2), 1.0, _generator()).any()


def test_self_prediction_rises_after_the_warm_up() -> None:
    shares = [scheduled_probability(step, 100, final=0.5, warmup=0.2) for step in (0, 20, 60, 100, 120)]
    assert shares == pytest.approx([0, 0, 0.25, 0.5, 0.5])
    assert scheduled_probability(1, 100, warmup=0.0) == pytest.approx(0.005)
    assert scheduled_probability(50, 100, final=0.0) == 0
