"""The plain data that passes between packages: videos and expressions, batches, features, predictions.

Shape letters used in every name and docstring: B videos, T frames, E expressions per video, Q queries,
L text tokens, C channels, H W input pixels, h w the stride-4 grid, K classes, N objects or flattened
(b e t) samples, S tokens of all pyramid levels together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

# A frame's label for one object. Absent is supervised (no mask, low presence); ignore is not.
ABSENT, PRESENT, IGNORE = 0, 1, 2

Box = tuple[float, float, float, float]


class FrameSource(Protocol):
    """A video: lazily decoded RGB frames, backed by a folder, a file, a generator or memory."""

    @property
    def fps(self) -> float: ...

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray:
        """Frame `index` as uint8 [H, W, 3] RGB."""
        ...


class MaskSource(Protocol):
    """Ground truth of a video, decoded only for the frames asked for."""

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Masks bool [N, H, W] of the objects in frame `index`, and their states int8 [N]."""
        ...


@dataclass(frozen=True)
class Expression:
    """A sentence. `object_ids` is () when it has no target and None when the answer is not given.

    weight  how far a teacher's answer is to be trusted, 0 to 1; 1 for a human's
    """

    id: str
    text: str
    object_ids: tuple[int, ...] | None
    type: str | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class ReferringVideo:
    """A video with its sentences, as every dataset adapter yields it.

    labelled  positions, ascending, of the only frames that `masks` knows (A2D: a few of each video); in all others it
              reads IGNORE. None: every frame is labelled
    boxes     xyxy in pixels of the objects of an image, where a data set gives them beside the masks (RefCOCO)
    """

    id: str
    frames: FrameSource
    frame_names: tuple[str, ...]
    expressions: tuple[Expression, ...]
    masks: MaskSource | None = None
    labelled: tuple[int, ...] | None = None
    boxes: Mapping[int, Box] | None = None


@dataclass(frozen=True)
class Targets:
    """Training truth for B clips of T frames with E expressions of up to N objects each.

    masks_BENTHW  bool, on the padded canvas (outside the frame: False)
    boxes_BENT4   float32 cxcywh, divided by the un-padded (width, height); zeros where not present
    states_BENT   int8 ABSENT / PRESENT / IGNORE
    objects_BEN   bool, True where the slot holds an object (all False: a no-target sentence)
    labels_BEN    int64 class of each object (0 when K = 1)
    weights_BE    float32, by which a sentence's losses are multiplied (`Expression.weight`); ones where not given
    """

    masks_BENTHW: Tensor
    boxes_BENT4: Tensor
    states_BENT: Tensor
    objects_BEN: Tensor
    labels_BEN: Tensor
    weights_BE: Tensor = None  # type: ignore[assignment]  # is a tensor from __post_init__ on

    def __post_init__(self) -> None:
        if self.weights_BE is None:
            object.__setattr__(self, "weights_BE", torch.ones_like(self.objects_BEN[..., 0], dtype=torch.float32))

    def to(self, device: torch.device) -> Targets:
        return Targets(**{k: v.to(device, non_blocking=True) for k, v in vars(self).items()})


@dataclass(frozen=True)
class ClipBatch:
    """What the loader hands to training.

    frames_BTCHW  float32, ImageNet-normalised, zero-padded at the bottom and right
    sizes_B2      int64 (height, width) of the un-padded frames
    times_BT      float32 seconds since the video began
    captions      [B][E] sentences
    identity      one line per clip: video, expressions, frames, seed (for error reports and repros)
    answered_BT   int64 positions of the frames that are answered, whose truth `targets` holds; the others only show
                  what happens. None: all are
    neighbours    a frame beside each frame, augmented on its own, on a canvas of its own: what the tracking stream is
                  told about (TF-RVOS); None where it is told about other frames of this clip
    """

    frames_BTCHW: Tensor
    sizes_B2: Tensor
    times_BT: Tensor
    captions: list[list[str]]
    targets: Targets
    identity: list[str] = field(default_factory=list)
    answered_BT: Tensor | None = None
    neighbours: ClipBatch | None = None

    def to(self, device: torch.device) -> ClipBatch:
        return replace(
            self,
            frames_BTCHW=self.frames_BTCHW.to(device, non_blocking=True),
            sizes_B2=self.sizes_B2.to(device, non_blocking=True),
            times_BT=self.times_BT.to(device, non_blocking=True),
            targets=self.targets.to(device),
            answered_BT=self.answered_BT if self.answered_BT is None else self.answered_BT.to(device),
            neighbours=self.neighbours and self.neighbours.to(device),
        )


@dataclass(frozen=True)
class VideoFeatures:
    """What the network knows of a video before it has read a sentence; computed once per video.

    backbone        C2..C5, each [B*T, C_l, h_l, w_l]; only C2 is needed after projection, the rest may be ()
    projected       4 levels (strides 8, 16, 32, 64), each [B*T, d, h_l, w_l]
    padding         5 masks (strides 4 to 64), each bool [B, h_l, w_l], True = padding
    sizes_B2        (height, width) of the un-padded frames
    times_BT        seconds
    padded          False when no frame is known to be padded, so that attention may skip its masks
    """

    backbone: tuple[Tensor, ...]
    projected: tuple[Tensor, ...]
    padding: tuple[Tensor, ...]
    sizes_B2: Tensor
    times_BT: Tensor
    padded: bool = True

    def gather_frames(self, index_BT: Tensor) -> VideoFeatures:
        """Features of frames `index_BT` [B, T'] of each video, in that order (A2D's one annotated frame, say)."""
        batch, frames = self.times_BT.shape
        flat = (torch.arange(batch, device=index_BT.device)[:, None] * frames + index_BT).flatten()
        return replace(
            self,
            backbone=tuple(level[flat] for level in self.backbone),
            projected=tuple(level[flat] for level in self.projected),
            times_BT=self.times_BT.gather(1, index_BT),
        )


