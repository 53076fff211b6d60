"""Matching: a reference frame's mask carried to the current frame, place by place.

What queries are told of the last mask (`tracking.py`) passes through one vector each; which pixels it covers now is
then a guess from where its centre was. Here every place of the current frame looks for itself in the reference frames
(space-time memory networks, Oh et al. 2019; STCN, Cheng et al. 2021), rather near where it is now than far away, and
takes over how much of what it finds was covered. The carried mask marks the tokens that queries read and the features
that masks are made of, and is a mask in its own right, to which the queries' masks are corrections.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.levels import cells_inside
from models.space_time import grid_of
from models.tracking import mask_centres
from util.types import ExpressionFeatures, ReferenceMasks, TrackingMemory

WIDTH = 32  # channels that places are compared by, and of the layers that correct what was carried
CELLS = 2048  # of the grid that is compared, at most: all of 128x256 pixels; the time grows with its square
SHARPNESS = 10.0  # of likenesses, which lie between -1 and 1, before training
REACH = 0.05  # frame heights within which a place is looked for at once, before training ...
SPEED = 0.2  # ... and how much further for each second in between
NEVER = -1e4  # added to the logits of what lies outside the frame
LEAST = 0.02  # coverage that counts as none: its odds stay bounded


@dataclass(frozen=True)
class Carried:
    """Where the mask is now, N = B*E*T.

    coverage_Nhw   how much of what each place found was covered, 0..1
    logits_Nhw     the same as the logits of a mask, corrected where the current frame shows otherwise
    features_NChw  what to add to the mask features
    """

    coverage_Nhw: Tensor
    logits_Nhw: Tensor
    features_NChw: Tensor


class Matching(nn.Module):
    """Carries a mask by likeness and nearness, and corrects it; its corrections and its mark start at zero."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.describe = nn.Conv2d(dim, WIDTH, 1)
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS))
        self.reach = nn.Parameter(torch.tensor(math.log(REACH)))
        self.speed = nn.Parameter(torch.tensor(math.log(SPEED)))
        self.see = nn.Conv2d(dim, WIDTH, 1)
        self.correct = nn.Sequential(
            nn.Conv2d(WIDTH + 2, WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(WIDTH, dim + 1, 1),
        )
        last = self.correct[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mark = nn.Parameter(torch.zeros(dim))
        self.trust = nn.Parameter(torch.tensor(1.0))

    def forward(
        self, features: ExpressionFeatures, tracking: TrackingMemory
    ) -> tuple[ExpressionFeatures, TrackingMemory, Carried]:
        """Carry the mask of `tracking.marked`; features and tracking as they are to be decoded then.

        Rows that are told nothing (`present_N`) keep their features.
        """
        references, told_N = tracking.marked, tracking.present_N
        assert references is not None
        expressions, frames = features.sentence_BEC.shape[1], features.times_BT.shape[1]
        h, w = features.mask_features_NChw.shape[-2:]
        carried = self.carry(
            features.mask_features_NChw,
            features.times_BT.repeat_interleave(expressions, 0).flatten(),
            references,
            cells_inside(features.sizes_B2, (h, w)).repeat_interleave(expressions * frames, 0),
        )
        cover_N1hw = carried.logits_Nhw.sigmoid()[:, None]
        cover_NS = torch.cat([F.adaptive_avg_pool2d(cover_N1hw, shape).flatten(1) for shape in features.shapes], 1)
        features = replace(
            features,
            memory_NSC=features.memory_NSC + (cover_NS * told_N[:, None])[..., None] * self.mark,
            mask_features_NChw=features.mask_features_NChw + carried.features_NChw * told_N[:, None, None, None],
        )
        coverage_BEThw = carried.coverage_Nhw.view(-1, expressions, frames, h, w)
        centres_N2 = mask_centres(coverage_BEThw, features.sizes_B2, (h, w))
        return features, replace(tracking, centres_N2=centres_N2), carried

    def carry(self, now_NChw: Tensor, times_N: Tensor, references: ReferenceMasks, inside_Nhw: Tensor) -> Carried:
        """From mask features, seconds and the cells inside the frame (bool) of the current frames."""
        with torch.autocast(now_NChw.device.type, enabled=False):
            coverage_Nhw, likeness_Nhw = self._compare(now_NChw.float(), times_N, references, inside_Nhw)
            odds_Nhw = torch.logit(coverage_Nhw, eps=LEAST)
        seen = torch.cat((self.see(now_NChw), odds_Nhw[:, None], likeness_Nhw[:, None]), 1)
        corrected = self.correct(seen)
        return Carried(coverage_Nhw, odds_Nhw + corrected[:, -1], corrected[:, :-1])

    def added(self, carried: Carried, told_N: Tensor) -> Tensor:
        """What the masks of all queries get, logits [N, 1, h, w]; 0 in rows that are told nothing."""
        return (self.trust * carried.logits_Nhw * told_N[:, None, None])[:, None]

    def _compare(
        self, now_NChw: Tensor, times_N: Tensor, references: ReferenceMasks, inside_Nhw: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Coverage of what each place finds, and how like it is (-1..1), [N, h, w]; on a coarser grid in large frames.

        Attention whose logits are sharpness * likeness - distance^2 / (2 reach^2), reach growing with the time between.
        The square is taken apart, so that all of it is one inner product and no matrix of all pairs is ever written.
        """
        full = (now_NChw.shape[-2], now_NChw.shape[-1])
        grid = grid_of(full, CELLS)

        def cells(maps: Tensor) -> Tensor:
            """[N, K, h, w] -> [N, S, K]"""
            return F.adaptive_avg_pool2d(maps, grid).flatten(2).transpose(1, 2)

        here_NSD, there_NSD = (
            F.normalize(cells(self.describe(features.float())), dim=-1)
            for features in (now_NChw, references.features_NChw)
        )
        covered_NS1 = cells(references.masks_Nhw[:, None].float())
        outside_NS1 = (cells(inside_Nhw[:, None].float()) == 0).float()
        ones_NS1 = torch.ones_like(outside_NS1)
        reach_N = self.reach.exp() + self.speed.exp() * (references.times_N - times_N).abs()
        falloff_N11 = (0.5 / reach_N.square())[:, None, None]
        place_S2 = places(grid, now_NChw.device)
        square_S1 = place_S2.square().sum(-1, keepdim=True)
        asked = (self.sharpness * here_NSD, place_S2 * ones_NS1, square_S1 * ones_NS1, ones_NS1)
        offered = (
            there_NSD,
            2 * falloff_N11 * place_S2,
            -falloff_N11 * ones_NS1,
            NEVER * outside_NS1 - falloff_N11 * square_S1,
        )
        q, k = (torch.cat(parts, -1)[:, None] for parts in (asked, offered))
        v = F.pad(torch.cat((there_NSD, covered_NS1), -1), (0, q.shape[-1] - WIDTH - 1))[:, None]
        found_NSD = F.scaled_dot_product_attention(q, k, v, scale=1.0)[:, 0]
        likeness_NS = (found_NSD[..., :WIDTH] * here_NSD).sum(-1)
        maps = torch.stack((found_NSD[..., WIDTH].clamp(0, 1), likeness_NS), 1).unflatten(-1, grid)
        if grid != full:
            maps = F.interpolate(maps, full, mode="bilinear", align_corners=False)
        return maps[:, 0], maps[:, 1]


def reference_masks(features: ExpressionFeatures, masks_BETHW: Tensor) -> ReferenceMasks:
    """Frames as read with each sentence, and soft masks 0..1 of any size over their canvas, as one reference a row."""
    h, w = features.mask_features_NChw.shape[-2:]
    masks_NHW = masks_BETHW.flatten(0, 2)
    if masks_NHW.shape[-2:] != (h, w):
        masks_NHW = F.adaptive_avg_pool2d(masks_NHW[:, None], (h, w))[:, 0]
    times_N = features.times_BT.repeat_interleave(features.sentence_BEC.shape[1], 0).flatten()
    return ReferenceMasks(features.mask_features_NChw, masks_NHW, times_N)


def places(grid: tuple[int, int], device: torch.device) -> Tensor:
    """Centres (y, x) of the cells in frame heights (of square pixels), from the frame's middle, [S, 2]."""
    rows, columns = (torch.arange(side, device=device, dtype=torch.float32) - (side - 1) / 2 for side in grid)
    return torch.cartesian_prod(rows, columns) / grid[0]
