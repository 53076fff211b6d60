"""Where each sentence points, asked of the fusion: dense supervision at the first place where words meet pixels.

From random weights the decoder's one logit per query teaches very slowly which object a sentence means; a map over the
whole frame teaches it in minutes. The idea is that of losses on encoder tokens (two-stage Deformable DETR; language-
guided query selection in Grounding DINO), moved before the encoder, where a frame serves all its sentences cheaply.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from util.types import IGNORE, PRESENT, GroundingMaps, Targets

# The stride-64 level has a handful of tokens, too few to point with.
LEVELS = 3


def grounding_loss(maps: GroundingMaps, targets: Targets) -> Tensor:
    """Kullback-Leibler divergence (nats) from the referents' share of each token to the softmax of a level's logits.

    Mean over the levels of strides 8 to 32, summed over the sentences' frames (N = B*E*T) in which a referent is seen
    and none is to be ignored. Divide by their number.
    """
    real_BEN1 = targets.objects_BEN[..., None]
    present_BENT = real_BEN1 & (targets.states_BENT == PRESENT)
    ignored_BET = (real_BEN1 & (targets.states_BENT == IGNORE)).any(dim=2)
    masks_NHW = (targets.masks_BENTHW & present_BENT[..., None, None]).any(dim=2).flatten(0, 2).float()
    counted_N = (present_BENT.any(dim=2) & ~ignored_BET).flatten()
    sizes = [height * width for height, width in maps.shapes]
    logits = maps.logits_NS.float().masked_fill(maps.padding_NS, -torch.inf).split(sizes, dim=-1)
    total = logits[0].new_zeros(())
    for level, shape in list(zip(logits, maps.shapes, strict=True))[:LEVELS]:
        covered = F.adaptive_avg_pool2d(masks_NHW[:, None], shape).flatten(1)
        wanted = covered / covered.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(covered.dtype).tiny)
        # -inf at padding times a share of 0 would be NaN
        surprise = -(wanted * level.log_softmax(dim=-1).masked_fill(wanted == 0, 0)).sum(dim=-1)
        entropy = -torch.special.xlogy(wanted, wanted).sum(dim=-1)
        total = total + ((surprise - entropy) * counted_N).sum()
    return total / min(LEVELS, len(sizes))
