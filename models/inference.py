"""One network applied to frames of one size: settings, pixels in, answers read, finished masks out.

Everything that the whole-video engine (`key_frame.py`) and the stream (`session.py`) have in common, except for the
state of a sentence (`propagation.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.tracking import IMAGENET_MEAN, IMAGENET_STD
from util.decision import Decision, decide
from util.errors import InputError
from util.resize import resized
from util.types import Prediction

if TYPE_CHECKING:
    from models.segmenter import Segmenter, SegmenterConfig

FrameScore = Literal["class", "class_mask", "stability"]

STRIDE = 4
NOTHING = -1e4  # the logit of a mask that no query was chosen for; finite, so that it can be interpolated
SMALLEST_SIDE = 32  # one whole cell at stride 32; the network refuses less than 29


@dataclass(frozen=True)
class InferenceConfig:
    """How a video is segmented. A checkpoint may store its own; whatever is None follows from the checkpoint."""

    mode: Literal["track", "clip"] | None = None  # None: track if the network can, else ReferFormer's own (clip)
    window: int = 5  # frames encoded together
    spread: int = 1  # frames from one frame of a window to its next: 1 = consecutive
    spanning: bool = False  # more where the video is longer: a window sees all of it, as far as cached_frames allow
    clip_window: int = 36  # frames of one forward in clip mode, where the protocol does not ask for all of them
    frame_score: FrameScore = "class_mask"  # what makes a frame the key
    short_side: int = 360  # pixels of the network's input ...
    max_side: int = 640  # ... whose long side is at most this (protocol eval_resize)
    threshold: float = 0.5  # of a mask's probabilities
    presence_below: float | None = None  # absent below this; None: 0.5 of the head's, else 0.3 of score x confidence
    keys: int = 1  # frames that are tried as the key, as long as the video's frames disagree about what is meant
    patience: int = 5  # frames for which a lost referent's last good mask is tried before it is looked for again
    rekey_margin: float = 0.1  # streams: how much better than the key's a frame must score to become the key
    cached_frames: int = 64  # frames x sentences whose features are kept; some 20 MB each for R50 at 360x640
    decision: Decision = field(default_factory=Decision)


@dataclass(frozen=True)
class Answer:
    """One sentence in one frame: mask logits [h, w] at stride 4, class score, mask confidence, presence, all 0..1."""

    logits_hw: Tensor
    score: float
    confidence: float
    presence: float

    def frame_score(self, kind: FrameScore) -> float:
        """How good a key this frame would be, from itself alone; "stability" is completed by `overlap`."""
        return self.score if kind == "class" else self.score * self.confidence


@dataclass(frozen=True)
class Answers:
    """`Answer` for E sentences and T frames of one video."""

    logits_EThw: Tensor
    scores_ET: np.ndarray
    confidence_ET: np.ndarray
    presence_ET: np.ndarray

    def at(self, expression: int, frame: int) -> Answer:
        place = expression, frame
        return Answer(
            self.logits_EThw[place],
            float(self.scores_ET[place]),
            float(self.confidence_ET[place]),
            float(self.presence_ET[place]),
        )


class Inference:
    """A segmenter, its settings and the two sizes: `source` of the frames, `canvas` of the network's input."""

    def __init__(self, segmenter: Segmenter, config: InferenceConfig, source: tuple[int, int]) -> None:
        """`source` is (height, width). Raises InputError for settings that no video can be segmented with."""
        self.segmenter = segmenter
        self.protocol = segmenter.config.protocol
        self.config = resolve(config, segmenter.config)
        self.source = source
        max_side = None if self.protocol.eval_resize == "short" else self.config.max_side
        self.canvas = network_size(source, self.config.short_side, max_side)
        self.device = segmenter.device
        self.mean = torch.tensor(IMAGENET_MEAN, device=self.device).view(3, 1, 1)
        self.std = torch.tensor(IMAGENET_STD, device=self.device).view(3, 1, 1)

    @property
    def tracks(self) -> bool:
        """Whether the network has a tracking stream."""
        return self.segmenter.config.tracking != "none"

    @property
    def presence_below(self) -> float:
        """The presence under which a frame is predicted empty."""
        assert self.config.presence_below is not None  # resolve has filled it in
        return self.config.presence_below

    def pixels(self, frames: Sequence[np.ndarray]) -> Tensor:
        """Frames uint8 [H, W, 3] as the network's input, float32 [1, T, 3, H', W'].

        Resized in uint8 with antialiasing, which is what PIL does and so what the published numbers were made with.
        Raises InputError for a frame of another size or type.
        """
        for frame in frames:
            if frame.dtype != np.uint8 or frame.shape != (*self.source, 3):
                height, width = self.source
                raise InputError(
                    f"a frame is {frame.dtype} {frame.shape}, but this video's are uint8 ({height}, {width}, 3) RGB; "
                    "all frames of a video need one size"
                )
        raw_T3HW = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
        if raw_T3HW.shape[-2:] != self.canvas:
            raw_T3HW = F.interpolate(raw_T3HW, self.canvas, mode="bilinear", antialias=True)
        return ((raw_T3HW.to(self.device).float() / 255 - self.mean) / self.std)[None]

    def times(self, frames: Sequence[int], fps: float) -> Tensor:
        """Seconds since the video began, float32 [1, T]; a source without a rate counts frames."""
        seconds = [frame / (fps if fps > 0 else 1.0) for frame in frames]
        return torch.tensor([seconds], device=self.device, dtype=torch.float32)

    def read(self, prediction: Prediction) -> Answers:
        """The answer to each sentence in each frame of the prediction's first video, by the decision policy.

        Queries are chosen for all frames that were decoded together, by their mean score: a query answers for one thing
        in all of them (ReferFormer), and frames in which nothing special is to be seen follow those in which it is. The
        mask is the union of the chosen queries' masks, the score and the presence are those of the best of them.
        Without a presence head, presence is score x confidence. An empty mask has confidence and presence 0.
        Raises InputError when the network answers with something that is not a number.
        """
        scores_ETQ = query_scores(prediction)
        chosen_EQ = decide(scores_ETQ.mean(1), self.config.decision).chosen_EN
        chosen_ETQ = chosen_EQ[:, None].expand_as(scores_ETQ)
        masks_ETQhw = prediction.masks_BETQhw[0].float()
        logits_EThw = masks_ETQhw.masked_fill(~chosen_ETQ[..., None, None], NOTHING).amax(2)
        scores_ET = torch.where(chosen_ETQ.any(-1), (scores_ETQ * chosen_ETQ).amax(-1), scores_ETQ.amax(-1))
        confidence_ET = mask_confidence(logits_EThw, self.config.threshold)
        if prediction.presence_BETQ is None:
            presence_ET = scores_ET * confidence_ET
        else:
            presence_ET = (prediction.presence_BETQ[0].float().sigmoid() * chosen_ETQ).amax(-1)
            presence_ET = presence_ET * (confidence_ET > 0)
        scalars = torch.stack((scores_ET, confidence_ET, presence_ET)).cpu().numpy()
        return Answers(logits_EThw, *scalars)

    def finish(self, logits_Nhw: Tensor) -> np.ndarray:
        """Logits at stride 4 -> masks bool [N, H, W] at the source's size."""
        return (self.enlarged(logits_Nhw) > _logit(self.config.threshold)).cpu().numpy()

    def enlarged(self, logits_Nhw: Tensor) -> Tensor:
        """Logits at stride 4 -> logits [N, H, W] at the source's size, by the protocol's way of upsampling."""
        x = logits_Nhw[:, None]
        if self.protocol.mask_upsample == "crop":
            height, width = self.canvas
            x = F.interpolate(x, scale_factor=STRIDE, mode="bilinear", align_corners=False)[..., :height, :width]
        return F.interpolate(x, self.source, mode="bilinear", align_corners=False)[:, 0]

    def handed_on(self, logits_hw: Tensor, mask_HW: np.ndarray) -> Tensor:
        """The mask as the next frame's reference, 0..1: the soft one, or the finished one under the protocol `hard`."""
        if self.protocol.track_mask == "soft":
            return logits_hw.sigmoid()
        return self.as_reference(mask_HW)

    def as_reference(self, mask_HW: np.ndarray) -> Tensor:
        """A finished or given mask at the source's size, as the share of each input pixel that it covers [H', W']."""
        mask = torch.from_numpy(mask_HW.astype(np.float32)).to(self.device)
        return F.interpolate(mask[None, None], self.canvas, mode="bilinear", antialias=True)[0, 0].clamp(0, 1)


