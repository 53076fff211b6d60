"""Convolutional backbones: torchvision's ResNet with frozen or trainable norms, and a tiny one for small CPUs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import Bottleneck
from torchvision.models.resnet import ResNet as TorchvisionResNet

RESNET_BLOCKS = {"resnet50": [3, 4, 6, 3], "resnet101": [3, 4, 23, 3]}


class FrozenBatchNorm(nn.Module):
    """Batch norm with everything fixed: x * scale + (bias - mean * scale), scale = weight / sqrt(var + 1e-5).

    All four are buffers, so no optimizer, average or weight decay ever sees them.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        offset = self.bias - self.running_mean * scale
        # Rounded only now: under autocast the maps are bfloat16 and must stay so.
        scale, offset = scale.to(x_NCHW.dtype).view(-1, 1, 1), offset.to(x_NCHW.dtype).view(-1, 1, 1)
        return torch.addcmul(offset, x_NCHW, scale)


def group_norm_32(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels)


def run_blocks(blocks: nn.Module, x: Tensor, checkpoint_activations: bool) -> Tensor:
    """The blocks in order; with checkpointing each one's activations are computed again in backward."""
    for block in blocks.children():
        if checkpoint_activations and torch.is_grad_enabled():
            x = checkpoint(block, x, use_reentrant=False)
        else:
            x = block(x)
    return x


class ResNet(TorchvisionResNet):
    """torchvision's bottleneck ResNet (stride on the 3x3) without its classifier, giving all four levels."""

    channels = (256, 512, 1024, 2048)

    def __init__(self, blocks: Sequence[int], frozen_norm: bool) -> None:
        """With `frozen_norm` the norms need loaded statistics; without, they are trainable GroupNorm(32)."""
        norm: Callable[..., nn.Module] = FrozenBatchNorm if frozen_norm else group_norm_32
        # A residual branch that starts at zero trains better; frozen norms get their scales from a file.
        super().__init__(Bottleneck, list(blocks), norm_layer=norm, zero_init_residual=not frozen_norm)
        self.checkpoint_activations = False
        del self.fc, self.avgpool

    def forward(self, frames_BTCHW: Tensor) -> tuple[Tensor, ...]:
        """C2..C5, each [B*T, C, h, w], strides 4, 8, 16, 32 (sides rounded up)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(frames_BTCHW.flatten(0, 1)))))
        levels = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = run_blocks(stage, x, self.checkpoint_activations)
            levels.append(x)
        return tuple(levels)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with GroupNorm and a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(8, channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.GroupNorm(8, channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class TinyResNet(nn.Module):
    """A residual network of 1.3 M parameters to train from random weights on a CPU.

    Almost all its width sits at strides 8 and 16, where a pixel is cheap; the stem overlaps its strides, so
    edges keep sub-stride position. GroupNorm, because clips are few and neighbours in a clip are alike.
    """

    channels = (32, 64, 128, 192)

    def __init__(self) -> None:
        super().__init__()
        self.checkpoint_activations = False
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
            nn.GroupNorm(8, 16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
            nn.GroupNorm(8, 32),
            nn.ReLU(),
        )
        self.stages = nn.ModuleList()
        width = 32
        for channels, blocks, stride in zip(self.channels, (2, 2, 2, 1), (1, 2, 2, 2), strict=True):
            first = BasicBlock(width, channels, stride)
            rest = (BasicBlock(channels, channels, 1) for _ in range(blocks - 1))
            self.stages.append(nn.Sequential(first, *rest))
            width = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, frames_BTCHW: Tensor) -> tuple[Tensor, ...]:
        """C2..C5, each [B*T, C, h, w], strides 4, 8, 16, 32 (sides rounded up)."""
        x, levels = self.stem(frames_BTCHW.flatten(0, 1)), []
        for stage in self.stages:
            x = run_blocks(stage, x, self.checkpoint_activations)
            levels.append(x)
        return tuple(levels)
