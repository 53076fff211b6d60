"""What a training clip is told about the last frame: which frame that is, and how wrong the mask may be.

At inference the tracking stream gets the network's own mask of the frame before. Trained on true masks alone it never
sees a wrong one and follows its first mistake; so true masks are corrupted, taken from the wrong frame or object, left
out, and on a rising schedule replaced by the network's own. Pure functions on soft masks [N, h, w] with values in
0..1; every draw comes from the generator given (of any device), so a clip's draws can be repeated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from util.boxes import masks_to_boxes


@dataclass(frozen=True)
class CorruptionConfig:
    """Probability of each corruption of a reference mask (0 = off), each drawn on its own, and their sizes."""

    erode: float = 0.1
    dilate: float = 0.1
    boundary: float = 0.2  # noise instead of the edge
    drop: float = 0.1  # a rectangular part is missing
    wrong_object: float = 0.05  # the mask of another object of the same frame
    stale: float = 0.1  # reference two or more frames of the clip away instead of the neighbour
    jitter: float = 0.3  # shifted, scaled and turned a little
    radius: int = 2  # largest erosion and dilation, half the width of the noisy edge, in cells of the mask
    patch: tuple[float, float] = (0.3, 0.7)  # sides of the missing part, as shares of the object's box
    shift: float = 0.1  # largest shift, as a share of the object's box
    scale: float = 0.1  # largest relative change of size
    angle: float = 8.0  # largest turn, degrees


@dataclass(frozen=True)
class TrackingTraining:
    """How clips are trained with a tracking stream.

    drop_all         probability that a sentence of a clip gets no tracking information at all: the same network must
                     make the first pass
    self_prediction  probability, at the end of training, that a reference mask is the network's own, where it is right
    warmup           share of training before that probability begins to rise
    """

    drop_all: float = 0.2
    self_prediction: float = 0.5
    warmup: float = 0.2
    corruption: CorruptionConfig = field(default_factory=CorruptionConfig)


# ---- which frames, how often -----------------------------------------------------------------------------------------


def reference_index(clips: int, frames: int, generator: torch.Generator, *, stale: float = 0.0) -> Tensor:
    """Reference frame of every frame of every clip, int64 [clips, frames], positions in the clip.

    Frames look alternately one forward and one back (TF-RVOS's rule for even and odd frames), which parity begins is
    drawn for each clip: about half the references lie in the future, which is what tracking backwards needs. At the
    clip's ends the only neighbour is taken. With probability `stale` it is instead any frame at least two away, where
    there is one. A clip of one frame refers to itself, which tells the answer: go without tracking or load a second.
    """
    position = torch.arange(frames, device=generator.device)
    parity = torch.randint(2, (clips, 1), generator=generator, device=generator.device)
    neighbour = position + torch.where((position + parity) % 2 == 0, 1, -1)
    neighbour = torch.where(neighbour < 0, 1, neighbour)
    neighbour = torch.where(neighbour >= frames, frames - 2, neighbour).clamp(0, frames - 1)
    if stale > 0:
        far = ((position[:, None] - position).abs() >= 2).expand(clips, frames, frames)
        draws = torch.rand(clips, frames, frames, generator=generator, device=generator.device)
        other = torch.where(far, draws, -1).argmax(dim=-1)
        chosen = torch.rand(clips, frames, generator=generator, device=generator.device) < stale
        neighbour = torch.where(chosen & far.any(dim=-1), other, neighbour)
    return neighbour


def tracked(shape: tuple[int, ...], drop_all: float, generator: torch.Generator) -> Tensor:
    """bool of `shape` (clips, sentences): False with probability `drop_all`, where no tracking information is given."""
    return torch.rand(shape, generator=generator, device=generator.device) >= drop_all


def scheduled_probability(step: float, total: float, final: float = 0.5, warmup: float = 0.2) -> float:
    """Probability of the network's own mask at `step` of `total`: 0 for the first `warmup` share, then a straight line
    to `final` at the end."""
    done = step / total
    if done <= warmup:
        return 0.0
    return final * min(1.0, (done - warmup) / (1 - warmup))


# ---- corruption ------------------------------------------------------------------------------------------------------


def corrupt(masks: Tensor, others: Tensor, config: CorruptionConfig, generator: torch.Generator) -> Tensor:
    """Soft masks [N, h, w] with the corruptions of `config` drawn for each mask on its own; values stay in 0..1.

    others [N, h, w] is the mask of another object of the same frame, zeros where there is none (then never swapped
    in). `stale` is not a matter of the mask: see `reference_index`.
    """
    count = len(masks)

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        draws = torch.rand(count, *shape, generator=generator, device=generator.device)
        return (low + (high - low) * draws).to(masks)

    def radius() -> Tensor:
        return uniform(low=1, high=config.radius + 1).floor()

    if config.wrong_object > 0:
        there = others.flatten(1).any(dim=1)[:, None, None]
        masks = _sometimes(masks, torch.where(there, others, masks), config.wrong_object, generator)
    if config.jitter > 0:
        moved = warp(
            masks,
            uniform(2, low=-config.shift, high=config.shift),
            uniform(low=1 - config.scale, high=1 + config.scale),
            uniform(low=-config.angle, high=config.angle) * (math.pi / 180),
        )
        masks = _sometimes(masks, moved, config.jitter, generator)
    if config.erode > 0:
        masks = _sometimes(masks, erode(masks, radius(), config.radius), config.erode, generator)
    if config.dilate > 0:
        masks = _sometimes(masks, dilate(masks, radius(), config.radius), config.dilate, generator)
    if config.boundary > 0:
        rough = roughen(masks, uniform(*masks.shape[1:]), config.radius)
        masks = _sometimes(masks, rough, config.boundary, generator)
    if config.drop > 0:
        low, high = config.patch
        masks = _sometimes(masks, drop_patch(masks, uniform(2), uniform(2, low=low, high=high)), config.drop, generator)
    return masks


def dilate(masks: Tensor, radius_N: Tensor, largest: int) -> Tensor:
    """Masks [N, h, w] grown by `radius_N` cells (a square's reach), each by its own, at most `largest`."""
    grown = masks
    for step in range(1, largest + 1):
        wider = F.max_pool2d(grown[:, None], kernel_size=3, stride=1, padding=1)[:, 0]
        grown = torch.where((radius_N >= step)[:, None, None], wider, grown)
    return grown


def erode(masks: Tensor, radius_N: Tensor, largest: int) -> Tensor:
    """Masks [N, h, w] shrunk by `radius_N` cells, at most `largest`; the canvas's border does not eat into them."""
    return -dilate(-masks, radius_N, largest)


def roughen(masks: Tensor, noise: Tensor, radius: int) -> Tensor:
    """Masks [N, h, w] with smoothed `noise` [N, h, w] (0..1) within `radius` cells of their edge, else as they are."""
    reach = masks.new_full((len(masks),), radius)
    edge = dilate(masks, reach, radius) - erode(masks, reach, radius)
    blobs = F.avg_pool2d(noise[:, None], 3, stride=1, padding=1, count_include_pad=False)[:, 0]
    blobs = ((blobs - 0.5) * 4 + 0.5).clamp(0, 1)  # averaging pulls noise to 0.5: give it its range back
    return torch.lerp(masks, blobs, edge)


def drop_patch(masks: Tensor, place_N2: Tensor, size_N2: Tensor) -> Tensor:
    """Masks [N, h, w] without a rectangle whose centre is at `place_N2` (x, y, 0..1 of the object's box) and whose
    sides are `size_N2` shares of the box."""
    corner, extent = _boxes(masks)
    centre, half = corner + place_N2 * extent, size_N2 * extent / 2
    x, y = _cell_centres(masks)
    inside_x = (x - centre[:, :1]).abs() <= half[:, :1]
    inside_y = (y - centre[:, 1:]).abs() <= half[:, 1:]
    return masks.masked_fill(inside_y[:, :, None] & inside_x[:, None, :], 0)


def warp(masks: Tensor, shift_N2: Tensor, scale_N: Tensor, angle_N: Tensor) -> Tensor:
    """Masks [N, h, w] turned by `angle_N` (radians, clockwise on screen) and scaled by `scale_N` about the centre of
    their box, then shifted by `shift_N2` (x, y) shares of it; bilinear, empty outside."""
    height, width = masks.shape[-2:]
    corner, extent = _boxes(masks)
    centre = corner + extent / 2
    x, y = _cell_centres(masks)
    grid_x, grid_y = torch.meshgrid(x, y, indexing="xy")
    # from each target cell back to where its value comes from
    target = torch.stack((grid_x, grid_y), dim=-1) - (centre + shift_N2 * extent)[:, None, None]
    cos, sin = (f[:, None, None] / scale_N[:, None, None] for f in (angle_N.cos(), angle_N.sin()))
    source_x = cos * target[..., 0] + sin * target[..., 1]
    source_y = cos * target[..., 1] - sin * target[..., 0]
    source = torch.stack((source_x, source_y), dim=-1) + centre[:, None, None]
    source = 2 * source / source.new_tensor([width, height]) - 1
    return F.grid_sample(masks[:, None], source, align_corners=False)[:, 0].clamp(0, 1)


def _boxes(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Top left corner and size (x, y) [N, 2] in cells of where the masks are more likely than not."""
    boxes = masks_to_boxes(masks > 0.5).to(masks.dtype)
    return boxes[:, :2], boxes[:, 2:] - boxes[:, :2]


def _cell_centres(masks: Tensor) -> tuple[Tensor, Tensor]:
    """x [w] and y [h] of the cells' centres, in cells."""
    height, width = masks.shape[-2:]
    x, y = (torch.arange(n, device=masks.device, dtype=masks.dtype) + 0.5 for n in (width, height))
    return x, y


def _sometimes(values: Tensor, changed: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """`changed` in place of `values` [N, ...], for each of the N with that probability."""
    chosen = torch.rand(len(values), generator=generator, device=generator.device) < probability
    return torch.where(chosen.to(values.device).view(-1, *[1] * (values.dim() - 1)), changed, values)
