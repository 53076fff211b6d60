"""Boxes: the two layouts, the generalised IoU of the reference, boxes around masks, and the inverse of a sigmoid.

`cxcywh` is (centre x, centre y, width, height), `xyxy` is (left, top, right, bottom); units are the caller's.
"""

from __future__ import annotations

import torch
from torch import Tensor

# ReferFormer adds this to both terms of every quotient, so that the GIoU of two empty boxes is 0 and not NaN.
SMOOTHING = 1e-6


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Boxes [..., 4] from centre and size to corners."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat((centre - size / 2, centre + size / 2), dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Boxes [..., 4] from corners to centre and size."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((low + high) / 2, high - low), dim=-1)


def giou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalised IoU of xyxy boxes [..., 4] with others [..., 4], leading dimensions broadcast; in -1..1.

    (I + s) / (U + s) - (E - U + s) / (E + s) with s = 1e-6, intersection I, union U and enclosing box E
    (Rezatofighi et al. 2019, smoothed as ReferFormer does).
    """
    area = _area(boxes[..., :2], boxes[..., 2:])
    other_area = _area(others[..., :2], others[..., 2:])
    intersection = _area(
        torch.maximum(boxes[..., :2], others[..., :2]),
        torch.minimum(boxes[..., 2:], others[..., 2:]),
    )
    union = area + other_area - intersection
    enclosing = _area(
        torch.minimum(boxes[..., :2], others[..., :2]),
        torch.maximum(boxes[..., 2:], others[..., 2:]),
    )
    overlap = (intersection + SMOOTHING) / (union + SMOOTHING)
    return overlap - (enclosing - union + SMOOTHING) / (enclosing + SMOOTHING)


def pairwise_giou(boxes_N4: Tensor, others_M4: Tensor) -> Tensor:
    """`giou` of every xyxy box [..., N, 4] with every other [..., M, 4]: [..., N, M]."""
    return giou(boxes_N4[..., :, None, :], others_M4[..., None, :, :])


def masks_to_boxes(masks: Tensor, *, inclusive: bool = False) -> Tensor:
    """Tight xyxy boxes [..., 4] in pixels (float32) around bool masks [..., H, W]; an empty mask gives zeros.

    The right and bottom edges lie after the last pixel; with `inclusive` they are its index, as published (D8).
    """
    rows, columns = masks.any(dim=-1), masks.any(dim=-2)
    top, bottom = _extent(rows)
    left, right = _extent(columns)
    last = 0 if inclusive else 1
    boxes = torch.stack((left, top, right + last, bottom + last), dim=-1)
    return torch.where(rows.any(dim=-1, keepdim=True), boxes, 0).float()


def union_box(boxes: Tensor, present: Tensor, dim: int) -> Tensor:
    """The smallest xyxy box around those boxes [..., 4] along `dim` that are `present` [...]; zeros where none is.

    `dim` counts the dimensions of `present`.
    """
    dim %= present.dim()
    low = torch.where(present[..., None], boxes[..., :2], torch.inf).amin(dim)
    high = torch.where(present[..., None], boxes[..., 2:], -torch.inf).amax(dim)
    return torch.where(present.any(dim)[..., None], torch.cat((low, high), dim=-1), 0)


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """log(x / (1 - x)) of x clamped to 0..1, both terms kept above `eps`, so the ends stay finite."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def _area(low: Tensor, high: Tensor) -> Tensor:
    """Area of the boxes between two corners, 0 where they do not span one."""
    width, height = (high - low).clamp(min=0).unbind(dim=-1)
    return width * height


def _extent(line: Tensor) -> tuple[Tensor, Tensor]:
    """First and last True along the last dimension of a bool tensor (meaningless where there is none)."""
    length = line.shape[-1]
    index = torch.arange(length, device=line.device)
    return torch.where(line, index, length).amin(-1), torch.where(line, index, -1).amax(-1)
