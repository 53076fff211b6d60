"""Queries that start where the sentence points (`grounding.py`), and see the place marked.

Queries that start from learned points have to find on their own what the sentence's map already shows. Two-stage
Deformable DETR and the language-guided queries of Grounding DINO start at the best tokens; here they start at the map's
peaks, the first query at the highest, so that look-alikes get a query of their own. The map also marks the tokens that
queries read and the features that masks are made of. Where a mask is told, it says better what is meant, and all this
is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.types import ExpressionFeatures

STRIDE = 8  # of the map that is read, the finest one
MARK = 0.1  # standard deviation of the marks before training


class Pointed(nn.Module):
    """What the pointing adds to memory and mask features: a learned direction each, as strong as it points there."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.memory_mark = nn.Parameter(MARK * torch.randn(dim))
        self.mask_mark = nn.Parameter(MARK * torch.randn(dim))

    def forward(
        self, features: ExpressionFeatures, log_shares: Sequence[Tensor], told_N: Tensor | None
    ) -> ExpressionFeatures:
        """Features marked where the sentence points, in rows that are not told a mask (`told_N`, bool; None: none is).

        log_shares: of the pointing at each level, the finest first (`GroundingHead.log_shares`).
        """
        heat_N1hw = heat_of(log_shares[0], features.shapes[0])[:, None].to(features.memory_NSC.dtype)
        if told_N is not None:
            heat_N1hw = heat_N1hw * ~told_N[:, None, None, None]
        heat_NS = torch.cat([F.adaptive_avg_pool2d(heat_N1hw, shape).flatten(1) for shape in features.shapes], 1)
        size = features.mask_features_NChw.shape[-2:]
        fine_N1hw = F.interpolate(heat_N1hw, size, mode="bilinear", align_corners=False)
        return replace(
            features,
            memory_NSC=features.memory_NSC + heat_NS[..., None] * self.memory_mark,
            mask_features_NChw=features.mask_features_NChw + fine_N1hw * self.mask_mark[:, None, None],
        )


def heat_of(log_shares_NS1: Tensor, shape: tuple[int, int]) -> Tensor:
    """How much the sentence points at each token, 0..1, [N, h, w]: its share beside the greatest one's, as far as
    anything is pointed at. `log_shares_NS1` [N, h*w + 1] has the share of nowhere last."""
    shares_NS = log_shares_NS1[:, :-1].exp()
    somewhere_N1 = 1 - log_shares_NS1[:, -1:].exp()
    greatest_N1 = shares_NS.amax(-1, keepdim=True).clamp(min=torch.finfo(shares_NS.dtype).tiny)
    return (somewhere_N1 * shares_NS / greatest_N1).unflatten(-1, shape)


def peaks(log_shares_NS1: Tensor, shape: tuple[int, int], sizes_N2: Tensor, count: int) -> Tensor:
    """Places (x, y) [N, count, 2] that a sentence points at, as shares of the un-padded frame, the strongest first.

    A place is a token with a greater share than all around it, then the strongest others; it is moved to the centre of
    mass of the three by three tokens around. sizes_N2: (height, width) of the frames in pixels. No gradient.
    """
    shares_N1hw = log_shares_NS1.detach()[:, :-1].exp().unflatten(-1, shape)[:, None]
    highest = (shares_N1hw == F.max_pool2d(shares_N1hw, 3, stride=1, padding=1)) & (shares_N1hw > 0)  # 0: padding
    strength_NS = (shares_N1hw + highest).flatten(1)
    found = strength_NS.topk(min(count, strength_NS.shape[1]), dim=1).indices
    found_NQ = found[:, torch.arange(count, device=found.device) % found.shape[1]]

    h, w = shape
    y = (torch.arange(h, device=found.device, dtype=shares_N1hw.dtype)[:, None] + 0.5) * STRIDE
    x = (torch.arange(w, device=found.device, dtype=shares_N1hw.dtype) + 0.5) * STRIDE
    moments = torch.cat((shares_N1hw, shares_N1hw * x, shares_N1hw * y), 1)
    mass, across, down = (F.avg_pool2d(moments, 3, stride=1, padding=1) * 9).flatten(2).unbind(1)
    centre_NS2 = torch.stack((across, down), -1) / mass.clamp(min=torch.finfo(mass.dtype).tiny)[..., None]
    centres = centre_NS2.gather(1, found_NQ[..., None].expand(-1, -1, 2))
    return (centres / sizes_N2.flip(-1)[:, None].to(centres.dtype)).clamp(0, 1)
