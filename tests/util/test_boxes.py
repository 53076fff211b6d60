"""Boxes: round trips, the smoothed GIoU against its goldens, tight boxes, the inverse sigmoid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from util.boxes import (
    cxcywh_to_xyxy,
    giou,
    inverse_sigmoid,
    masks_to_boxes,
    pairwise_giou,
    union_box,
    xyxy_to_cxcywh,
)


def _giou_of_centres(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    return giou(cxcywh_to_xyxy(torch.tensor(box)), cxcywh_to_xyxy(torch.tensor(other))).item()


def test_layouts_round_trip() -> None:
    boxes = torch.tensor([[0.25, 0.5, 0.2, 0.4], [0.0, 0.0, 0.0, 0.0]])
    corners = cxcywh_to_xyxy(boxes)
    torch.testing.assert_close(corners[0], torch.tensor([0.15, 0.3, 0.35, 0.7]))
    torch.testing.assert_close(xyxy_to_cxcywh(corners), boxes)


def test_giou_goldens() -> None:
    assert abs(_giou_of_centres((0.25, 0.25, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5)) - -0.0793645) < 1e-6
    assert abs(_giou_of_centres((0, 0, 0, 0), (0.5, 0.5, 0.4, 0.4)) - -0.6734638) < 1e-6
    assert _giou_of_centres((0, 0, 0, 0), (0, 0, 0, 0)) == 0


def test_giou_of_a_box_with_itself_is_one_and_it_is_symmetric() -> None:
    boxes = cxcywh_to_xyxy(torch.rand(6, 4) * 0.5 + 0.2)
    pairs = pairwise_giou(boxes, boxes)
    torch.testing.assert_close(pairs.diagonal(), torch.ones(6), atol=3e-5, rtol=0)  # the smoothing over the area
    torch.testing.assert_close(pairs, pairs.T)


def test_pairwise_giou_is_giou_of_every_pair() -> None:
    boxes, others = torch.rand(2, 3, 4).cumsum(-1), torch.rand(2, 5, 4).cumsum(-1)
    pairs = pairwise_giou(boxes, others)
    assert pairs.shape == (2, 3, 5)
    torch.testing.assert_close(pairs[1, 2, 4], giou(boxes[1, 2], others[1, 4]))


def test_masks_to_boxes() -> None:
    masks = torch.zeros(2, 2, 6, 8, dtype=torch.bool)
    masks[0, 0, 1:4, 2:7] = True
    masks[0, 1, 5, 0] = True  # one pixel in a corner
    masks[1, 0] = True
    expected = torch.tensor([[[2.0, 1, 7, 4], [0, 5, 1, 6]], [[0, 0, 8, 6], [0, 0, 0, 0]]])
    assert torch.equal(masks_to_boxes(masks), expected)
    expected[..., 2:] -= torch.tensor([[1.0, 1], [1, 0]])[..., None]
    assert torch.equal(masks_to_boxes(masks, inclusive=True), expected)


def test_union_box_is_the_box_of_the_union() -> None:
    masks = torch.zeros(3, 2, 6, 8, dtype=torch.bool)
    masks[0, 0, 1:3, 2:4] = True
    masks[1, 0, 4:6, 3:7] = True
    present = masks.flatten(2).any(-1)
    boxes = union_box(masks_to_boxes(masks), present, dim=0)
    assert torch.equal(boxes, masks_to_boxes(masks.any(0)))
    assert torch.equal(boxes[1], torch.zeros(4))


def test_inverse_sigmoid() -> None:
    x = torch.tensor([0.1, 0.5, 0.9])
    torch.testing.assert_close(inverse_sigmoid(x).sigmoid(), x)
    torch.testing.assert_close(
        inverse_sigmoid(torch.tensor([0.0, 1e-6, 0.5, 1.0, -3.0])),
        torch.tensor([-11.512925, -11.512924, 0.0, 11.512925, -11.512925]),
    )


def test_oracle_boxes(oracles: Path) -> None:
    golden = np.load(oracles / "referformer" / "E7_box.npz")
    boxes, others = (cxcywh_to_xyxy(torch.from_numpy(golden[name])) for name in ("b1", "b2"))
    np.testing.assert_allclose(pairwise_giou(boxes, others).numpy(), golden["giou"], atol=1e-5)
    inverse = inverse_sigmoid(torch.from_numpy(golden["inv_in"]))
    np.testing.assert_allclose(inverse.numpy(), golden["inv_out"], atol=1e-5)