@dataclass(frozen=True)
class TextFeatures:
    """Sentences after the text encoder and the resizer.

    words_BELC [B,E,L,d], padding_BEL bool (True = padding), sentence_BEC [B,E,d]
    """

    words_BELC: Tensor
    padding_BEL: Tensor
    sentence_BEC: Tensor


@dataclass(frozen=True)
class GroundingMaps:
    """Where each sentence points, asked of the fusion: a softmax over one level's logits is each token's chance to show
    what the sentence means.

    logits_NS (N = B*E*T, all levels concatenated), shapes ((h, w), ...) of the levels, padding_NS bool, True = padding
    """

    logits_NS: Tensor
    shapes: tuple[tuple[int, int], ...]
    padding_NS: Tensor


@dataclass(frozen=True)
class ExpressionFeatures:
    """A video as read with each of its sentences: the decoder's input. N = B*E*T, b slowest, t fastest.

    memory_NSC          encoder output, four levels concatenated
    shapes              ((h, w), ...) of the levels, Python ints
    padding_NS          bool, True = padding
    ratios_NL2          valid (width, height) ratio of each level
    mask_features_NChw  pixel decoder output at stride 4
    sentence_BEC, sizes_B2, times_BT  as given
    grounding_NS        logits of the grounding head, or None without it
    """

    memory_NSC: Tensor
    shapes: tuple[tuple[int, int], ...]
    padding_NS: Tensor
    ratios_NL2: Tensor
    mask_features_NChw: Tensor
    sentence_BEC: Tensor
    sizes_B2: Tensor
    times_BT: Tensor
    grounding_NS: Tensor | None = None

    @property
    def grounding(self) -> GroundingMaps | None:
        if self.grounding_NS is None:
            return None
        return GroundingMaps(self.grounding_NS, self.shapes, self.padding_NS)

    def gather_frames(self, index_BT: Tensor) -> ExpressionFeatures:
        """Features of frames `index_BT` [B, T'] of each video, in that order."""
        batch, frames = self.times_BT.shape
        expressions = self.sentence_BEC.shape[1]
        clip = torch.arange(batch * expressions, device=index_BT.device).view(batch, expressions, 1)
        flat = (clip * frames + index_BT[:, None, :]).flatten()
        return replace(
            self,
            memory_NSC=self.memory_NSC[flat],
            padding_NS=self.padding_NS[flat],
            ratios_NL2=self.ratios_NL2[flat],
            mask_features_NChw=self.mask_features_NChw[flat],
            times_BT=self.times_BT.gather(1, index_BT),
            grounding_NS=None if self.grounding_NS is None else self.grounding_NS[flat],
        )

    def frame(self, index: int) -> ExpressionFeatures:
        """The same videos cut to their frame `index` (T = 1)."""
        batch = self.times_BT.shape[0]
        return self.gather_frames(torch.full((batch, 1), index, device=self.times_BT.device, dtype=torch.long))


@dataclass(frozen=True)
class ReferenceMasks:
    """The reference frame of each row, N = B*E*T, and its mask.

    features_NChw  mask features at stride 4
    masks_Nhw      soft masks 0..1 on the same grid
    times_N        seconds since the video began
    """

    features_NChw: Tensor
    masks_Nhw: Tensor
    times_N: Tensor


@dataclass(frozen=True)
class TrackingMemory:
    """What a reference frame's mask tells the decoder about the current frame; rows as in ExpressionFeatures.

    memory_NSC, shapes, padding_NS, ratios_NL2  of the tracking stream
    present_N  bool; where False the tracking step is skipped for that sample
    centres_N2 (x, y) in 0..1 of the reference mask's centre, the queries' first reference point where present;
               None keeps the learned ones
    marked     what `models/matching.py` carries to the current frame; None without it
    """

    memory_NSC: Tensor
    shapes: tuple[tuple[int, int], ...]
    padding_NS: Tensor
    ratios_NL2: Tensor
    present_N: Tensor
    centres_N2: Tensor | None = None
    marked: ReferenceMasks | None = None


@dataclass(frozen=True)
class Prediction:
    """The network's answer for every query; it decides nothing.

    logits_BETQK, boxes_BETQ4 (cxcywh in 0..1 of the un-padded frame), masks_BETQhw (logits, stride 4),
    presence_BETQ (logits, or None without the head), embeddings_BETQC (last decoder layer),
    reference_points_BETQ2 (centre given to the last layer), aux: the earlier layers, first to last. Where a reference
    mask was carried to these frames: its logits there, carried_BEThw, and in which rows it was, told_BET.
    """

    logits_BETQK: Tensor
    boxes_BETQ4: Tensor
    masks_BETQhw: Tensor
    presence_BETQ: Tensor | None
    embeddings_BETQC: Tensor
    reference_points_BETQ2: Tensor
    aux: tuple[Prediction, ...] = ()
    carried_BEThw: Tensor | None = None
    told_BET: Tensor | None = None


@dataclass(frozen=True)
class Selection:
    """A decision: which candidates answer each expression (their union is the mask). chosen_EN may be all False."""

    chosen_EN: Tensor
    scores_EN: Tensor
