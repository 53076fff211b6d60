"""The losses: one query per object is told what it should have said, the others that they answer nothing.

Sums over clips, frames and queries are divided by counts of the whole batch (`Normaliser`), so the losses of
micro-batches that share a normaliser add up to those of the big batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.frames_alone import frames_alone
from models.grid_targets import GridTargets, grid_targets, union_BEThw
from models.matcher import Match, MatcherConfig, assign, at_least_float32, matching_costs
from util.boxes import cxcywh_to_xyxy, giou
from util.protocol import CORRECTED, Protocol
from util.types import IGNORE, PRESENT, Prediction, Targets


@dataclass(frozen=True)
class CriterionConfig:
    """Weight of each loss in the total, and the matcher's costs. Published values; presence, grounding and carried are
    ours.

    matched: whether a query is to answer for one object in the whole clip, or in each frame the one that does it best,
    as for images; queries that start where a frame points (`model.pointed`) are nobody before.
    """

    ce: float = 2.0
    bbox: float = 5.0
    giou: float = 2.0
    mask: float = 2.0
    dice: float = 5.0
    presence: float = 1.0
    grounding: float = 2.0
    carried: float = 5.0
    focal_alpha: float = 0.25
    matched: Literal["clip", "frame"] = "clip"
    cost: MatcherConfig = field(default_factory=MatcherConfig)


@dataclass(frozen=True)
class Normaliser:
    """What sums of losses are divided by: float32 scalars, counted over everything that makes one optimiser step.

    frames    (object, frame) pairs with the object present
    clips     objects that are present in at least one frame
    presence  (object, frame) pairs labelled present or absent, plus the frames of no-target sentences

    The whole step's is the sum over its micro-batches (`+`) and its ranks (sum `as_tensor()`, then `from_tensor`); the
    losses then add up over both, so under DDP, which averages gradients, they are multiplied by the world size. A
    count below 1 divides by 1, as published. Objects count before any are merged.
    """

    frames: Tensor
    clips: Tensor
    presence: Tensor

    @classmethod
    def from_targets(cls, targets: Targets) -> Normaliser:
        """The counts of one batch, on its device (no synchronisation)."""
        real_BEN = targets.objects_BEN
        present_BENT = real_BEN[..., None] & (targets.states_BENT == PRESENT)
        known_BENT = real_BEN[..., None] & (targets.states_BENT != IGNORE)
        no_target = (~real_BEN.any(dim=2)).sum() * targets.states_BENT.shape[-1]
        return cls(
            frames=present_BENT.sum().float(),
            clips=present_BENT.any(dim=-1).sum().float(),
            presence=(known_BENT.sum() + no_target).float(),
        )

    @classmethod
    def from_tensor(cls, counts: Tensor) -> Normaliser:
        """The inverse of `as_tensor`."""
        return cls(*counts.unbind())

    def as_tensor(self) -> Tensor:
        """The counts as one float32 tensor [3]."""
        return torch.stack((self.frames, self.clips, self.presence))

    def __add__(self, other: Normaliser) -> Normaliser:
        return Normaliser.from_tensor(self.as_tensor() + other.as_tensor())


@dataclass(frozen=True)
class LossOutput:
    """losses: un-weighted scalars by name (see `Criterion`); match: which query answered which object, last layer, of
    B clips or of the B * T frames of theirs, as they were matched."""

    losses: dict[str, Tensor]
    match: Match


class Criterion(nn.Module):
    """Losses of a prediction and its auxiliary layers, each matched on its own. It has no parameters.

    `criterion(prediction, targets, sizes_B2, normaliser=None) -> LossOutput`, where `losses` holds

      loss_ce        sigmoid focal loss of every query's class, positive where it is matched and its object present;
                     summed over all queries and divided by `frames`
      loss_bbox      L1 of the matched query's cxcywh box, summed over frames and divided by `frames`
      loss_giou      1 - GIoU, likewise
      loss_mask      focal loss, mean over the clip's volume, summed over objects
      loss_dice      1 - dice over the clip's volume (see `dice`), likewise; both divided by `frames` as published (D5),
                     else by `clips`, and then over objects that are in the clip at all
      loss_presence  only with a presence head: cross-entropy of the matched query's presence in each known frame,
                     divided by `presence`; in a no-target sentence all queries' mean is held to absent
      loss_carried   only where reference masks were carried (`models/matching.py`): cross-entropy (mean over the frame)
                     + 1 - dice of the carried mask with the union of the objects, summed over the frames that were told
                     something and are labelled, divided by `frames`

    and, but for the last, the same with suffix `_0`, `_1`, ... for the auxiliary layers, first to last. Frames to be
    ignored take part in nothing: not in the matched query's losses, and a query without an object is not called wrong
    in a frame where some object of the sentence is not labelled. No-target sentences have only loss_ce, loss_presence
    and, where they are told a mask, loss_carried.

    A sentence's losses are multiplied by its weight (`Targets.weights_BE`), not what they are divided by: doubt makes a
    sentence count less, and no other one more.

    loss_grounding is the training step's (see `models.grounding`); only its weight is here, with the others.
    """

    def __init__(self, config: CriterionConfig | None = None, protocol: Protocol = CORRECTED) -> None:
        super().__init__()
        self.config = config or CriterionConfig()
        self.protocol = protocol
        self.weights = {
            f"loss_{name}": getattr(self.config, name)
            for name in ("ce", "bbox", "giou", "mask", "dice", "presence", "grounding", "carried")
        }

    def forward(
        self, prediction: Prediction, targets: Targets, sizes_B2: Tensor, normaliser: Normaliser | None = None
    ) -> LossOutput:
        totals = normaliser or Normaliser.from_targets(targets)
        if self.config.matched == "frame":
            prediction, targets, sizes_B2 = frames_alone(prediction, targets, sizes_B2)
            totals = replace(totals, clips=totals.frames)
        height, width = prediction.masks_BETQhw.shape[-2:]
        queries = prediction.logits_BETQK.shape[3]
        truth = grid_targets(targets, sizes_B2, (height, width), queries, self.protocol)
        counts = Normaliser.from_tensor(totals.as_tensor().clamp(min=1))

        queries_BEN = self._match(prediction, truth)
        losses = self.layer_losses(prediction, truth, queries_BEN, counts)
        if prediction.carried_BEThw is not None and prediction.told_BET is not None:
            carried = carried_loss(prediction.carried_BEThw, prediction.told_BET, truth, self.protocol)
            losses["loss_carried"] = carried / counts.frames
        for n, layer in enumerate(prediction.aux):
            of_layer = self.layer_losses(layer, truth, self._match(layer, truth), counts)
            losses |= {f"{name}_{n}": value for name, value in of_layer.items()}
        return LossOutput(losses, Match.of_rows(queries_BEN, truth))

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of all losses; auxiliary layers weigh as much as the last."""
        return torch.stack([self.weights[name.rstrip("_0123456789")] * value for name, value in losses.items()]).sum()

    def _match(self, layer: Prediction, truth: GridTargets) -> Tensor:
        return assign(matching_costs(layer, truth, self.config.cost, self.protocol), truth.objects_BEN)

    def layer_losses(
        self, layer: Prediction, truth: GridTargets, queries_BEN: Tensor, counts: Normaliser
    ) -> dict[str, Tensor]:
        """The losses of one layer given its match (int64 [B, E, N], -1 for none), in float32 also under autocast.

        `counts` are at least 1.
        """
        alpha, protocol = self.config.focal_alpha, self.protocol
        with torch.autocast(layer.logits_BETQK.device.type, enabled=False):
            losses = {"loss_ce": class_loss(layer.logits_BETQK, truth, queries_BEN, alpha) / counts.frames}
            bbox, overlap = box_losses(layer.boxes_BETQ4, truth, queries_BEN, protocol)
            losses |= {"loss_bbox": bbox / counts.frames, "loss_giou": overlap / counts.frames}
            mask, dice = mask_losses(layer.masks_BETQhw, truth, queries_BEN, alpha, protocol)
            divisor = counts.frames if protocol.mask_norm == "frames" else counts.clips
            losses |= {"loss_mask": mask / divisor, "loss_dice": dice / divisor}
            if layer.presence_BETQ is not None:
                losses["loss_presence"] = presence_loss(layer.presence_BETQ, truth, queries_BEN) / counts.presence
        return losses


