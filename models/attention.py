"""Multi-head attention over SDPA with nn.MultiheadAttention's parameter names, so that its checkpoints load.

Unlike nn.MultiheadAttention it never materialises the weights and lets the batch dimensions of queries and keys
broadcast, so that one video's queries are projected once for all of its sentences.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Scaled dot-product attention; keys `in_proj_weight`, `in_proj_bias`, `out_proj.*`."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(-2, -3)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None) -> Tensor:
        """query [..., Lq, d], key and value [..., Lk, d], padding bool [..., Lk] (True = ignore) -> [..., Lq, d].

        Leading dimensions broadcast against each other.
        """
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        inputs = (query, key, value)
        q, k, v = (self._heads(F.linear(x, w, b)) for x, w, b in zip(inputs, weights, biases, strict=True))
        lead = torch.broadcast_shapes(q.shape[:-3], k.shape[:-3])
        q, k, v = (x.expand(*lead, *x.shape[-3:]) for x in (q, k, v))
        mask = None
        if padding is not None:
            mask = ~padding[..., None, None, :].expand(*lead, 1, 1, padding.shape[-1])
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.out_proj(out.transpose(-2, -3).flatten(-2))
