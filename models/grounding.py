"""Where each sentence points, asked of the fusion: dense supervision at the first place where words meet pixels, and
evidence for the queries.

From random weights the decoder's one logit per query teaches very slowly which object a sentence means; a map over the
whole frame teaches it in minutes. The idea is that of losses on encoder tokens (two-stage Deformable DETR; language-
guided query selection in Grounding DINO), moved before the encoder, where a frame serves all its sentences cheaply.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.types import IGNORE, PRESENT, GroundingMaps, Targets

# Strides 8 to 32; the fourth level has a handful of tokens, too few to point with.
LEVELS = 3
# A share of pointing that counts as none: keeps its logarithm, and what a sure map costs a query, bounded.
LEAST_SHARE = 1e-4


class GroundingHead(nn.Module):
    """One logit per token, and what a level's map is worth to a query that covers some share of it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.point = nn.Linear(dim, 1, bias=False)
        self.trust = nn.Parameter(torch.full((LEVELS,), 0.5))

    def forward(self, fused_NSC: Tensor) -> Tensor:
        """Logits [N, S] of the fusion's tokens."""
        return self.point(fused_NSC).squeeze(-1)

    def evidence(self, maps: GroundingMaps, masks_NQhw: Tensor) -> Tensor:
        """What to add to the class logits [N, Q] of queries with these mask logits, in float32.

        The sum over levels of trust times the logarithm of the share of the pointing that falls into the query's mask:
        0 where it all does.
        """
        cover = masks_NQhw.float().sigmoid()
        total = cover.new_zeros(cover.shape[:2])
        for trust, (level, shape) in zip(self.trust, _levels(maps), strict=True):
            covered = F.adaptive_avg_pool2d(cover, shape).flatten(2)
            share = (covered @ level.softmax(dim=-1)[..., None]).squeeze(-1)
            total = total + trust * (share + LEAST_SHARE).log()
        return total


def grounding_loss(maps: GroundingMaps, targets: Targets) -> Tensor:
    """Kullback-Leibler divergence (nats) from the referents' share of each token to the softmax of a level's logits.

    Mean over the levels, summed over the sentences' frames (N = B*E*T) in which a referent is seen and none is to be
    ignored. Divide by their number.
    """
    real_BEN1 = targets.objects_BEN[..., None]
    present_BENT = real_BEN1 & (targets.states_BENT == PRESENT)
    ignored_BET = (real_BEN1 & (targets.states_BENT == IGNORE)).any(dim=2)
    masks_NHW = (targets.masks_BENTHW & present_BENT[..., None, None]).any(dim=2).flatten(0, 2).float()
    counted_N = (present_BENT.any(dim=2) & ~ignored_BET).flatten()
    total = maps.logits_NS.new_zeros((), dtype=torch.float32)
    for level, shape in _levels(maps):
        covered = F.adaptive_avg_pool2d(masks_NHW[:, None], shape).flatten(1)
        wanted = covered / covered.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(covered.dtype).tiny)
        # -inf at padding times a share of 0 would be NaN
        surprise = -(wanted * level.log_softmax(dim=-1).masked_fill(wanted == 0, 0)).sum(dim=-1)
        entropy = -torch.special.xlogy(wanted, wanted).sum(dim=-1)
        total = total + ((surprise - entropy) * counted_N).sum()
    return total / LEVELS


def _levels(maps: GroundingMaps) -> list[tuple[Tensor, tuple[int, int]]]:
    """Logits [N, h*w] of the levels that point, -inf at padding, with their (h, w)."""
    sizes = [height * width for height, width in maps.shapes]
    logits = maps.logits_NS.float().masked_fill(maps.padding_NS, -torch.inf).split(sizes, dim=-1)
    return list(zip(logits, maps.shapes, strict=True))[:LEVELS]
