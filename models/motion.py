"""Motion: how each place of a frame moves, told from its likeness to the places around it one frame before and after.

The reference network looks at every frame alone, and queries that meet over time (`temporal.py`) cannot say what the
pixels never told them. Local correlation with a neighbouring frame (FlowNet, Dosovitskiy et al. 2015) turns a movement
into something that a place looks like, so that words for movements meet pixels where words for colours do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REACH = 3  # cells to each side in which a place is looked for
WIDTH = 32  # channels that places are compared by
SHARPNESS = 8.0  # of likenesses, which lie between -1 and 1, before training
SPAN = 2 * REACH + 1


class Motion(nn.Module):
    """What to add to the projected levels at strides 8 to 32; the last layers start at zero, so at first nothing."""

    def __init__(self, channels: Sequence[int], dim: int) -> None:
        """`channels` of the backbone's levels, the finest first."""
        super().__init__()
        self.levels = nn.ModuleList(LevelMotion(count, dim) for count in channels)

    def forward(self, features: Sequence[Tensor], padding: Sequence[Tensor], times_BT: Tensor) -> list[Tensor]:
        """Levels [B*T, C_l, h, w] and their padding bool [B, h, w] -> [B*T, dim, h, w] each.

        A level also gets what finer ones have seen: their cells are small enough to tell a slow movement.
        """
        found: list[Tensor] = []
        for level, level_features, mask in zip(self.levels, features, padding, strict=True):
            seen = level(level_features, mask, times_BT)
            if found:
                seen = seen + F.adaptive_avg_pool2d(found[-1], seen.shape[-2:])
            found.append(seen)
        return found


class LevelMotion(nn.Module):
    """One level's likeness to its neighbours in time, read by a small convolutional network."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.describe = nn.Conv2d(channels, WIDTH, 1)
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS))
        self.read = nn.Sequential(
            nn.Conv2d(2 * (SPAN**2 + 1), dim, 1),
            nn.ReLU(),
            nn.Conv2d(dim, dim, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(dim, dim, 3, padding=1),
        )
        last = self.read[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, features: Tensor, padding_Bhw: Tensor, times_BT: Tensor) -> Tensor:
        """[B*T, C, h, w] -> [B*T, dim, h, w]. A clip's first and last frame have a neighbour on one side only.

        Elapsed seconds go in beside the likenesses: the same step in less time is a faster movement.
        """
        batch, frames = times_BT.shape
        described = F.normalize(self.describe(features), dim=1).unflatten(0, (batch, frames))
        described = described * ~padding_Bhw[:, None, None]
        h, w = features.shape[-2:]
        seen = []
        for step in (-1, 1):
            neighbour, elapsed_BT = _neighbours(described, times_BT, step)
            likeness = correlation(described.flatten(0, 1), neighbour.flatten(0, 1)) * self.sharpness
            elapsed = elapsed_BT.to(likeness.dtype).view(-1, 1, 1, 1).expand(-1, 1, h, w)
            seen += [likeness, elapsed]
        return self.read(torch.cat(seen, 1))


def correlation(here_NChw: Tensor, there_NChw: Tensor) -> Tensor:
    """Inner product of each place with the places around it in another frame, [N, SPAN * SPAN, h, w]; 0 outside."""
    h, w = here_NChw.shape[-2:]
    around = F.pad(there_NChw, (REACH,) * 4)
    steps = [(y, x) for y in range(SPAN) for x in range(SPAN)]
    return torch.stack([(here_NChw * around[..., y : y + h, x : x + w]).sum(1) for y, x in steps], 1)


def _neighbours(described_BTChw: Tensor, times_BT: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Each frame's neighbour `step` (-1 or 1) frames on, and the seconds to it; zeros where there is none."""
    padding = (1, 0) if step < 0 else (0, 1)
    inner = slice(None, -1) if step < 0 else slice(1, None)
    neighbour = F.pad(described_BTChw[:, inner], (0, 0, 0, 0, 0, 0, *padding))
    elapsed_BT = F.pad((times_BT[:, 1:] - times_BT[:, :-1]), padding)
    return neighbour, elapsed_BT
