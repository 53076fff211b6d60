"""Which reference frame and mask each frame of a training clip is told, drawn from (seed, the clip's number)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.grid_targets import STRIDE, on_grid
from models.tracking_training import TrackingTraining, corrupt, reference_index, scheduled_probability, tracked
from util.decision import Decision, decide
from util.protocol import CORRECTED, Protocol
from util.types import IGNORE, PRESENT, ClipBatch, Prediction, Targets

# Intersection over union with the true mask from which the network's own is of the same thing. One of another thing,
# held to the referent all the same, teaches that the referent need not be where the mask is.
SAME_THING = 0.3


@dataclass(frozen=True)
class References:
    """For every frame of B clips: the frame it is told about, and what it is told.

    index_BT     int64 position of the reference frame in the clip, or in the batch's neighbours where it has them
    masks_BEThw  soft masks 0..1 of the reference frames on the stride-4 grid, as wrong as training wants them
    present_BET  bool, False where nothing is told
    own_BET      bool, True where the network's own mask of the reference frame is to take the true one's place if it is
                 of the same thing
    blind_BET    bool, True where that frame is not labelled (A2D, JHMDB), so that there is no true one and the own one
                 is taken unseen
    given_BE     bool, False for sentences that are told nothing in any frame
    some_own     whether own_BET or blind_BET has a True, known without asking the device
    """

    index_BT: Tensor
    masks_BEThw: Tensor
    present_BET: Tensor
    own_BET: Tensor
    blind_BET: Tensor
    given_BE: Tensor
    some_own: bool

    def to(self, device: torch.device) -> References:
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def clips(self, start: int, stop: int) -> References:
        """Those of clips `start` to `stop`; on the CPU."""
        cut = self._each(lambda tensor: tensor[start:stop])
        return replace(cut, some_own=bool((cut.own_BET | cut.blind_BET).any()))

    def _each(self, change: Callable[[Tensor], Tensor]) -> References:
        return References(
            change(self.index_BT),
            change(self.masks_BEThw),
            change(self.present_BET),
            change(self.own_BET),
            change(self.blind_BET),
            change(self.given_BE),
            self.some_own,
        )

    def with_own(self, prediction: Prediction) -> References:
        """The network's own masks put in where they were drawn and show the same thing, and where there is no other;
        then, where it finds nothing, nothing is told."""
        masks_BEThw, found_BET = _answer(prediction)
        index_BET = self.index_BT[:, None].expand_as(found_BET)
        rows = index_BET[..., None, None].expand_as(masks_BEThw)
        masks, found = masks_BEThw.gather(2, rows), found_BET.gather(2, index_BET)
        ours, true = masks > 0.5, self.masks_BEThw > 0.5
        common, either = (ours & true).sum((-2, -1)), (ours | true).sum((-2, -1))
        same = found & self.present_BET & (common >= SAME_THING * either)
        own = self.blind_BET | (self.own_BET & same)
        return replace(
            self,
            masks_BEThw=torch.where(own[..., None, None], masks, self.masks_BEThw),
            present_BET=torch.where(own, found & self.given_BE[..., None], self.present_BET),
        )


def draw_references(
    batch: ClipBatch,
    config: TrackingTraining,
    *,
    progress: float,
    seed: int,
    first_clip: int,
    protocol: Protocol = CORRECTED,
) -> References | None:
    """References of clips number `first_clip`, ... when a share `progress` of training is done.

    None for clips of one answered frame, which have no other to learn from. Where the batch brings neighbours, those
    are the references, with true masks only: the network does not segment them.
    """
    apart = batch.neighbours is not None
    targets = batch.targets if batch.neighbours is None else batch.neighbours.targets
    if targets.states_BENT.shape[-1] == 1 and not apart:
        return None
    own = 0.0 if apart else scheduled_probability(progress, 1.0, config.self_prediction, config.warmup)
    clips = [
        _draw_clip(_clip(targets, b), config, own, _generator(seed, first_clip + b), protocol, apart=apart)
        for b in range(len(batch.captions))
    ]
    index, masks, present, own_BET, blind, given = (torch.cat(rows) for rows in zip(*clips, strict=True))
    return References(index, masks, present, own_BET, blind, given, bool((own_BET | blind).any()))


def _draw_clip(
    targets: Targets,
    config: TrackingTraining,
    own: float,
    generator: torch.Generator,
    protocol: Protocol,
    *,
    apart: bool,
) -> tuple[Tensor, ...]:
    """The tensors of `References` for one clip (B = 1)."""
    masks_1EThw, present_1ET, labelled_1ET = _truth(targets, protocol)
    _, expressions, frames = present_1ET.shape
    index_1T = torch.arange(frames)[None]
    if not apart:
        index_1T = reference_index(1, frames, generator, stale=config.corruption.stale)
    masks_EThw = masks_1EThw[0, :, index_1T[0]]
    # another sentence's object serves as the wrong one; with one sentence there is none
    others_EThw = masks_EThw.roll(1, 0) if expressions > 1 else torch.zeros_like(masks_EThw)
    corrupted = corrupt(masks_EThw.flatten(0, 1), others_EThw.flatten(0, 1), config.corruption, generator)
    given_1E = tracked((1, expressions), config.drop_all, generator)
    own_1ET = torch.rand(1, expressions, frames, generator=generator) < own
    blind_1ET = torch.zeros_like(own_1ET) if apart else ~labelled_1ET[:, :, index_1T[0]]
    seen_1ET = (corrupted > 0.5).flatten(1).any(1).view(1, expressions, frames)
    told_1ET = seen_1ET & present_1ET[:, :, index_1T[0]] & given_1E[..., None]
    return index_1T, corrupted.view(1, *masks_EThw.shape), told_1ET, own_1ET, blind_1ET, given_1E


def _truth(targets: Targets, protocol: Protocol) -> tuple[Tensor, Tensor, Tensor]:
    """Union of each sentence's objects on the stride-4 grid [B, E, T, h, w]; whether it is labelled and seen, and
    whether it is labelled at all, [B, E, T]."""
    height, width = targets.masks_BENTHW.shape[-2:]
    union_BETHW = (targets.masks_BENTHW & (targets.states_BENT == PRESENT)[..., None, None]).any(2)
    masks_BEThw = on_grid(union_BETHW, (-(-height // STRIDE), -(-width // STRIDE)), protocol)
    real_BEN1 = targets.objects_BEN[..., None]
    known_BET = ~((targets.states_BENT == IGNORE) & real_BEN1).any(2)
    present_BET = ((targets.states_BENT == PRESENT) & real_BEN1).any(2)
    return masks_BEThw, known_BET & present_BET, known_BET


def _answer(prediction: Prediction) -> tuple[Tensor, Tensor]:
    """Soft masks [B, E, T, h, w] of the clip's best query, and in which frames it finds something [B, E, T]."""
    scores_BEQ = prediction.logits_BETQK.float().sigmoid().amax(-1).mean(2)
    chosen_BEQ = decide(scores_BEQ, Decision()).chosen_EN
    query_BE = chosen_BEQ.int().argmax(-1)
    batch, expressions, frames, _, h, w = prediction.masks_BETQhw.shape
    rows = query_BE[:, :, None, None, None, None].expand(batch, expressions, frames, 1, h, w)
    masks_BEThw = prediction.masks_BETQhw.gather(3, rows).squeeze(3).float().sigmoid()
    found_BET = (masks_BEThw > 0.5).flatten(-2).any(-1)
    if prediction.presence_BETQ is not None:
        presence = prediction.presence_BETQ.gather(3, rows[..., 0, 0]).squeeze(3)
        found_BET = found_BET & (presence > 0)
    return masks_BEThw, found_BET


def _clip(targets: Targets, index: int) -> Targets:
    return Targets(**{name: tensor[index : index + 1] for name, tensor in vars(targets).items()})


def _generator(seed: int, clip: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, clip]).generate_state(1)[0]))
