"""The deformable attention module, with Deformable-DETR's parameter names and initialisation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.ops.msda import Shapes, deformable_attention


class MSDeformAttn(nn.Module):
    """Each query samples `points` places per level and head around its reference point or box."""

    def __init__(self, dim: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Each head starts by looking in its own direction, point p at distance p + 1."""
        theta = torch.arange(self.heads, dtype=torch.float32) * (2 * math.pi / self.heads)
        direction = torch.stack((theta.cos(), theta.sin()), -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        reach = torch.arange(1, self.points + 1, dtype=torch.float32)
        bias = direction[:, None, None, :] * reach[None, None, :, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(bias.expand(self.heads, self.levels, self.points, 2).flatten())
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self, query_NQC: Tensor, references: Tensor, source_NSC: Tensor, shapes: Shapes, padding_NS: Tensor | None
    ) -> Tensor:
        """Attend to `source_NSC` (levels concatenated). Returns [N, Q, C].

        references: [N, Q, levels, 2] points or [N, Q, levels, 4] boxes (cxcywh), in 0..1 of the padded level;
        offsets are then in pixels of the level, or in halves of the box side shared among the points.
        padding_NS True = padding, whose value (bias included) is zero.
        """
        N, Q, _ = query_NQC.shape
        value = self.value_proj(source_NSC)
        if padding_NS is not None:
            value = value.masked_fill(padding_NS[..., None], 0.0)
        value = value.unflatten(-1, (self.heads, -1))
        # Coordinates below float32 miss their pixel, so autocast stops here.
        with torch.autocast(query_NQC.device.type, enabled=False):
            query = query_NQC.to(self.sampling_offsets.weight.dtype)
            full = torch.promote_types(query.dtype, torch.float32)
            offsets = self.sampling_offsets(query).view(N, Q, self.heads, self.levels, self.points, 2)
            weights = self.attention_weights(query).view(N, Q, self.heads, self.levels * self.points).softmax(-1)
            weights = weights.view(N, Q, self.heads, self.levels, self.points)
            locations = self._locations(references.to(full), offsets.to(full), shapes)
        return self.output_proj(deformable_attention(value, shapes, locations, weights))

    def _locations(self, references: Tensor, offsets: Tensor, shapes: Shapes) -> Tensor:
        # along one last axis: broadcasting over axes of 2 and 4 takes six times as long
        along = (*references.shape[:2], 1, self.levels, self.points, 2)
        moved, centres = offsets.flatten(3), references[:, :, None, :, None, :2].expand(along).flatten(3)
        if references.shape[-1] == 2:
            sides = torch.tensor([[w, h] for h, w in shapes], dtype=offsets.dtype, device=offsets.device)
            found = centres + moved / sides[:, None, :].expand(-1, self.points, -1).flatten()
        else:
            sides = references[:, :, None, :, None, 2:].expand(along).flatten(3)
            found = centres + moved / self.points * sides * 0.5
        return found.view_as(offsets)
