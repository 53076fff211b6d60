"""The truth of a clip as the training view shows it: masks, boxes, states, and the object slots of each sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datasets.transforms import View
from util.boxes import cxcywh_to_xyxy, masks_to_boxes, union_box, xyxy_to_cxcywh
from util.protocol import Protocol
from util.types import ABSENT, IGNORE, PRESENT, ReferringVideo


@dataclass(frozen=True)
class ClipTruth:
    """Objects as seen in the view: masks bool [N, T, H, W], boxes cxcywh in 0..1, states int8."""

    masks_NTHW: Tensor
    boxes_NT4: Tensor
    states_NT: Tensor


def read_masks(video: ReferringVideo, distinct: np.ndarray, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Masks bool [N, T, H, W] and states int8 [N, T] of the objects in those frames."""
    masks = np.zeros((len(ids), len(distinct), *video.frames.size), bool)
    states = np.zeros((len(ids), len(distinct)), np.int8)
    if ids and video.masks is not None:
        for place, frame in enumerate(distinct):
            masks[:, place], states[:, place] = video.masks.read(int(frame), ids)
    return masks, states


def view_objects(masks_NTHW: np.ndarray, known_NT: np.ndarray, view: View, protocol: Protocol) -> ClipTruth:
    """The truth [N, T, H, W] of the source's frames as `view` shows it; what is seen there is present, else absent.

    known_NT: the source's own states, of which IGNORE is kept.
    """
    masks = view.masks(np.ascontiguousarray(masks_NTHW))
    if protocol.box_from == "mask":
        corners = masks_to_boxes(masks)
        seen = masks.flatten(-2).any(-1)
    else:  # moved along with the picture, so a box can outlive its mask, and one pixel is none
        corners = view.boxes(masks_to_boxes(torch.from_numpy(masks_NTHW), inclusive=True))
        seen = (corners[..., 2:] > corners[..., :2]).all(-1)
    height, width = view.size
    boxes = xyxy_to_cxcywh(corners) / torch.tensor([width, height, width, height]) * seen[..., None]
    states = torch.where(torch.from_numpy(known_NT == IGNORE), IGNORE, torch.where(seen, PRESENT, ABSENT))
    return ClipTruth(masks, boxes, states.to(torch.int8))


def fill_slots(truth: ClipTruth, members: Sequence[int], count: int) -> ClipTruth:
    """The truth of one sentence's objects in `count` slots; the smallest are merged where they are too many."""
    chosen = torch.tensor(members, dtype=torch.long)
    if len(members) > count:
        area = truth.masks_NTHW[chosen].flatten(1).sum(1)
        chosen = chosen[area.argsort(descending=True, stable=True)]
    masks, boxes, states = truth.masks_NTHW[chosen], truth.boxes_NT4[chosen], truth.states_NT[chosen]
    if len(members) > count:
        merged = _merge(ClipTruth(masks[count - 1 :], boxes[count - 1 :], states[count - 1 :]))
        masks = torch.cat([masks[: count - 1], merged.masks_NTHW])
        boxes = torch.cat([boxes[: count - 1], merged.boxes_NT4])
        states = torch.cat([states[: count - 1], merged.states_NT])
    empty = count - len(masks)
    return ClipTruth(*(torch.cat([x, x.new_zeros(empty, *x.shape[1:])]) for x in (masks, boxes, states)))


def _merge(parts: ClipTruth) -> ClipTruth:
    """One object made of several: seen where one of them is."""
    seen = parts.states_NT == PRESENT
    boxes = xyxy_to_cxcywh(union_box(cxcywh_to_xyxy(parts.boxes_NT4), seen, dim=0))
    unknown = (parts.states_NT == IGNORE).any(0)
    states = torch.where(seen.any(0), PRESENT, torch.where(unknown, IGNORE, ABSENT)).to(torch.int8)
    return ClipTruth(parts.masks_NTHW.any(0)[None], boxes[None], states[None])
