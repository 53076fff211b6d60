"""Text meets image early: the resizer brings words to the network's width, the fusion gates pixels by sentences."""

from __future__ import annotations

from torch import Tensor, nn

from models.attention import Attention


class FeatureResizer(nn.Module):
    """Linear, LayerNorm (eps 1e-12 as released), dropout; shared by words and sentence features."""

    def __init__(self, in_dim: int, out_dim: int, dropout: float) -> None:
        super().__init__()
        self.fc = nn.Linear(in_dim, out_dim)
        self.layer_norm = nn.LayerNorm(out_dim, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """[..., in_dim] -> [..., out_dim]."""
        return self.dropout(self.layer_norm(self.fc(features)))


class VisionLanguageFusion(nn.Module):
    """Pixels attend to words; the result multiplies the pixels (ReferFormer). No residual, norm or FFN."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = Attention(dim, heads)

    def forward(self, pixels_BSC: Tensor, words_BELC: Tensor, positions_BELC: Tensor, padding_BEL: Tensor) -> Tensor:
        """S tokens of all frames of each clip -> [B, E, S, C]; queries are projected once for all sentences."""
        pixels = pixels_BSC[:, None]
        attended = self.multihead_attn(pixels, words_BELC + positions_BELC, words_BELC, padding_BEL)
        return pixels * attended
