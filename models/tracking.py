"""The tracking-forced stream: what the last mask tells the next frame.

`rgb` is TF-RVOS's own: the reference frame blacked out outside its mask goes through the whole network again.
`feature` multiplies the reference frame's encoder memory, already computed, by its mask at each level, and lets the
queries start from the mask's centre.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def feature_memory(memory_NSC: Tensor, shapes: tuple[tuple[int, int], ...], masks_NHW: Tensor) -> Tensor:
    """Memory [N, S, C] weighted by how much of each cell the soft mask covers."""
    coverage = [F.adaptive_avg_pool2d(masks_NHW[:, None], shape).flatten(1) for shape in shapes]
    return memory_NSC * torch.cat(coverage, 1)[..., None].to(memory_NSC.dtype)


def mask_centres(masks_BETHW: Tensor, sizes_B2: Tensor, grid: tuple[int, int] | torch.Size) -> Tensor:
    """Centre of mass (x, y) of each soft mask as a share of the un-padded frame, [B*E*T, 2]; 0.5 for empty masks.

    `grid` is the stride-4 grid that the canvas has, so that (row + 0.5) * 4 are pixels.
    """
    h, w = masks_BETHW.shape[-2:]
    rows = (torch.arange(h, device=masks_BETHW.device) + 0.5) * (grid[0] * 4 / h)
    columns = (torch.arange(w, device=masks_BETHW.device) + 0.5) * (grid[1] * 4 / w)
    masks = masks_BETHW.float()
    mass = masks.sum((-2, -1))
    x = (masks.sum(-2) @ columns) / mass.clamp(min=1e-6)
    y = (masks.sum(-1) @ rows) / mass.clamp(min=1e-6)
    sizes = sizes_B2.flip(-1)[:, None, None].to(x.dtype)
    centres = (torch.stack((x, y), -1) / sizes).clamp(0, 1)
    return torch.where(mass[..., None] > 1e-6, centres, centres.new_tensor(0.5)).flatten(0, 2)


def tracking_frames(frames_BTCHW: Tensor, masks_BETHW: Tensor) -> Tensor:
    """Normalised frames [B*E, T, 3, H, W], black (before normalisation) outside the soft masks."""
    size = frames_BTCHW.shape[-2:]
    masks = masks_BETHW
    if masks.shape[-2:] != size:
        masks = F.interpolate(masks.flatten(0, 1), size=size, mode="bilinear", align_corners=False)
        masks = masks.unflatten(0, masks_BETHW.shape[:2])
    black = -torch.tensor(IMAGENET_MEAN) / torch.tensor(IMAGENET_STD)
    black = black.to(frames_BTCHW).view(3, 1, 1)
    masks = masks.to(frames_BTCHW.dtype)[:, :, :, None]
    return (black + masks * (frames_BTCHW[:, None] - black)).flatten(0, 1)
