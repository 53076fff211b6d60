"""A network small enough to know its answers by heart, and videos to ask it about.

It reads sentences that are a colour and looks for that colour. Without tracking it takes the brightest object of the
colour, with tracking the one that touches the reference mask; the score is the object's brightness. So a test decides
by brightness which frame is the key and whether a look-alike would win.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.segmenter import SegmenterConfig
from models.tracking import IMAGENET_MEAN, IMAGENET_STD
from util.types import ExpressionFeatures, Prediction, TextFeatures, TrackingMemory, VideoFeatures

COLOURS = {"red": 0, "green": 1, "blue": 2}
SIDE = 16  # of every square, pixels
SIZE = (64, 96)  # of every frame; needs no resizing at short_side 64
FPS = 10.0
NEAR = 5  # a tracked object lies within this many stride-4 cells of its last mask, in a 2 * NEAR + 1 square


class FakeSegmenter(nn.Module):
    """The methods of `Segmenter`, answered by thresholds.

    sizes    of the frames it was shown
    encoded  frame numbers of each encode_video call; read  (frames, sentences) of each encode_expressions call
    tracked  (frame, reference frame) of each tracked decode; handed  reference masks given to `track`
    """

    def __init__(self, **config) -> None:
        super().__init__()
        self.config = SegmenterConfig(**({"tracking": "feature"} | config))
        self.sizes: set[tuple[int, ...]] = set()
        self.encoded: list[list[int]] = []
        self.read: list[tuple[list[int], int]] = []
        self.tracked: list[tuple[int, int]] = []
        self.handed: list[Tensor] = []
        self._reference = -1
        self.choice: nn.Module | None = None

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def encode_video(self, frames_BTCHW: Tensor, times_BT: Tensor, sizes_B2: Tensor | None = None) -> VideoFeatures:
        assert sizes_B2 is None and len(frames_BTCHW) == 1
        self.sizes.add(tuple(frames_BTCHW.shape[-2:]))
        self.encoded.append(_numbers(times_BT))
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
        colours = F.avg_pool2d((frames_BTCHW[0] * std + mean).clamp(0, 1), 4)
        sizes = torch.tensor([frames_BTCHW.shape[-2:]])
        return VideoFeatures((colours,), (colours,), (), sizes, times_BT)

    def encode_text(self, captions: list[list[str]]) -> TextFeatures:
        wanted = F.one_hot(torch.tensor([[COLOURS[s] for s in row] for row in captions]), 3).float()
        return TextFeatures(wanted[:, :, None], torch.zeros(*wanted.shape[:2], 1, dtype=torch.bool), wanted)

    def encode_expressions(self, video: VideoFeatures, text: TextFeatures) -> ExpressionFeatures:
        self.read.append((_numbers(video.times_BT), text.sentence_BEC.shape[1]))
        colours_T3hw = video.backbone[0]
        wanted_E3 = text.sentence_BEC[0]
        own = torch.einsum("ec,tchw->ethw", wanted_E3, colours_T3hw)
        other = (colours_T3hw * (1 - wanted_E3)[:, None, :, None, None]).amax(2)
        evidence = (own - other).clamp(min=0).flatten(0, 1)
        h, w = evidence.shape[1:]
        rows = len(evidence)
        return ExpressionFeatures(
            evidence.flatten(1)[..., None], ((h, w),), torch.zeros(rows, h * w, dtype=torch.bool),
            torch.ones(rows, 1, 2), evidence[:, None], text.sentence_BEC, video.sizes_B2, video.times_BT,
        )  # fmt: skip

    def track(self, reference, masks_BETHW, present_BET, *, frames_BTCHW=None, text=None) -> TrackingMemory:
        assert bool(present_BET.all()) and text.sentence_BEC.shape[1] == masks_BETHW.shape[1]
        assert masks_BETHW.shape[:3] == (1, reference.sentence_BEC.shape[1], 1) and frames_BTCHW.shape[:2] == (1, 1)
        (self._reference,) = _numbers(reference.times_BT)
        self.handed += list(masks_BETHW[0, :, 0])
        h, w = reference.shapes[0]
        cells = F.adaptive_avg_pool2d(masks_BETHW.flatten(0, 2)[:, None], (h, w)).flatten(1)[..., None]
        return TrackingMemory(
            cells, reference.shapes, reference.padding_NS, reference.ratios_NL2, present_BET.flatten()
        )

    def decode(self, features: ExpressionFeatures, tracking: TrackingMemory | None = None) -> Prediction:
        evidence = features.mask_features_NChw[:, 0]
        if tracking is None:
            brightest = evidence.flatten(1).amax(1)[:, None, None]
            chosen = (evidence > 0.1) & (evidence > 0.9 * brightest)
        else:
            (now,) = _numbers(features.times_BT)
            self.tracked.append((now, self._reference))
            last = (tracking.memory_NSC.view_as(evidence) > 0.5).float()
            near = F.max_pool2d(last, 2 * NEAR + 1, 1, NEAR) > 0
            chosen = (evidence > 0.1) & near
        score = torch.where(chosen, evidence, 0.0).flatten(1).amax(1).clamp(0.02, 0.98)
        rows = (1, features.sentence_BEC.shape[1], features.times_BT.shape[1])
        masks = torch.stack((20 * chosen.float() - 10, torch.full_like(evidence, 10)), 1)  # the second is always wrong
        scores = torch.stack((score, 0.4 * score), 1)
        return Prediction(
            torch.logit(scores)[..., None].view(*rows, 2, 1), torch.zeros(*rows, 2, 4),
            masks.view(*rows, *masks.shape[1:]), None, torch.zeros(*rows, 2, 1), torch.zeros(*rows, 2, 2),
        )  # fmt: skip


class Squares:
    """A video of coloured squares (a `FrameSource`). `rows` [T] lists (colour, top, left, brightness) of each frame."""

    fps = FPS
    size = SIZE

    def __init__(self, rows: Sequence[Sequence[tuple[str, int, int, float]]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        frame = np.zeros((*SIZE, 3), np.uint8)
        for colour, top, left, brightness in self.rows[index]:
            frame[top : top + SIDE, left : left + SIDE, COLOURS[colour]] = round(255 * brightness)
        return frame

    def truth(self, frame: int, place: int = 0) -> np.ndarray:
        """Mask bool [H, W] of the square listed at `place` in that frame, empty when there is none."""
        mask = np.zeros(SIZE, bool)
        if place < len(self.rows[frame]):
            _, top, left, _ = self.rows[frame][place]
            mask[top : top + SIDE, left : left + SIDE] = True
        return mask


def agree(masks: np.ndarray, truth: np.ndarray) -> bool:
    """Whether masks [..., H, W] are the true ones but for a square's corner pixels, which upsampling rounds off."""
    wrong = (masks != truth).sum((-2, -1))
    return masks.shape == truth.shape and bool((wrong <= 4).all() and (~masks[truth == 0]).all())


def moving(
    frames: int, *, colour: str = "red", brightness: float = 0.6, best: int | None = None, top: int = 24
) -> list[list[tuple[str, int, int, float]]]:
    """Rows of one square that moves right by a cell a frame and turns back at the edge; brightest in frame `best`."""
    span = (SIZE[1] - SIDE) // 4
    places = [min(t % (2 * span), 2 * span - t % (2 * span)) for t in range(frames)]
    return [[(colour, top, 4 * x, 0.95 if t == best else brightness)] for t, x in enumerate(places)]


def _numbers(times_BT: Tensor) -> list[int]:
    return [round(float(time) * FPS) for time in times_BT[0]]
