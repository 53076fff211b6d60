"""The cross-modal FPN: from the encoder's memory and C2 to mask features at stride 4, words read at every level."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import Attention

SPATIAL_REDUCTION = {1: 8, 2: 4, 3: 2, 4: 1}


class ConvNorm(nn.Conv2d):
    """Convolution without bias and GroupNorm of 8 groups; keys `weight`, `norm.*`."""

    def __init__(self, in_dim: int, out_dim: int, kernel: int) -> None:
        super().__init__(in_dim, out_dim, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(8, out_dim)
        nn.init.kaiming_uniform_(self.weight, a=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))


class VisionLanguageBlock(nn.Module):
    """All pixels of a clip attend to a reduced grid of themselves, then to the words; then a feed-forward net."""

    def __init__(self, dim: int, heads: int, feedforward: int, reduction: int, dropout: float) -> None:
        super().__init__()
        self.reduction = reduction
        self.self_attn = Attention(dim, heads, dropout)
        self.multihead_attn = Attention(dim, heads, dropout)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def _among_pixels(self, x_MTCHW: Tensor, position_M1CHW: Tensor, padding_MHW: Tensor | None) -> Tensor:
        """Self-attention on the reduced grid, brought back to full size; tokens [M, T*H*W, C]."""
        clips, frames, dim, h, w = x_MTCHW.shape
        size = (h // self.reduction, w // self.reduction)
        coded = x_MTCHW + position_M1CHW
        value = x_MTCHW
        if self.reduction > 1:
            coded, value = (
                F.interpolate(m.flatten(0, 1), size=size, mode="nearest").unflatten(0, (clips, frames))
                for m in (coded, value)
            )
        padding = None
        if padding_MHW is not None:
            small = F.interpolate(padding_MHW[:, None].float(), size=size, mode="nearest")[:, 0] > 0.5
            padding = small[:, None].expand(-1, frames, -1, -1).flatten(1)
        tokens, values = (m.permute(0, 1, 3, 4, 2).flatten(1, 3) for m in (coded, value))
        out = self.self_attn(tokens, tokens, values, padding)
        if self.reduction == 1:
            return out
        grid = out.view(clips * frames, *size, dim).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=(h, w), mode="bilinear", align_corners=False)
        return grid.permute(0, 2, 3, 1).reshape(clips, -1, dim)

    def forward(
        self,
        x_MTCHW: Tensor,
        position_M1CHW: Tensor,
        padding_MHW: Tensor | None,
        words_MLC: Tensor,
        word_positions_MLC: Tensor,
        word_padding_ML: Tensor,
    ) -> Tensor:
        """M = B*E clips of T frames -> same shape [M, T, C, H, W]."""
        shape = x_MTCHW.shape
        x = x_MTCHW.permute(0, 1, 3, 4, 2).flatten(1, 3)
        position = position_M1CHW.expand(shape).permute(0, 1, 3, 4, 2).flatten(1, 3)
        x = self.norm1(x + self.dropout(self._among_pixels(x_MTCHW, position_M1CHW, padding_MHW)))
        read = self.multihead_attn(x + position, words_MLC + word_positions_MLC, words_MLC, word_padding_ML)
        x = self.norm2(x + self.dropout(read))
        hidden = self.linear2(self.dropout(self.linear1(x).relu()))
        x = self.norm3(x + self.dropout(hidden))
        return x.view(shape[0], shape[1], shape[3], shape[4], shape[2]).permute(0, 1, 4, 2, 3)


class PixelDecoder(nn.Module):
    """Stride 32 -> 16 -> 8 -> 4; suffixes 4, 3, 2, 1 of the keys are the released ones."""

    def __init__(self, dim: int, heads: int, feedforward: int, c2_channels: int, dropout: float) -> None:
        super().__init__()
        for i, reduction in SPATIAL_REDUCTION.items():
            self.add_module(f"adapter_{i}", ConvNorm(c2_channels if i == 1 else dim, dim, 1))
            self.add_module(f"cross_attn_{i}", VisionLanguageBlock(dim, heads, feedforward, reduction, dropout))
            self.add_module(f"layer_{i}", ConvNorm(dim, dim, 3))
        self.mask_features = nn.Conv2d(dim, dim, 3, padding=1)
        nn.init.kaiming_uniform_(self.mask_features.weight, a=1)
        assert self.mask_features.bias is not None
        nn.init.zeros_(self.mask_features.bias)

    def forward(
        self,
        c2: Tensor,
        memory: tuple[Tensor, Tensor, Tensor],
        positions: tuple[Tensor, ...],
        padding: tuple[Tensor | None, ...],
        words: tuple[Tensor, Tensor, Tensor],
        batch: int,
    ) -> Tensor:
        """Mask features [N, C, h, w] at stride 4, N = B*E*T.

        c2 [B*T, C2, h, w] has read no sentence; memory: encoder levels of stride 8, 16, 32, each [N, C, h, w];
        positions [B, C, h, w] and padding [B, h, w] of strides 4 to 32; words: features, position codes [B, E, L, C]
        and padding [B, E, L].
        """
        word_features, word_positions, word_padding = (w.flatten(0, 1) for w in words)
        clips = word_features.shape[0]
        expressions = clips // batch
        y = None
        for i in (4, 3, 2, 1):
            adapter, block, layer = (self.get_submodule(f"{name}_{i}") for name in ("adapter", "cross_attn", "layer"))
            if i == 1:
                lateral = adapter(c2).unflatten(0, (batch, 1, -1)).expand(-1, expressions, -1, -1, -1, -1).flatten(0, 1)
            else:
                lateral = adapter(memory[i - 2]).unflatten(0, (clips, -1))
            position = positions[i - 1].repeat_interleave(expressions, 0)[:, None]
            pad = padding[i - 1]
            pad = None if pad is None else pad.repeat_interleave(expressions, 0)
            z = block(lateral, position, pad, word_features, word_positions, word_padding).flatten(0, 1)
            if y is not None:
                z = z + F.interpolate(y, size=z.shape[-2:], mode="nearest")
            y = layer(z).relu()
        return self.mask_features(y)
