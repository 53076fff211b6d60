"""Sine codes of pixel positions, word positions and scalars; no parameters.

The float32 operation order is the reference's (spec 3.3): in fully padded rows and columns the argument is about
-3e6, where any other order gives other codes, which the pixel decoder's convolutions carry into the image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _interleave(angles: Tensor) -> Tensor:
    """sin of the even features, cos of the odd ones; the last axis is features."""
    return torch.stack((angles[..., 0::2].sin(), angles[..., 1::2].cos()), dim=-1).flatten(-2)


def _frequencies(features: int, device: torch.device) -> Tensor:
    index = torch.arange(features, dtype=torch.float32, device=device)
    return 10000 ** (2 * (index // 2) / features)


def sine_2d(padding_BHW: Tensor, dim: int) -> Tensor:
    """[B, dim, H, W] float32: dim/2 features of y, then dim/2 of x, normalised by the valid extent (DETR)."""
    valid = ~padding_BHW
    scale = 2 * math.pi
    y = valid.cumsum(1, dtype=torch.float32)
    x = valid.cumsum(2, dtype=torch.float32)
    y = (y - 0.5) / (y[:, -1:, :] + 1e-6) * scale
    x = (x - 0.5) / (x[:, :, -1:] + 1e-6) * scale
    frequencies = _frequencies(dim // 2, padding_BHW.device)
    codes = [_interleave(axis[..., None] / frequencies) for axis in (y, x)]
    return torch.cat(codes, dim=-1).permute(0, 3, 1, 2)


def sine_1d(padding_BL: Tensor, dim: int) -> Tensor:
    """[B, L, dim] float32 codes of word positions, normalised by the sentence's length; no half-step offset."""
    x = (~padding_BL).cumsum(1, dtype=torch.float32)
    x = x / (x[:, -1:] + 1e-6) * (2 * math.pi)
    return _interleave(x[..., None] / _frequencies(dim, padding_BL.device))


def sine_scalar(values: Tensor, dim: int, scale: float) -> Tensor:
    """[..., dim] float32 codes of arbitrary scalars; `scale` maps one unit of the value to radians."""
    return _interleave(values.float()[..., None] * scale / _frequencies(dim, values.device))
