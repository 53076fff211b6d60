"""Which query answers which object of a sentence: the cost of every pair over the whole clip, and the cheapest
one-to-one assignment.

With one object per sentence this is ReferFormer's arg-min. Costs have no gradient.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from models.grid_targets import GridTargets, grid_targets
from util.boxes import cxcywh_to_xyxy, pairwise_giou
from util.errors import InputError
from util.protocol import Protocol
from util.types import Prediction, Targets

MAX_ASSIGNMENTS = 20_000  # per sentence; 5 queries need at most 120


@dataclass(frozen=True)
class MatcherConfig:
    """Weight of each term of the matching cost, and the focal loss's alpha in two of them (gamma is 2)."""

    classes: float = 2.0
    bbox: float = 5.0
    giou: float = 2.0
    mask: float = 2.0
    dice: float = 5.0
    focal_alpha: float = 0.25


@dataclass(frozen=True)
class Match:
    """queries_BEN: int64 query of each object slot of the targets, -1 where the slot holds no object.

    Objects that were merged because a sentence has more of them than there are queries share one.
    """

    queries_BEN: Tensor

    @classmethod
    def of_rows(cls, queries_BEN: Tensor, targets: GridTargets) -> Match:
        """From the query of each row of `targets` to the query of each slot those were made from."""
        return cls(queries_BEN.gather(2, targets.rows_BEN))


def match(
    prediction: Prediction, targets: Targets, sizes_B2: Tensor, config: MatcherConfig, protocol: Protocol
) -> Match:
    """Assign one query to each object of each sentence, the same in all frames of the clip."""
    grid, queries = prediction.masks_BETQhw.shape[-2:], prediction.logits_BETQK.shape[3]
    truth = grid_targets(targets, sizes_B2, (grid[0], grid[1]), queries, protocol)
    queries_BEN = assign(matching_costs(prediction, truth, config, protocol), truth.objects_BEN)
    return Match.of_rows(queries_BEN, truth)


@torch.no_grad()
def matching_costs(prediction: Prediction, targets: GridTargets, config: MatcherConfig, protocol: Protocol) -> Tensor:
    """Cost [B, E, N, Q] of answering each object with each query, in float32 also under autocast.

    classes * class + bbox * L1 + giou * (-GIoU) + mask * focal + dice * (-dice), each a mean over frames: the class
    term over those with the object, the box terms over all known frames as published or over those with the object,
    the mask terms over the known part of the clip's volume. A cell that is covered in part counts in part as either.

    An object that is in no frame costs nothing with any query: it takes one that the others leave (query 0 if it is
    alone), where the reference raises.
    """
    with torch.autocast(prediction.logits_BETQK.device.type, enabled=False):
        classes = _class_cost(at_least_float32(prediction.logits_BETQK), targets, config.focal_alpha)
        bbox, giou = _box_costs(at_least_float32(prediction.boxes_BETQ4), targets, protocol)
        mask, dice = _mask_costs(at_least_float32(prediction.masks_BETQhw), targets, config.focal_alpha)
        cost = (
            config.classes * classes + config.bbox * bbox + config.giou * giou + config.mask * mask + config.dice * dice
        )
    return torch.where(targets.seen_BEN[..., None], cost, 0)


def assign(cost_BENQ: Tensor, objects_BEN: Tensor) -> Tensor:
    """The cheapest one-to-one assignment: the query [B, E, N] of each object, -1 where there is none. N <= Q.

    Every way to give N different queries to N objects is priced (Q! / (Q - N)! of them: 5 for one object, at most
    120 with 5 queries), which is exact, batched and has no Python loop; of equal prices the first in lexicographic
    order wins. Rows without an object cost nothing, so they take what is left. Raises InputError where that number
    is out of reach.
    """
    objects, queries = cost_BENQ.shape[2:]
    ways = math.perm(queries, objects)
    if ways > MAX_ASSIGNMENTS:
        raise InputError(
            f"{objects} objects and {queries} queries can be matched in {ways} ways, too many to try; "
            "lower the data's max_objects or the model's queries"
        )
    ways_RN = _assignments(queries, objects, cost_BENQ.device)
    cost_BENQ = torch.where(objects_BEN[..., None], cost_BENQ, 0)
    rows = torch.arange(objects, device=cost_BENQ.device)
    total_BER = cost_BENQ[:, :, rows, ways_RN].sum(dim=-1)
    return ways_RN[total_BER.argmin(dim=-1)].masked_fill(~objects_BEN, -1)