def query_scores(prediction: Prediction) -> Tensor:
    """Class score of each query [E, T, Q], 0..1, of the first video: the best class's.

    Raises InputError when one is not a number.
    """
    scores_ETQ = prediction.logits_BETQK[0].float().sigmoid().amax(-1)
    if not torch.isfinite(scores_ETQ).all():
        raise InputError(
            "the network's scores are not numbers; its weights are damaged: download or convert them again"
        )
    return scores_ETQ


def mask_confidence(logits_hw: Tensor, threshold: float) -> Tensor:
    """Mean |2p - 1| over the pixels of a mask [..., h, w] that are foreground; 0 for an empty one."""
    p = logits_hw.sigmoid()
    foreground = p > threshold
    sure = ((2 * p - 1).abs() * foreground).sum((-2, -1))
    return sure / foreground.sum((-2, -1)).clamp(min=1)


def overlap(one_hw: Tensor, other_hw: Tensor, threshold: float) -> Tensor:
    """Intersection over union of two masks given as logits [..., h, w]; 1 when both are empty."""
    a, b = (x > _logit(threshold) for x in (one_hw, other_hw))
    union = (a | b).sum((-2, -1))
    return torch.where(union > 0, (a & b).sum((-2, -1)) / union.clamp(min=1), 1.0)