def class_loss(logits_BETQK: Tensor, truth: GridTargets, queries_BEN: Tensor, alpha: float) -> Tensor:
    """Focal loss summed over all B, E, T, Q, K whose truth is known."""
    logits = at_least_float32(logits_BETQK)
    classes = logits.shape[-1]
    label_BEN = truth.labels_BEN if classes > 1 else torch.zeros_like(truth.labels_BEN)
    chosen_BENQ = _one_hot(queries_BEN, logits.shape[3], truth.objects_BEN).to(logits.dtype)
    label_BENK = _one_hot(label_BEN, classes, truth.objects_BEN).to(logits.dtype)
    present_BENT, known_BENT = (x.to(logits.dtype) for x in (truth.present_BENT, truth.known_BENT))
    positive = torch.einsum("benq,benk,bent->betqk", chosen_BENQ, label_BENK, present_BENT)
    # a query without an object is wrong only where all objects are labelled: it may have found the one that is not
    labelled_BET = (truth.known_BENT | ~truth.objects_BEN[..., None]).all(dim=2)
    free_BEQ = 1 - chosen_BENQ.sum(dim=2)
    counted = torch.einsum("benq,bent->betq", chosen_BENQ, known_BENT)
    counted = counted + free_BEQ[:, :, None] * labelled_BET[..., None]
    counted = counted * truth.weights_BE[:, :, None, None]
    return (sigmoid_focal(logits, positive, alpha) * counted[..., None]).sum()


