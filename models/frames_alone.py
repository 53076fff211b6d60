"""Frames of clips as clips of one frame, for losses that match queries to objects in each frame anew."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from util.types import Prediction, Targets


def frames_alone(prediction: Prediction, targets: Targets, sizes_B2: Tensor) -> tuple[Prediction, Targets, Tensor]:
    """B clips of T frames -> B*T clips of one frame, b slowest."""
    frames = targets.states_BENT.shape[-1]
    of_frames = Targets(
        masks_BENTHW=_moved(targets.masks_BENTHW, 3),
        boxes_BENT4=_moved(targets.boxes_BENT4, 3),
        states_BENT=_moved(targets.states_BENT, 3),
        objects_BEN=targets.objects_BEN.repeat_interleave(frames, 0),
        labels_BEN=targets.labels_BEN.repeat_interleave(frames, 0),
        weights_BE=targets.weights_BE.repeat_interleave(frames, 0),
    )
    return _prediction(prediction), of_frames, sizes_B2.repeat_interleave(frames, 0)


def _prediction(prediction: Prediction) -> Prediction:
    tensors = {name: _moved(value, 2) for name, value in vars(prediction).items() if isinstance(value, Tensor)}
    return replace(prediction, **tensors, aux=tuple(_prediction(layer) for layer in prediction.aux))


def _moved(values: Tensor, frames: int) -> Tensor:
    """[B, ..., T, ...], T at `frames`, -> [B*T, ..., 1, ...]."""
    return values.movedim(frames, 1).flatten(0, 1).unsqueeze(frames)
