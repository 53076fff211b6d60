"""Small inputs and states for the backbones' tests."""

from __future__ import annotations

import math

import torch
from torch import nn

from models.backbone import BackboneConfig, build_backbone
from models.swin import SwinShape

SMALL = SwinShape(24, (2, 2, 2, 2), (1, 2, 3, 4), 0.1)


def outline(name: str, **changes) -> nn.Sequential:
    """The backbone without memory behind its tensors."""
    with torch.device("meta"):
        return build_backbone(BackboneConfig(name, **changes))


def randomise(module: nn.Module, seed: int) -> nn.Module:
    """Every parameter and running statistic away from its special initial value; double precision, eval mode."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            if tensor.dim() == 1:
                tensor.copy_(1 + 0.1 * noise.abs() if name.endswith(("weight", "running_var")) else 0.1 * noise)
            else:
                tensor.copy_(noise / math.sqrt(tensor[0].numel() if tensor.dim() > 2 else tensor.shape[-1]))
    return module


def clip(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Random frames, the same every time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