def box_losses(
    boxes_BETQ4: Tensor, truth: GridTargets, queries_BEN: Tensor, protocol: Protocol
) -> tuple[Tensor, Tensor]:
    """L1 and 1 - GIoU of the matched queries, summed over objects and the frames that boxes count in."""
    boxes = _of_matched(at_least_float32(boxes_BETQ4), queries_BEN)
    target = truth.boxes_BENT4.to(boxes.dtype)
    frames = truth.box_frames_BENT(protocol).to(boxes.dtype) * truth.weights_BE[:, :, None, None]
    distance = (boxes - target).abs().sum(dim=-1)
    overlap = giou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(target))
    return (distance * frames).sum(), ((1 - overlap) * frames).sum()


def mask_losses(
    masks_BETQhw: Tensor, truth: GridTargets, queries_BEN: Tensor, alpha: float, protocol: Protocol
) -> tuple[Tensor, Tensor]:
    """Focal loss (mean over the known, counted volume) and 1 - dice of the matched queries, summed over objects."""
    logits = at_least_float32(_of_matched(masks_BETQhw, queries_BEN))
    target = truth.masks_BENThw.to(logits.dtype)
    pixels = truth.pixels_Bhw[:, None, None, None].to(logits.dtype)
    frames = truth.known_BENT.to(logits.dtype)
    objects = truth.objects_BEN if protocol.mask_norm == "frames" else truth.seen_BEN
    objects = objects * truth.weights_BE[..., None]

    def volume(values: Tensor) -> Tensor:
        """Sum [B, E, N] over what counts of the clip."""
        return ((values * pixels).sum(dim=(-2, -1)) * frames).sum(dim=-1)

    size = frames.sum(dim=-1) * pixels.sum(dim=(-2, -1))[..., 0]
    focal = volume(sigmoid_focal(logits, target, alpha)) / size.clamp(min=1)
    probability = logits.sigmoid()
    return (focal * objects).sum(), ((1 - dice(probability, target, volume, protocol)) * objects).sum()


