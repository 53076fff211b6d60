"""The heads that read each query: whether it is the referent, and the small network that draws its mask."""

from __future__ import annotations

import math

from torch import nn

from models.mlp import MLP

CLASS_PRIOR = 0.01


def class_heads(dim: int, classes: int, layers: int) -> nn.ModuleList:
    """One linear head per decoder layer, biased so that everything starts unlikely (focal loss)."""
    heads = [nn.Linear(dim, classes) for _ in range(layers)]
    for head in heads:
        nn.init.constant_(head.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))
    return nn.ModuleList(heads)


def controller(dim: int, written: int) -> MLP:
    """The MLP that writes each query's mask network."""
    writer = MLP(dim, dim, written, 3)
    for name, parameter in writer.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.xavier_uniform_(parameter)
    return writer
