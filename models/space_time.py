"""Space and time: what a sentence means, seen over all frames of a clip at once, before anything is decoded.

"The one that enters last" is answered by comparing moments, and in most of them nothing special is to be seen. So the
tokens of all frames, when they have met the words, attend to each other on a coarse grid, with codes of where and when.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import Attention
from models.levels import level_slices
from models.position_encoding import sine_scalar
from models.transformer import Shapes

CELLS = 32  # of the grid at most, whatever the frame's size: the cost grows with frames alone


class SpaceTime(nn.Module):
    """Layers of attention over a clip's grid cells; what they find is added to every level, at first nothing."""

    def __init__(self, dim: int, heads: int, layers: int = 2) -> None:
        super().__init__()
        self.dim = dim
        self.where = nn.Linear(3 * dim, dim)
        self.layers = nn.ModuleList(SpaceTimeLayer(dim, heads) for _ in range(layers))
        self.say = nn.Linear(dim, dim)
        nn.init.zeros_(self.say.weight)
        nn.init.zeros_(self.say.bias)

    def forward(self, fused_NSC: Tensor, shapes: Shapes, padding_NS: Tensor, times_BT: Tensor) -> Tensor:
        """Tokens [N, S, C] of all levels, N = B*E*T -> the same with what the clip's other moments tell about them.

        padding_NS: bool, True = padding, which says nothing and is told nothing that counts.
        """
        frames = times_BT.shape[1]
        expressions = fused_NSC.shape[0] // times_BT.numel()
        real = fused_NSC * ~padding_NS[..., None]
        levels = [
            real[:, part].transpose(1, 2).unflatten(-1, shape)
            for part, shape in zip(level_slices(shapes), shapes, strict=True)
        ]
        rows, columns = grid_of(shapes[0])
        cells = F.adaptive_avg_pool2d(levels[0], (rows, columns))
        tokens = cells.flatten(2).transpose(1, 2).unflatten(0, (-1, frames))  # [B*E, T, cells, C]
        tokens = tokens + self._codes(rows, columns, times_BT.repeat_interleave(expressions, 0)).to(tokens.dtype)
        tokens = tokens.flatten(1, 2)
        for layer in self.layers:
            tokens = layer(tokens)
        found = self.say(tokens).view(-1, rows, columns, self.dim).permute(0, 3, 1, 2)
        told = [
            level + F.interpolate(found, size=shape, mode="bilinear", align_corners=False)
            for level, shape in zip(levels, shapes, strict=True)
        ]
        return torch.cat([level.flatten(2) for level in told], -1).transpose(1, 2)

    def _codes(self, rows: int, columns: int, times_NT: Tensor) -> Tensor:
        """Codes [N, T, rows * columns, C] of each cell's place and seconds since the clip's first frame."""
        elapsed = times_NT - times_NT[:, :1]
        device = times_NT.device
        y = (torch.arange(rows, device=device) + 0.5) / rows
        x = (torch.arange(columns, device=device) + 0.5) / columns
        when = sine_scalar(elapsed, self.dim, math.pi)[:, :, None, None]
        down, across = (sine_scalar(axis, self.dim, 2 * math.pi) for axis in (y, x))
        lead = (*times_NT.shape, rows, columns, self.dim)
        parts = (when.expand(lead), down[:, None].expand(lead), across.expand(lead))
        return self.where(torch.cat(parts, -1).to(self.where.weight.dtype)).flatten(2, 3)


class SpaceTimeLayer(nn.Module):
    """Attention and a feed-forward net, each on what is normalised before it."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, 4 * dim)
        self.linear2 = nn.Linear(4 * dim, dim)

    def forward(self, x_NSC: Tensor) -> Tensor:
        seen = self.norm1(x_NSC)
        x_NSC = x_NSC + self.attention(seen, seen, seen)
        return x_NSC + self.linear2(self.linear1(self.norm2(x_NSC)).relu())


def grid_of(shape: tuple[int, int], cells: int = CELLS) -> tuple[int, int]:
    """Rows and columns of at most `cells` cells for a level of this shape, about as wide as high."""
    height, width = shape
    share = min(1.0, math.sqrt(cells / (height * width)))
    return max(1, int(height * share)), max(1, int(width * share))
