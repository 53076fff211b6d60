"""The dynamic mask head (CondInst, Tian et al. 2020, as ReferFormer uses it): each query writes its own tiny network.

The first layer is linear in the mask features and the relative coordinates, so it is one matrix product per frame
and features are never repeated per query.
"""

from __future__ import annotations

import torch
from torch import Tensor

STRIDE = 4


def parameter_count(feature_dim: int, channels: int, rel_coord: bool) -> int:
    """How many numbers a query writes: two hidden layers of `channels`, one output, biases; 2,153 as released."""
    inputs = feature_dim + (2 if rel_coord else 0)
    return inputs * channels + channels * channels + channels + 2 * channels + 1


def dynamic_masks(
    mask_features_NChw: Tensor,
    parameters_NQP: Tensor,
    centres_NQ2: Tensor,
    sizes_N2: Tensor,
    *,
    channels: int,
    rel_coord: bool,
) -> Tensor:
    """Mask logits [N, Q, h, w].

    parameters: w0 [channels, C + 2], w1 [channels, channels], w2 [channels], b0, b1 [channels], b2, row-major;
    centres (x, y) in 0..1 of the un-padded frame; sizes (height, width) in pixels. Coordinates are pixels of the
    input, so this runs outside autocast, in float32 or better.
    """
    with torch.autocast(mask_features_NChw.device.type, enabled=False):
        compute = torch.promote_types(mask_features_NChw.dtype, torch.float32)
        features, parameters = mask_features_NChw.to(compute), parameters_NQP.to(compute)
        N, Q, _ = parameters.shape
        dim, h, w = features.shape[1:]
        inputs = dim + (2 if rel_coord else 0)
        c = channels
        w0, w1, w2, b0, b1, b2 = parameters.split([inputs * c, c * c, c, c, c, 1], dim=-1)
        w0 = w0.reshape(N, Q * c, inputs)
        x = w0[..., :dim] @ features.flatten(2)
        if rel_coord:
            rows, columns = (
                torch.arange(side, dtype=compute, device=x.device) * STRIDE + STRIDE // 2 for side in (h, w)
            )
            grid = torch.stack((columns.expand(h, w), rows[:, None].expand(h, w))).flatten(1)
            centre = centres_NQ2.to(compute) * sizes_N2.flip(-1)[:, None].to(compute)
            relative = centre[..., None] - grid
            x = x.view(N, Q, c, h * w) + w0[..., dim:].view(N, Q, c, 2) @ relative
        x = (x.view(N, Q, c, h * w) + b0[..., None]).relu()
        x = (w1.view(N, Q, c, c) @ x + b1[..., None]).relu()
        x = w2.view(N, Q, 1, c) @ x + b2[..., None]
        return x.view(N, Q, h, w)
