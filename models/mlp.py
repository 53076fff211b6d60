"""A plain multi-layer perceptron with ReLU between its layers (DETR's box head); keys `layers.{i}.*`."""

from __future__ import annotations

from torch import Tensor, nn


class MLP(nn.Module):
    """`depth` linear layers: in_dim -> hidden -> ... -> out_dim."""

    def __init__(self, in_dim: int, hidden: int, out_dim: int, depth: int) -> None:
        super().__init__()
        widths = [in_dim] + [hidden] * (depth - 1)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, [*widths[1:], out_dim], strict=True))

    @property
    def last(self) -> nn.Linear:
        """The output layer."""
        layer = self.layers[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_dim] -> [..., out_dim]."""
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)