@lru_cache(maxsize=32)
def _assignments(queries: int, objects: int, device: torch.device) -> Tensor:
    """Every ordered choice [R, N] of N different queries, in lexicographic order."""
    ways = list(itertools.permutations(range(queries), objects))
    return torch.tensor(ways, dtype=torch.long, device=device).view(len(ways), objects)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision widened; float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _class_cost(logits_BETQK: Tensor, targets: GridTargets, alpha: float) -> Tensor:
    """Focal cost [B, E, N, Q] of each object's class, mean over the frames with the object."""
    probability = logits_BETQK.sigmoid()
    positive = alpha * (1 - probability) ** 2 * -(probability + 1e-8).log()
    negative = (1 - alpha) * probability**2 * -(1 - probability + 1e-8).log()
    cost_BEQKT = (positive - negative).permute(0, 1, 3, 4, 2)
    frames = targets.present_BENT.to(cost_BEQKT.dtype)
    cost_BENQK = torch.einsum("beqkt,bent->benqk", cost_BEQKT, frames) / _count(frames)[..., None, None]
    if cost_BENQK.shape[-1] == 1:
        return cost_BENQK[..., 0]
    label = targets.labels_BEN[..., None, None].expand(*cost_BENQK.shape[:-1], 1)
    return cost_BENQK.gather(-1, label)[..., 0]


def _box_costs(boxes_BETQ4: Tensor, targets: GridTargets, protocol: Protocol) -> tuple[Tensor, Tensor]:
    """L1 and negative GIoU [B, E, N, Q], mean over the frames that boxes count in."""
    truth_BETN4 = targets.boxes_BENT4.transpose(2, 3).to(boxes_BETQ4.dtype)
    distance = (truth_BETN4[..., :, None, :] - boxes_BETQ4[..., None, :, :]).abs().sum(dim=-1)
    overlap = pairwise_giou(cxcywh_to_xyxy(truth_BETN4), cxcywh_to_xyxy(boxes_BETQ4))
    frames = targets.box_frames_BENT(protocol).to(boxes_BETQ4.dtype)
    count = _count(frames)[..., None]
    l1, giou = (torch.einsum("betnq,bent->benq", x, frames) / count for x in (distance, overlap))
    return l1, -giou


def _mask_costs(masks_BETQhw: Tensor, targets: GridTargets, alpha: float) -> tuple[Tensor, Tensor]:
    """Focal and negative dice [B, E, N, Q] over the known volume.

    Every sum over the grid of something that depends on a query and on an object splits into products of the two, so
    all pairs come from matrix products over the grid and no pair's map is ever made.
    """
    logits = masks_BETQhw.flatten(-2)
    truth = targets.masks_BENThw.transpose(2, 3).flatten(-2).to(logits.dtype)
    pixels_BP = targets.pixels_Bhw.flatten(1).to(logits.dtype)
    frames = targets.known_BENT.to(logits.dtype)
    probability = logits.sigmoid()
    positive = alpha * (1 - probability) ** 2 * F.softplus(-logits)
    negative = (1 - alpha) * probability**2 * F.softplus(logits)

    # truth is False outside the frame, so only what does not contain it needs the pixel weights
    focal = torch.einsum("betnp,betqp->betnq", truth, positive - negative)
    focal = focal + torch.einsum("betqp,bp->betq", negative, pixels_BP)[..., None, :]
    volume = frames.sum(dim=-1) * pixels_BP.sum(dim=-1)[:, None, None]
    focal = torch.einsum("betnq,bent->benq", focal, frames) / volume.clamp(min=1)[..., None]

    overlap = torch.einsum("betnp,betqp->betnq", truth, probability)
    overlap = torch.einsum("betnq,bent->benq", overlap, frames)
    predicted = torch.einsum("betqp,bp->betq", probability, pixels_BP)
    predicted = torch.einsum("betq,bent->benq", predicted, frames)
    size = torch.einsum("betn,bent->ben", truth.sum(dim=-1), frames)
    return focal, -(2 * overlap + 1) / (predicted + size[..., None] + 1)


def _count(frames_BENT: Tensor) -> Tensor:
    """Number of frames [B, E, N], at least 1, so that an empty mean is 0."""
    return frames_BENT.sum(dim=-1).clamp(min=1)
