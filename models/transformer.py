"""The deformable encoder and decoder of Deformable DETR, as ReferFormer stacks them, with the tracking step.

Rows N are (video, expression, frame) triples; frames never meet here except in the optional temporal layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import Attention
from models.mlp import MLP
from models.ops import MSDeformAttn
from models.temporal import TemporalLayer
from util.boxes import inverse_sigmoid
from util.types import ExpressionFeatures, TrackingMemory

Shapes = tuple[tuple[int, int], ...]
FIRST_BOX_LOGIT = -2.0  # of width and height before training


@dataclass(frozen=True)
class DecoderOutput:
    """Per layer: embeddings [N, Q, C]; boxes [N, Q, 4] with gradient; references [N, Q, 2 or 4] given to it."""

    embeddings: tuple[Tensor, ...]
    boxes: tuple[Tensor, ...]
    references: tuple[Tensor, ...]


@dataclass(frozen=True)
class LayerSizes:
    """What encoder and decoder layers have in common."""

    dim: int
    heads: int
    levels: int
    points: int
    feedforward: int
    dropout: float


class EncoderLayer(nn.Module):
    """Deformable self-attention over the four levels of one frame, then a feed-forward net; post-norm."""

    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        dim = sizes.dim
        self.self_attn = MSDeformAttn(dim, sizes.heads, sizes.levels, sizes.points)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, sizes.feedforward)
        self.linear2 = nn.Linear(sizes.feedforward, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(
        self, x_NSC: Tensor, position_NSC: Tensor, references: Tensor, shapes: Shapes, padding_NS: Tensor | None
    ) -> Tensor:
        attended = self.self_attn(x_NSC + position_NSC, references, x_NSC, shapes, padding_NS)
        x_NSC = self.norm1(x_NSC + self.dropout(attended))
        hidden = self.linear2(self.dropout(self.linear1(x_NSC).relu()))
        return self.norm2(x_NSC + self.dropout(hidden))


class Encoder(nn.Module):
    """A stack of encoder layers."""

    def __init__(self, layers: int, sizes: LayerSizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(sizes) for _ in range(layers))

    def forward(
        self, x_NSC: Tensor, position_NSC: Tensor, ratios_NL2: Tensor, shapes: Shapes, padding_NS: Tensor | None
    ) -> Tensor:
        references = pixel_references(shapes, ratios_NL2)
        for layer in self.layers:
            x_NSC = layer(x_NSC, position_NSC, references, shapes, padding_NS)
        return x_NSC


def pixel_references(shapes: Shapes, ratios_NL2: Tensor) -> Tensor:
    """[N, S, L, 2]: each pixel's centre as a share of the valid area, brought to every level's padded extent."""
    centres = []
    for level, (h, w) in enumerate(shapes):
        y = torch.arange(h, dtype=ratios_NL2.dtype, device=ratios_NL2.device) + 0.5
        x = torch.arange(w, dtype=ratios_NL2.dtype, device=ratios_NL2.device) + 0.5
        y = y / (ratios_NL2[:, level, 1:] * h)
        x = x / (ratios_NL2[:, level, :1] * w)
        grid = torch.stack((x[:, None, :].expand(-1, h, w), y[:, :, None].expand(-1, h, w)), -1)
        centres.append(grid.flatten(1, 2))
    return torch.cat(centres, 1)[:, :, None] * ratios_NL2[:, None]


class DecoderLayer(nn.Module):
    """Queries meet each other, the tracking memory if there is one, the frame's memory, and a feed-forward net.

    The tracking step uses the very modules of the frame's own attention (TF-RVOS): it adds no parameter, and rows
    without tracking information skip it.
    """

    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        dim = sizes.dim
        self.cross_attn = MSDeformAttn(dim, sizes.heads, sizes.levels, sizes.points)
        self.norm1 = nn.LayerNorm(dim)
        self.self_attn = Attention(dim, sizes.heads, sizes.dropout)
        self.norm2 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, sizes.feedforward)
        self.linear2 = nn.Linear(sizes.feedforward, dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(sizes.dropout)

    def _attend(
        self, queries: Tensor, position: Tensor, reference: Tensor, source: ExpressionFeatures | TrackingMemory
    ) -> Tensor:
        references = scale_references(reference, source.ratios_NL2)
        attended = self.cross_attn(queries + position, references, source.memory_NSC, source.shapes, source.padding_NS)
        return self.norm1(queries + self.dropout(attended))

    def forward(
        self,
        queries: Tensor,
        position: Tensor,
        reference: Tensor,
        current: ExpressionFeatures,
        tracking: TrackingMemory | None,
    ) -> Tensor:
        """queries, position [N, Q, C], reference [N, Q, 2 or 4] -> [N, Q, C]."""
        q = queries + position
        queries = self.norm2(queries + self.dropout(self.self_attn(q, q, queries)))
        if tracking is not None:
            tracked = self._attend(queries, position, reference, tracking)
            queries = torch.where(tracking.present_N[:, None, None], tracked, queries)
        queries = self._attend(queries, position, reference, current)
        hidden = self.linear2(self.dropout(self.linear1(queries).relu()))
        return self.norm3(queries + self.dropout(hidden))


def scale_references(reference: Tensor, ratios_NL2: Tensor) -> Tensor:
    """References of the un-padded frame [N, Q, 2 or 4] as [N, Q, L, 2 or 4] of each padded level."""
    ratios = ratios_NL2 if reference.shape[-1] == 2 else ratios_NL2.repeat(1, 1, 2)
    return reference[:, :, None] * ratios[:, None]


class Decoder(nn.Module):
    """A stack of decoder layers; keys `layers.{i}.*`."""

    def __init__(self, layers: int, sizes: LayerSizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(sizes) for _ in range(layers))

    def forward(
        self,
        queries: Tensor,
        position: Tensor,
        reference: Tensor,
        current: ExpressionFeatures,
        tracking: TrackingMemory | None,
        *,
        box_heads: nn.ModuleList,
        temporal: nn.ModuleList | None,
    ) -> DecoderOutput:
        """Refine boxes layer by layer (`box_heads`); `temporal` layers, if any, follow each decoder layer."""
        embeddings, boxes, references = [], [], []
        for i, layer in enumerate(self.layers):
            queries = layer(queries, position, reference, current, tracking)
            if temporal is not None:
                queries = temporal[i](queries, reference, current.times_BT, current.sentence_BEC.shape[1])
            references.append(reference)
            box = refine(box_heads[i](queries), reference)
            embeddings.append(queries)
            boxes.append(box)
            reference = box.detach()
        return DecoderOutput(tuple(embeddings), tuple(boxes), tuple(references))


def refine(delta: Tensor, reference: Tensor) -> Tensor:
    """New box [..., 4]: the head's delta added in logit space; a point reference has a centre only."""
    delta = delta.to(torch.promote_types(delta.dtype, torch.float32))
    offset = inverse_sigmoid(reference)
    return (delta + F.pad(offset, (0, 4 - offset.shape[-1]))).sigmoid()


