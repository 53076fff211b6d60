"""The video backbone: frames in, four feature maps per frame out. Chooses the network and what of it is trained.

State keys are `0.body.*` below `build_backbone`, so a segmenter's `backbone` has the released checkpoints' keys.
Weights of ImageNet and Kinetics files come in through `models/imagenet.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from models.imagenet import load_imagenet
from models.resnet import RESNET_BLOCKS, ResNet, TinyResNet
from models.swin import SWIN_SHAPES, Swin, SwinStage
from models.video_swin import VIDEO_SWIN_SHAPES, VideoSwin
from util.errors import InputError

__all__ = ["BACKBONES", "Backbone", "BackboneConfig", "build_backbone", "load_imagenet"]

BACKBONES = (*RESNET_BLOCKS, *SWIN_SHAPES, *VIDEO_SWIN_SHAPES, "tiny")


@dataclass(frozen=True)
class BackboneConfig:
    """Which backbone, and how it is trained. `norm` matters to ResNets alone, `drop_path` to Swins alone."""

    name: str = "resnet50"  # one of BACKBONES
    norm: Literal["frozen", "group"] = "frozen"  # FrozenBatchNorm (pre-trained weights) or trainable GroupNorm
    train: bool = True  # False freezes all; with frozen norms conv1 and layer1 of a ResNet never train
    drop_path: float | None = None  # None: the published rate
    checkpoint_activations: bool = False  # less memory in training, one more forward of each block


class Backbone(nn.Module):
    """`body` is the network; `channels` are those of C2..C5."""

    def __init__(self, config: BackboneConfig) -> None:
        """Random weights. Raises InputError for an unknown name."""
        super().__init__()
        self.config = config
        self.body = build_body(config)
        self.channels: tuple[int, ...] = self.body.channels
        self._freeze()
        self.train()

    def forward(self, frames_BTCHW: Tensor) -> tuple[Tensor, ...]:
        """C2..C5 of normalised frames, each [B*T, C, h, w] with h = ceil(H / stride), strides 4, 8, 16, 32.

        Video-Swin mixes the T frames of a clip; every other backbone sees each frame alone.
        """
        return self.body(frames_BTCHW)

    def train(self, mode: bool = True) -> Backbone:
        """As in nn.Module, but a backbone that is not trained stays in eval mode: its features are fixed."""
        return super().train(mode and self.config.train)

    def _freeze(self) -> None:
        if not self.config.train:
            self.requires_grad_(False)
        elif isinstance(self.body, ResNet) and self.config.norm == "frozen":
            self.body.conv1.requires_grad_(False)
            self.body.layer1.requires_grad_(False)


def build_body(config: BackboneConfig) -> ResNet | Swin | VideoSwin | TinyResNet:
    """The network that `config` names, with random weights. Raises InputError for an unknown name."""
    body: ResNet | Swin | VideoSwin | TinyResNet
    if config.name in RESNET_BLOCKS:
        body = ResNet(RESNET_BLOCKS[config.name], frozen_norm=config.norm == "frozen")
    elif config.name in SWIN_SHAPES:
        body = Swin(SWIN_SHAPES[config.name], config.drop_path)
    elif config.name in VIDEO_SWIN_SHAPES:
        body = VideoSwin(VIDEO_SWIN_SHAPES[config.name], config.drop_path)
    elif config.name == "tiny":
        body = TinyResNet()
    else:
        raise InputError(f"no backbone is called {config.name!r}; choose one of {', '.join(BACKBONES)}")
    for module in body.modules():
        if isinstance(module, ResNet | TinyResNet | SwinStage):
            module.checkpoint_activations = config.checkpoint_activations
    return body


def build_backbone(config: BackboneConfig) -> nn.Sequential:
    """The backbone as child "0" of a sequence, which is where the released checkpoints keep it."""
    return nn.Sequential(Backbone(config))
