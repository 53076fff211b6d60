"""Multi-scale deformable attention (Zhu et al., Deformable DETR, 2021): the public function and its PyTorch kernel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = tuple[tuple[int, int], ...]


def deformable_attention(value_NSHD: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of bilinear samples: out[n,q,h] = sum over levels and points of weight * value at location.

    value_NSHD [N, S, heads, D], levels concatenated, each row-major; shapes ((h, w), ...) of the levels;
    locations [N, Q, heads, levels, points, 2] as (x, y), 0..1 across each level (outside is legal and reads zero);
    weights [N, Q, heads, levels, points], not normalised here. Returns [N, Q, heads * D] in value's dtype.
    Raises ValueError when the levels do not hold value's tokens.
    """
    tokens = sum(h * w for h, w in shapes)
    if tokens != value_NSHD.shape[1]:
        raise ValueError(f"levels {list(shapes)} hold {tokens} tokens but value has {value_NSHD.shape[1]}")
    return _grid_sample_kernel(value_NSHD, shapes, locations, weights)


def kernel_report() -> list[tuple[str, bool, str]]:
    """(kernel, available, note) in order of preference; the first available one runs."""
    return [("pytorch", True, "grid_sample; runs on every device")]


def _grid_sample_kernel(value_NSHD: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    N, S, heads, dim = value_NSHD.shape
    _, queries, _, levels, points, _ = locations.shape
    # Half-precision grid_sample on CPU reads out of bounds, and half-precision locations miss their pixel.
    compute = torch.promote_types(value_NSHD.dtype, torch.float32)
    value = value_NSHD.to(compute).permute(0, 2, 3, 1).reshape(N * heads, dim, S)
    grid = (2 * locations.to(compute) - 1).transpose(1, 2).flatten(0, 1)
    sampled = []
    start = 0
    for level, (h, w) in enumerate(shapes):
        level_value = value[..., start : start + h * w].unflatten(-1, (h, w))
        start += h * w
        sampled.append(F.grid_sample(level_value, grid[:, :, level], padding_mode="zeros", align_corners=False))
    weight = weights.to(compute).transpose(1, 2).reshape(N * heads, 1, queries, levels * points)
    out = (torch.stack(sampled, dim=-2).flatten(-2) * weight).sum(-1)
    return out.view(N, heads * dim, queries).transpose(1, 2).to(value_NSHD.dtype)