def network_size(source: tuple[int, int], short_side: int, max_side: int | None) -> tuple[int, int]:
    """(height, width) of the network's input; however thin the video, no side falls below what the network needs."""
    size = resized(source, short_side, max_side)
    height, width = size if max_side is None else (min(side, max_side) for side in size)
    return max(height, SMALLEST_SIDE), max(width, SMALLEST_SIDE)


def clean_sentences(sentences: Sequence[str], eval_text: Literal["raw", "cleaned"]) -> list[str]:
    """Sentences as the protocol reads them. Raises InputError when there are none, or one is empty or no text."""
    if isinstance(sentences, str) or not sentences:
        raise InputError("no sentence given; say what to look for, for example: -e 'the red car'")
    for number, sentence in enumerate(sentences, 1):
        if not isinstance(sentence, str) or not sentence.strip():
            raise InputError(f"sentence {number} is empty; say what to look for")
    return [" ".join(s.lower().split()) if eval_text == "cleaned" else s for s in sentences]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients, and afterwards the mode it was in (validation runs inside training)."""
    training = network.training
    if training:
        network.eval()
    try:
        # not inference_mode: cached features of a frozen text encoder must remain usable in training
        with torch.no_grad():
            yield
    finally:
        if training:
            network.train()


def resolve(config: InferenceConfig, network: SegmenterConfig) -> InferenceConfig:
    """Fill in what follows from the checkpoint, and what the published protocol fixes (spec 2.6, D15).

    Raises InputError for settings that contradict the checkpoint or themselves.
    """
    if config.mode == "track" and network.tracking == "none":
        raise InputError("this checkpoint has no tracking stream; use --mode clip, or leave the mode out")
    lengths = ("window", "spread", "clip_window", "keys", "short_side", "max_side", "cached_frames")
    for name in lengths:
        if getattr(config, name) < 1:
            raise InputError(f"{name} is {getattr(config, name)}; it must be at least 1")
    if not 0 < config.threshold < 1:
        raise InputError(f"threshold is {config.threshold}; it must lie between 0 and 1")
    mode = config.mode or ("clip" if network.tracking == "none" else "track")
    published = network.protocol.name == "published"
    below = config.presence_below
    if below is None:
        below = 0.0 if published else 0.5 if network.presence else 0.3
    resolved = replace(config, mode=mode, presence_below=below)
    if published:
        # one query, whatever its score; and when tracking, every frame in a forward of its own
        resolved = replace(resolved, window=1, spread=1, decision=Decision(fallback="best", several=False))
    return resolved


def _logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))
