"""Where each sentence points, asked of the fusion: dense supervision at the first place where words meet pixels, and
evidence for the queries.

From random weights the decoder's one logit per query teaches very slowly which object a sentence means; a map over the
whole frame teaches it in minutes. The idea is that of losses on encoder tokens (two-stage Deformable DETR; language-
guided query selection in Grounding DINO), moved before the encoder, where a frame serves all its sentences cheaply.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.transformer import Shapes
from util.types import IGNORE, PRESENT, GroundingMaps, Targets

# Strides 8 to 32; the fourth level has a handful of tokens, too few to point with.
LEVELS = 3
# A share of pointing that counts as none: keeps its logarithm, and what a sure map costs a query, bounded.
LEAST_SHARE = 1e-4


class GroundingHead(nn.Module):
    """One logit per token and one for "nowhere" on each level: a softmax over them points at what a sentence means.

    Its maps are worth something to a query that covers some share of the pointing.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.point = nn.Linear(dim, 1, bias=False)
        self.nowhere = nn.Parameter(torch.zeros(LEVELS))
        self.trust = nn.Parameter(torch.full((LEVELS,), 0.5))

    def forward(self, fused_NSC: Tensor) -> Tensor:
        """Logits [N, S] of the fusion's tokens."""
        return self.point(fused_NSC).squeeze(-1)

    def log_shares(self, maps: GroundingMaps) -> list[Tensor]:
        """Logarithm of the share of the pointing that each token of strides 8 to 32 has, [N, h*w + 1], nowhere last."""
        sizes = [height * width for height, width in maps.shapes]
        levels = maps.logits_NS.float().masked_fill(maps.padding_NS, -torch.inf).split(sizes, dim=-1)
        shares = []
        for logits, nowhere in zip(levels, self.nowhere, strict=False):
            everything = torch.cat((logits, nowhere.float().expand(logits.shape[0], 1)), dim=-1)
            shares.append(everything.log_softmax(dim=-1))
        return shares

    def evidence(self, log_shares: Sequence[Tensor], shapes: Shapes, masks_NQhw: Tensor) -> Tensor:
        """What to add to the class logits [N, Q] of queries with these mask logits, in float32 also under autocast.

        The sum over levels of trust times the logarithm of the share of the pointing that falls into the query's mask:
        0 where it all does.
        """
        cover = masks_NQhw.float().sigmoid()
        total = cover.new_zeros(cover.shape[:2])
        for trust, shares, shape in zip(self.trust, log_shares, shapes, strict=False):
            covered = F.adaptive_avg_pool2d(cover, shape).flatten(2)
            share = (covered * shares[:, None, :-1].exp()).sum(dim=-1)
            total = total + trust * (share + LEAST_SHARE).log()
        return total

    def loss(self, maps: GroundingMaps, targets: Targets) -> Tensor:
        """Kullback-Leibler divergence (nats) from the referents' share of each token to the pointing.

        Where no referent is in the frame, all of it belongs nowhere. Mean over the levels, summed over the sentences'
        frames (N = B*E*T) that are labelled. The training step divides by `Normaliser.presence`.
        """
        real_BEN1 = targets.objects_BEN[..., None]
        present_BENT = real_BEN1 & (targets.states_BENT == PRESENT)
        labelled_N = ~(real_BEN1 & (targets.states_BENT == IGNORE)).any(dim=2).flatten()
        masks_NHW = (targets.masks_BENTHW & present_BENT[..., None, None]).any(dim=2).flatten(0, 2).float()
        weights_N = (
            targets.weights_BE[..., None]
            .expand(*targets.states_BENT.shape[:2], targets.states_BENT.shape[-1])
            .flatten()
        )
        total = maps.logits_NS.new_zeros((), dtype=torch.float32)
        for shares, shape in zip(self.log_shares(maps), maps.shapes, strict=False):
            covered = F.adaptive_avg_pool2d(masks_NHW[:, None], shape).flatten(1)
            area = covered.sum(dim=-1, keepdim=True)
            wanted = torch.cat((covered / area.clamp(min=torch.finfo(covered.dtype).tiny), (area == 0).float()), dim=-1)
            # -inf at padding times a share of 0 would be NaN
            surprise = -(wanted * shares.masked_fill(wanted == 0, 0)).sum(dim=-1)
            entropy = -torch.special.xlogy(wanted, wanted).sum(dim=-1)
            total = total + ((surprise - entropy) * labelled_N * weights_N).sum()
        return total / LEVELS