class DeformableTransformer(nn.Module):
    """Encoder, decoder, level codes and the queries' first reference points; keys as in Deformable DETR."""

    def __init__(self, sizes: LayerSizes, *, encoder_layers: int, decoder_layers: int) -> None:
        super().__init__()
        self.encoder = Encoder(encoder_layers, sizes)
        self.decoder = Decoder(decoder_layers, sizes)
        self.level_embed = nn.Parameter(torch.empty(sizes.levels, sizes.dim))
        self.reference_points = nn.Linear(sizes.dim, 2)
        self._initialise()

    def _initialise(self) -> None:
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)
        for m in self.modules():
            if isinstance(m, MSDeformAttn):
                m.reset_parameters()
        nn.init.zeros_(self.reference_points.bias)
        nn.init.normal_(self.level_embed)

    def initial_reference(
        self, query_embed_QC: Tensor, rows: int, tracking: TrackingMemory | None, starts_NQ2: Tensor | None = None
    ) -> Tensor:
        """[N, Q, 2]: learned points, or learned steps away from `starts_NQ2` (in logits) where those are given; in the
        rows that have a reference mask, its centre."""
        logits = self.reference_points(query_embed_QC).expand(rows, -1, -1)
        reference = (logits if starts_NQ2 is None else inverse_sigmoid(starts_NQ2) + logits).sigmoid()
        if tracking is None or tracking.centres_N2 is None:
            return reference
        centres = tracking.centres_N2[:, None].to(reference.dtype)
        return torch.where(tracking.present_N[:, None, None], centres, reference)


def box_heads(dim: int, layers: int) -> nn.ModuleList:
    """One box MLP per decoder layer; they start by repeating their reference, the first one with a small box."""
    heads = [MLP(dim, dim, 4, 3) for _ in range(layers)]
    for head in heads:
        nn.init.zeros_(head.last.weight)
        nn.init.zeros_(head.last.bias)
    nn.init.constant_(heads[0].last.bias[2:], FIRST_BOX_LOGIT)
    return nn.ModuleList(heads)


def temporal_layers(dim: int, heads: int, layers: int) -> nn.ModuleList:
    """One gated temporal layer per decoder layer."""
    return nn.ModuleList(TemporalLayer(dim, heads) for _ in range(layers))
