"""Time: attention among the queries of all frames of a clip, gated to zero at first.

The reference network never tells frames apart, so "moving left" and "moving right" are one to it. Here each query
carries a code of its frame's time and of its box, and the queries of all frames see each other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.attention import Attention
from models.position_encoding import sine_scalar


class TemporalLayer(nn.Module):
    """queries + gate * attention(norm(queries) + code of time and box); the gate is a scalar that starts at zero."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim = dim
        self.norm = nn.LayerNorm(dim)
        self.time_code = nn.Linear(dim, dim)
        self.box_code = nn.Linear(2 * dim, dim)
        self.attention = Attention(dim, heads)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, queries_NQC: Tensor, reference_NQX: Tensor, times_BT: Tensor, expressions: int) -> Tensor:
        """queries [N, Q, C], their references [N, Q, 2 or 4], times in seconds [B, T] -> [N, Q, C]; N = B*E*T.

        The values carry the codes too, so that an attended query says when and where it was seen.
        """
        batch, frames = times_BT.shape
        elapsed = times_BT - times_BT[:, :1]
        time = self.time_code(sine_scalar(elapsed, self.dim, math.pi).to(queries_NQC.dtype))
        time = time[:, None, :, None].expand(batch, expressions, frames, 1, self.dim)
        centre = sine_scalar(reference_NQX[..., :2], self.dim, 2 * math.pi).flatten(-2)
        box = self.box_code(centre.to(queries_NQC.dtype))
        coded = (self.norm(queries_NQC) + box).view(batch, expressions, frames, -1, self.dim) + time
        tokens = coded.flatten(2, 3)
        attended = self.attention(tokens, tokens, tokens)
        return queries_NQC + self.gate * attended.view_as(queries_NQC)
