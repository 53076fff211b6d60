"""Predictions and targets that the matcher's and the criterion's tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from util.boxes import masks_to_boxes, xyxy_to_cxcywh
from util.types import ABSENT, PRESENT, Prediction, Targets

# Each oracle file of section 3 and the file that holds its predictions.
ORACLES = {"B1": "A1", "B2": "A1", "B3": "A2", "B4": "A1", "B5": "A1", "B6": "B6", "B7": "B7"}


def prediction_of(
    logits_BETQK: Tensor,
    boxes_BETQ4: Tensor,
    masks_BETQhw: Tensor,
    aux: tuple[Prediction, ...] = (),
    presence_BETQ: Tensor | None = None,
) -> Prediction:
    """A prediction with what the losses read; the rest is empty."""
    empty = logits_BETQK.new_zeros(*logits_BETQK.shape[:-1], 0)
    return Prediction(logits_BETQK, boxes_BETQ4, masks_BETQhw, presence_BETQ, empty, empty, aux)


def random_prediction(
    batch: int = 2, expressions: int = 2, frames: int = 3, queries: int = 5, size: tuple[int, int] = (32, 48)
) -> Prediction:
    """Predictions from torch's global generator, with a presence head."""
    shape = (batch, expressions, frames, queries)
    return prediction_of(
        torch.randn(*shape, 1),
        torch.rand(*shape, 4) * 0.5 + 0.2,
        2 * torch.randn(*shape, size[0] // 4, size[1] // 4),
        presence_BETQ=torch.randn(shape),
    )


def rectangle_targets(
    batch: int = 2, expressions: int = 2, objects: int = 1, frames: int = 3, size: tuple[int, int] = (32, 48)
) -> Targets:
    """Random rectangles, present in every frame."""
    height, width = size
    shape = (batch, expressions, objects, frames, 1, 1)
    top, left = torch.randint(0, height // 2, shape), torch.randint(0, width // 2, shape)
    bottom, right = top + torch.randint(8, height // 2, shape), left + torch.randint(8, width // 2, shape)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    masks = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    boxes = xyxy_to_cxcywh(masks_to_boxes(masks)) / torch.tensor([width, height, width, height])
    return Targets(
        masks_BENTHW=masks,
        boxes_BENT4=boxes,
        states_BENT=torch.full(shape[:4], PRESENT, dtype=torch.int8),
        objects_BEN=torch.ones(shape[:3], dtype=torch.bool),
        labels_BEN=torch.zeros(shape[:3], dtype=torch.long),
    )


def golden() -> tuple[Prediction, Targets, Tensor]:
    """Two clips of the published goldens: one fills the canvas, one is padded and has an absent frame."""

    def uniform(seed: int, low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(np.random.RandomState(seed).uniform(low, high, shape).astype(np.float32))[:, None]

    prediction = prediction_of(
        2 * uniform(31, -1, 1, 2, 3, 5, 1), uniform(32, 0.2, 0.8, 2, 3, 5, 4), 3 * uniform(33, -1, 1, 2, 3, 5, 16, 16)
    )
    sizes = torch.tensor([[64, 64], [48, 60]])
    masks = torch.zeros(2, 1, 1, 3, 64, 64, dtype=torch.bool)
    for clip, frame, (x0, y0, x1, y1) in (
        (0, 0, (8, 8, 39, 31)),
        (0, 1, (10, 8, 41, 31)),
        (0, 2, (12, 8, 43, 31)),
        (1, 0, (20, 4, 50, 40)),
        (1, 2, (24, 6, 55, 44)),
    ):
        masks[clip, 0, 0, frame, y0 : y1 + 1, x0 : x1 + 1] = True
    scale = sizes.flip(-1).repeat(1, 2)[:, None, None, None]
    targets = Targets(
        masks_BENTHW=masks,
        boxes_BENT4=xyxy_to_cxcywh(masks_to_boxes(masks, inclusive=True)) / scale,
        states_BENT=torch.where(masks.flatten(-2).any(-1), PRESENT, ABSENT).to(torch.int8),
        objects_BEN=torch.ones(2, 1, 1, dtype=torch.bool),
        labels_BEN=torch.zeros(2, 1, 1, dtype=torch.long),
    )
    return prediction, targets, sizes


def oracle_case(folder: Path, name: str) -> tuple[Prediction, Targets, Tensor, np.lib.npyio.NpzFile]:
    """Prediction, targets and sizes of an oracle file B1..B7, and the file with the expected numbers."""
    golden_file = np.load(folder / f"{name}.npz")
    source = np.load(folder / f"{ORACLES[name]}.npz")

    def layer(prefix: str, aux: tuple[Prediction, ...] = ()) -> Prediction:
        kinds = ("logits", "boxes", "masks")
        return prediction_of(*(torch.from_numpy(source[f"{prefix}pred_{kind}"])[:, None] for kind in kinds), aux)

    layers = sum(key.endswith(".pred_logits") for key in source.files)
    prediction = layer("", tuple(layer(f"aux{n}.") for n in range(layers)))
    height, width = (4 * n for n in prediction.masks_BETQhw.shape[-2:])

    def stack(field: str) -> Tensor:
        clips = len(prediction.logits_BETQK)
        return torch.stack([torch.from_numpy(golden_file[f"tgt{n}.{field}"]) for n in range(clips)])

    masks = []
    for n in range(len(prediction.logits_BETQK)):
        mask = torch.from_numpy(golden_file[f"tgt{n}.masks"]).bool()
        masks.append(F.pad(mask, (0, width - mask.shape[-1], 0, height - mask.shape[-2])))
    targets = Targets(
        masks_BENTHW=torch.stack(masks)[:, None, None],
        boxes_BENT4=stack("boxes")[:, None, None],
        states_BENT=torch.where(stack("valid") > 0, PRESENT, ABSENT).to(torch.int8)[:, None, None],
        objects_BEN=torch.ones(len(masks), 1, 1, dtype=torch.bool),
        labels_BEN=stack("labels")[:, :1, None],
    )
    return prediction, targets, stack("size"), golden_file


def shares(masks: Tensor) -> Tensor:
    """Of each stride-4 cell the share that masks [..., H, W] cover, [..., H / 4, W / 4]."""
    return masks.float().unflatten(-1, (-1, 4)).unflatten(-3, (-1, 4)).mean((-3, -1))
