"""The pyramid that the transformer reads: made from the backbone's levels, and what of it is padding."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.transformer import Shapes

LEVELS = 4


def input_projections(channels: tuple[int, ...], dim: int) -> nn.ModuleList:
    """1x1 convolutions on C3 to C5 and a strided 3x3 on C5 for the fourth level, each with GroupNorm."""
    projections = [nn.Conv2d(c, dim, 1) for c in channels[1:]]
    projections.append(nn.Conv2d(channels[-1], dim, 3, stride=2, padding=1))
    for conv in projections:
        nn.init.xavier_uniform_(conv.weight)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
    return nn.ModuleList(nn.Sequential(conv, nn.GroupNorm(32, dim)) for conv in projections)


def padding_mask(sizes_B2: Tensor, height: int, width: int) -> Tensor:
    """Padding mask [B, H, W]; frames lie at the top left."""
    rows = torch.arange(height, device=sizes_B2.device) >= sizes_B2[:, :1]
    columns = torch.arange(width, device=sizes_B2.device) >= sizes_B2[:, 1:]
    return rows[:, :, None] | columns[:, None, :]


def cells_inside(sizes_B2: Tensor, grid: tuple[int, int]) -> Tensor:
    """bool [B, h, w]: cells of the stride-4 grid whose centre lies in the un-padded frame."""
    rows, columns = (torch.arange(n, device=sizes_B2.device) * 4 + 2 for n in grid)
    return (rows < sizes_B2[:, :1])[:, :, None] & (columns < sizes_B2[:, 1:])[:, None, :]


def valid_ratio(padding_BHW: Tensor, dtype: torch.dtype) -> Tensor:
    """(width, height) share [B, 2] of the level that is not padding, from its first row and column."""
    valid = (~padding_BHW).to(torch.promote_types(dtype, torch.float32))
    return torch.stack((valid[:, 0].mean(-1), valid[:, :, 0].mean(-1)), -1)


def level_slices(shapes: Shapes) -> list[slice]:
    """Where each level's tokens lie among those of all levels."""
    starts = [0]
    for h, w in shapes:
        starts.append(starts[-1] + h * w)
    return [slice(a, b) for a, b in pairwise(starts)]


def rows_of_frames(rows_N: Tensor, expressions: int, frames_BT: Tensor) -> Tensor:
    """Of rows [B * E * T, ...] those of frames `frames_BT` [B, T'] of each clip, [B * E * T', ...]."""
    clips = torch.arange(len(frames_BT), device=rows_N.device)[:, None, None]
    sentences = torch.arange(expressions, device=rows_N.device)[:, None]
    return rows_N.unflatten(0, (len(frames_BT), expressions, -1))[clips, sentences, frames_BT[:, None]].flatten(0, 2)
