"""Training truth as the matcher and the losses compare it: on the stride-4 grid, with no more objects than queries.

Shape letters as in `util/types.py`; here N counts the target rows of a sentence (its objects, the smallest merged
where there are more of them than queries) and h w is the grid of the predicted masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.levels import cells_inside
from util.boxes import cxcywh_to_xyxy, union_box, xyxy_to_cxcywh
from util.protocol import Protocol
from util.types import ABSENT, IGNORE, PRESENT, Targets

STRIDE = 4


@dataclass(frozen=True)
class GridTargets:
    """Targets of B x E sentences.

    masks_BENThw   float32 0..1, the share of each stride-4 cell that is covered, or as published (M1) its centre
    boxes_BENT4    float32 cxcywh, zeros where the object is not present
    present_BENT   bool, the object is in the frame
    known_BENT     bool, the frame is labelled present or absent; other frames take part in no cost and no loss
    objects_BEN    bool, the row holds an object (all False: a no-target sentence)
    labels_BEN     int64 class
    rows_BEN       int64 [B, E, slots], the row that each object slot of the given targets went to
    pixels_Bhw     bool, the cells that mask costs and losses count
    weights_BE     float32, by which a sentence's losses are multiplied
    """

    masks_BENThw: Tensor
    boxes_BENT4: Tensor
    present_BENT: Tensor
    known_BENT: Tensor
    objects_BEN: Tensor
    labels_BEN: Tensor
    rows_BEN: Tensor
    pixels_Bhw: Tensor
    weights_BE: Tensor

    @property
    def seen_BEN(self) -> Tensor:
        """Objects that are present in at least one frame."""
        return self.present_BENT.any(dim=-1)

    def box_frames_BENT(self, protocol: Protocol) -> Tensor:
        """Frames that box costs and losses count: all known ones as published (D7), else those with the object."""
        return self.known_BENT if protocol.absent_boxes == "zero" else self.present_BENT


def grid_targets(
    targets: Targets, sizes_B2: Tensor, grid: tuple[int, int], queries: int, protocol: Protocol
) -> GridTargets:
    """Targets on a mask grid of `grid` = (h, w) cells, with at most `queries` rows per sentence.

    sizes_B2 is the (height, width) of the un-padded frames; it decides which cells count (`mask_padding`).
    """
    pixels_Bhw = _counted_pixels(sizes_B2, grid, protocol)
    if targets.objects_BEN.shape[2] > queries:
        targets, rows_BEN = merge_smallest(targets, queries)
    else:
        slots = torch.arange(targets.objects_BEN.shape[2], device=targets.objects_BEN.device)
        rows_BEN = slots.expand_as(targets.objects_BEN)
    real_BEN1 = targets.objects_BEN[..., None]
    return GridTargets(
        masks_BENThw=on_grid(targets.masks_BENTHW, grid, protocol) * pixels_Bhw[:, None, None, None],
        boxes_BENT4=targets.boxes_BENT4,
        present_BENT=real_BEN1 & (targets.states_BENT == PRESENT),
        known_BENT=real_BEN1 & (targets.states_BENT != IGNORE),
        objects_BEN=targets.objects_BEN,
        labels_BEN=targets.labels_BEN,
        rows_BEN=rows_BEN,
        pixels_Bhw=pixels_Bhw,
        weights_BE=targets.weights_BE,
    )


def union_BEThw(targets: GridTargets) -> Tensor:
    """What a sentence's objects, which do not overlap, cover together where they are present."""
    return (targets.masks_BENThw * targets.present_BENT[..., None, None]).sum(dim=2).clamp(max=1)


def merge_smallest(targets: Targets, rows: int) -> tuple[Targets, Tensor]:
    """At most `rows` objects per sentence: the largest stay, the others (by mask area over the clip) become one.

    Returns the targets, largest object first, and the row [B, E, N] each object went to. The merged object has the
    union of masks and boxes, and the label of its largest part. A frame in which any part is to be ignored is ignored,
    because the union is not known there; otherwise it is present where any part is.
    """
    area_BEN = targets.masks_BENTHW.sum(dim=(-3, -2, -1)).masked_fill(~targets.objects_BEN, -1)
    order_BEN = area_BEN.argsort(dim=-1, descending=True, stable=True)
    rank_BEN = order_BEN.argsort(dim=-1)

    def by_size(values: Tensor) -> tuple[Tensor, Tensor]:
        """Values [B, E, N, ...] of the largest rows - 1 objects, and of the others."""
        index = order_BEN.view(*order_BEN.shape, *[1] * (values.dim() - 3)).expand_as(values)
        ordered = values.gather(2, index)
        return ordered[:, :, : rows - 1], ordered[:, :, rows - 1 :]

    kept_masks, masks = by_size(targets.masks_BENTHW)
    kept_boxes, boxes = by_size(targets.boxes_BENT4)
    kept_states, states = by_size(targets.states_BENT)
    kept_objects, objects = by_size(targets.objects_BEN)
    kept_labels, labels = by_size(targets.labels_BEN)
    # slots beyond a sentence's objects fall into the merged row as well: they may say nothing there
    ignored = (objects[..., None] & (states == IGNORE)).any(dim=2)
    present = objects[..., None] & (states == PRESENT)
    state = torch.where(present.any(dim=2), PRESENT, ABSENT).masked_fill(ignored, IGNORE).to(states.dtype)
    mask = (masks & objects[..., None, None, None]).any(dim=2)
    box = xyxy_to_cxcywh(union_box(cxcywh_to_xyxy(boxes), present, dim=2))
    merged = Targets(
        masks_BENTHW=torch.cat((kept_masks, mask[:, :, None]), dim=2),
        boxes_BENT4=torch.cat((kept_boxes, box[:, :, None]), dim=2),
        states_BENT=torch.cat((kept_states, state[:, :, None]), dim=2),
        objects_BEN=torch.cat((kept_objects, objects.any(dim=2, keepdim=True)), dim=2),
        labels_BEN=torch.cat((kept_labels, labels[:, :, :1]), dim=2),
        weights_BE=targets.weights_BE,
    )
    return merged, rank_BEN.clamp(max=rows - 1)


def on_grid(masks_HW: Tensor, grid: tuple[int, int], protocol: Protocol) -> Tensor:
    """Masks bool [..., H, W] on a grid of (h, w) stride-4 cells, float32 0..1; beyond the canvas lies background."""
    height, width = masks_HW.shape[-2:]
    padding = (0, STRIDE * grid[1] - width, 0, STRIDE * grid[0] - height)
    assert all(0 <= p < STRIDE for p in padding), f"masks {height}x{width} do not fit the grid {grid}"
    if any(padding):
        masks_HW = F.pad(masks_HW, padding)
    if protocol.mask_targets == "sampled":
        return masks_HW[..., STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].float()
    return F.avg_pool2d(masks_HW.flatten(0, -3).float(), STRIDE).unflatten(0, masks_HW.shape[:-2])


def _counted_pixels(sizes_B2: Tensor, grid: tuple[int, int], protocol: Protocol) -> Tensor:
    """bool [B, h, w]: cells whose centre lies in the frame, or all of them as published (D6)."""
    if protocol.mask_padding == "included":
        return torch.ones(len(sizes_B2), *grid, dtype=torch.bool, device=sizes_B2.device)
    return cells_inside(sizes_B2, grid)
