"""Frames of a video as SAM 2 and SAM 3 read them: square, normalised, made when they are asked for and not kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from util.types import FrameSource


@dataclass(frozen=True)
class Scaling:
    """What is taken from each colour (0..1), and by what the rest is divided."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Scaling((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # which every SAM 2 was trained with


class ModelFrames:
    """A sequence of float32 [3, S, S]: what their code wants of a video is its length and its frames one by one.

    Resized as transformers' processor does it (bilinear, smoothed against aliasing, rounded to bytes). Meta's own
    reader of JPEG folders resizes with PIL, whose filter is another one; the masks of both differ by less than 1 %.
    """

    def __init__(self, source: FrameSource, side: int, scaling: Scaling = IMAGENET) -> None:
        self.source, self.side, self.scaling = source, side, scaling
        self.size = source.size

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Tensor:
        image_3HW = torch.from_numpy(self.source[index].copy()).permute(2, 0, 1)
        square_3SS = tv.resize(image_3HW, [self.side, self.side], antialias=True)
        return tv.normalize(square_3SS.float() / 255, list(self.scaling.mean), list(self.scaling.std))
