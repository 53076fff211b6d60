"""What a batch of clips costs: the network as training runs it, with references, corruption and its own mistakes."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from models.choice import choice_loss, line_up
from models.criterion import Criterion, Normaliser
from models.references import References
from models.segmenter import Segmenter
from util.distributed import World
from util.types import (
    ClipBatch,
    ExpressionFeatures,
    GroundingMaps,
    Targets,
    TextFeatures,
    TrackingMemory,
    VideoFeatures,
)

# What is trained: what comes before the encoder, by its maps alone; the network; or, when it is done and stays as it
# is, the choice among tracks.
Stage = Literal["grounding", "network", "choice"]


class TrainingStep(nn.Module):
    """Segmenter and criterion as one module, which is what a wrapper for several processes needs.

    `amp`: bf16 autocast; coordinates and losses stay in float32.
    """

    def __init__(self, segmenter: Segmenter, criterion: Criterion, *, amp: bool, stage: Stage = "network") -> None:
        super().__init__()
        self.segmenter = segmenter
        self.criterion = criterion
        self.amp = amp
        self.stage = stage

    def forward(self, batch: ClipBatch, references: References | None, normaliser: Normaliser) -> dict[str, Tensor]:
        """Un-weighted losses by name (see `Criterion`), and their weighted total, "loss"."""
        segmenter = self.segmenter
        with torch.autocast(batch.frames_BTCHW.device.type, torch.bfloat16, enabled=self.amp):
            video = segmenter.encode_video(batch.frames_BTCHW, batch.times_BT, batch.sizes_B2)
            text = segmenter.encode_text(batch.captions)
            maps: GroundingMaps | None
            losses: dict[str, Tensor]
            if self.stage == "choice":
                return self._choose(batch, video, text, normaliser)
            if self.stage == "grounding":
                maps, losses = segmenter.ground(video, text, batch.answered_BT), {}
            else:
                features = segmenter.encode_expressions(video, text, batch.answered_BT)
                maps = features.grounding
                tracking = None if references is None else self._track(batch, features, text, references)
                prediction = segmenter.decode(features, tracking, aux=True)
                losses = self.criterion(prediction, batch.targets, batch.sizes_B2, normaliser).losses
                if segmenter.matching is not None and references is None:
                    # a clip of one frame has nothing to match; the wrapper for several processes waits for all the same
                    losses["loss_carried"] = torch.stack([p.sum() for p in segmenter.matching.parameters()]).sum() * 0.0
        if maps is not None and segmenter.grounding_head is not None:
            labelled = normaliser.presence.clamp(min=1)
            losses["loss_grounding"] = segmenter.grounding_head.loss(maps, batch.targets) / labelled
        return {"loss": self.criterion.total(losses), **losses}

    def _choose(
        self, batch: ClipBatch, video: VideoFeatures, text: TextFeatures, normaliser: Normaliser
    ) -> dict[str, Tensor]:
        lineup = line_up(batch.targets)
        logits = self.segmenter.choose(video, text, lineup.masks_BKTHW)
        loss = choice_loss(logits, lineup, batch.targets.weights_BE) / normaliser.clips.clamp(min=1)
        return {"loss": loss, "loss_choice": loss}

    def _track(
        self, batch: ClipBatch, features: ExpressionFeatures, text: TextFeatures, references: References
    ) -> TrackingMemory:
        apart = batch.neighbours
        if apart is not None:
            return self.segmenter.track_frames(
                apart.frames_BTCHW, references.masks_BEThw, references.present_BET, apart.times_BT, apart.sizes_B2, text
            )
        if references.some_own:
            with torch.no_grad():
                references = references.with_own(self.segmenter.decode(features))
        index_BT = references.index_BT
        if batch.answered_BT is not None:
            index_BT = batch.answered_BT.gather(1, index_BT)
        rows = index_BT[:, :, None, None, None].expand(-1, -1, *batch.frames_BTCHW.shape[2:])
        return self.segmenter.track(
            features.gather_frames(references.index_BT),
            references.masks_BEThw,
            references.present_BET,
            frames_BTCHW=batch.frames_BTCHW.gather(1, rows),
            text=text,
        )


@dataclass(frozen=True)
class Part:
    """A micro-batch and what it cost: detached losses, "loss" the total."""

    batch: ClipBatch
    losses: dict[str, Tensor]


def accumulate(
    module: nn.Module, batch: ClipBatch, references: References | None, world: World, *, micro_batch: int
) -> list[Part]:
    """Add the gradients of this rank's `batch` to the parameters', `micro_batch` clips at a time.

    Losses are divided by counts over the batches of all ranks, so that losses, and gradients, add up to those of the
    one big batch. `module` is a `TrainingStep`, or one wrapped in DDP.
    """
    counts = world.sum(Normaliser.from_targets(batch.targets).as_tensor().tolist())
    normaliser = Normaliser.from_tensor(torch.tensor(counts, dtype=torch.float32, device=world.device))
    starts = range(0, len(batch.captions), micro_batch)
    parts = []
    for start in starts:
        part = cut_batch(batch, start, start + micro_batch).to(world.device)
        told = references.clips(start, start + micro_batch).to(world.device) if references is not None else None
        last = start == starts[-1]
        # gradients travel once, after the last part
        with nullcontext() if last or not isinstance(module, DistributedDataParallel) else module.no_sync():
            losses = module(part, told, normaliser)
            (losses["loss"] * world.size).backward()  # DDP takes the mean over the ranks, ours is a sum
        parts.append(Part(part, {name: value.detach() for name, value in losses.items()}))
    return parts


def cut_batch(batch: ClipBatch, start: int, stop: int) -> ClipBatch:
    """Clips `start` to `stop` of a batch, on the same canvas."""
    cut = slice(start, stop)
    return replace(
        batch,
        frames_BTCHW=batch.frames_BTCHW[cut],
        sizes_B2=batch.sizes_B2[cut],
        times_BT=batch.times_BT[cut],
        captions=batch.captions[cut],
        targets=Targets(**{name: tensor[cut] for name, tensor in vars(batch.targets).items()}),
        identity=batch.identity[cut],
        answered_BT=None if batch.answered_BT is None else batch.answered_BT[cut],
        neighbours=batch.neighbours and cut_batch(batch.neighbours, start, stop),
    )