def presence_loss(presence_BETQ: Tensor, truth: GridTargets, queries_BEN: Tensor) -> Tensor:
    """Cross-entropy of presence, summed over objects and known frames, and over the frames of no-target sentences."""
    logits_BETQ = at_least_float32(presence_BETQ)
    logits = _of_matched(logits_BETQ, queries_BEN)
    target = truth.present_BENT.to(logits.dtype)
    matched = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * truth.known_BENT
    no_target_BE1 = ~truth.objects_BEN.any(dim=2, keepdim=True)
    absent = F.softplus(logits_BETQ).mean(dim=-1) * no_target_BE1
    weights_BE = truth.weights_BE
    return (matched * weights_BE[..., None, None]).sum() + (absent * weights_BE[..., None]).sum()


def carried_loss(carried_BEThw: Tensor, told_BET: Tensor, truth: GridTargets, protocol: Protocol) -> Tensor:
    """Cross-entropy (mean over the frame's cells) + 1 - dice, summed over frames that are told a mask and labelled."""
    logits = at_least_float32(carried_BEThw)
    target = union_BEThw(truth).to(logits.dtype)
    labelled_BET = (truth.known_BENT | ~truth.objects_BEN[..., None]).all(dim=2)
    pixels = truth.pixels_Bhw[:, None, None].to(logits.dtype)

    def area(values: Tensor) -> Tensor:
        return (values * pixels).sum(dim=(-2, -1))

    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    found = area(entropy) / pixels.sum(dim=(-2, -1)) + 1 - dice(logits.sigmoid(), target, area, protocol)
    return (found * (told_BET & labelled_BET) * truth.weights_BE[..., None]).sum()


def sigmoid_focal(logits: Tensor, target: Tensor, alpha: float) -> Tensor:
    """Focal loss of each element (Lin et al. 2017), gamma 2: alpha_t (1 - p_t)^2 (-log p_t).

    A target between 0 and 1 has (target - p)^2 in place of (1 - p_t)^2 (quality focal loss, Li et al. 2020), which is
    the same at 0 and 1 and makes p = target the least.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (alpha * target + (1 - alpha) * (1 - target)) * (target - logits.sigmoid()) ** 2 * entropy


def dice(probability: Tensor, target: Tensor, total: Callable[[Tensor], Tensor], protocol: Protocol) -> Tensor:
    """Dice of what `total` sums over: 1 where both agree.

    With the squares of both in the denominator (V-Net, Milletari et al. 2016) it is greatest where the probability is
    the share that is covered; with the probabilities themselves, as published, where it is 0 or 1.
    """
    sizes = probability + target if protocol.mask_targets == "sampled" else probability**2 + target**2
    return (2 * total(probability * target) + 1) / (total(sizes) + 1)


def _one_hot(index_BEN: Tensor, size: int, objects_BEN: Tensor) -> Tensor:
    """bool [B, E, N, size], all False in rows without an object."""
    places = torch.arange(size, device=index_BEN.device)
    return (index_BEN[..., None] == places) & objects_BEN[..., None]


def _of_matched(values_BETQ: Tensor, queries_BEN: Tensor) -> Tensor:
    """Values [B, E, T, Q, ...] of the matched queries [B, E, N, T, ...]; query 0's in rows without an object."""
    batch, expressions = queries_BEN.shape[:2]
    b = torch.arange(batch, device=queries_BEN.device)[:, None, None]
    e = torch.arange(expressions, device=queries_BEN.device)[None, :, None]
    return values_BETQ.transpose(2, 3)[b, e, queries_BEN.clamp(min=0)]
