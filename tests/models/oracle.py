"""Weights, inputs and comparisons of the reference runs: everything follows from names and seeds."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.backbone import BackboneConfig
from models.segmenter import Segmenter, SegmenterConfig
from models.text_encoder import ROBERTA_BASE, TextEncoderConfig
from util.protocol import PUBLISHED
from util.types import Prediction, TextFeatures, TrackingMemory, VideoFeatures

CAPTIONS = ((0, 17, 256, 999, 42, 7, 2), (0, 5, 300, 64, 2), (0, 11, 22, 33, 44, 55, 66, 77, 88, 2))
SMALL_ROBERTA = ROBERTA_BASE | {
    "vocab_size": 1000,
    "num_hidden_layers": 2,
    "intermediate_size": 512,
    "max_position_embeddings": 130,
}


def config(**changes) -> SegmenterConfig:
    """The oracle's network: ReferFormer-R50 with a two-layer RoBERTa."""
    fields = dict(backbone=BackboneConfig("resnet50"), text=TextEncoderConfig(arch=SMALL_ROBERTA), protocol=PUBLISHED)
    return SegmenterConfig(**(fields | changes))


def normal_weight(key: str, shape: tuple[int, ...]) -> Tensor:
    """Value of one state entry in the stored runs."""
    z = np.random.RandomState(zlib.crc32(key.encode()) & 0xFFFFFFFF).standard_normal(shape)
    last = key.rsplit(".", 1)[-1]
    if last == "running_mean":
        v = 0.1 * z
    elif last == "running_var":
        v = 1 + 0.1 * np.abs(z)
    elif last in ("bias", "in_proj_bias"):
        v = 0.05 * z
    elif len(shape) == 1:
        v = 1 + 0.1 * z
    elif key.endswith(("_embeddings.weight", "query_embed.weight", "level_embed")):
        v = z
    else:
        v = z / math.sqrt(np.prod(shape[1:])) * (0.4 if key == "controller.layers.2.weight" else 1.0)
    return torch.from_numpy(np.asarray(v, dtype=np.float32))


def uniform_weight(key: str, shape: tuple[int, ...]) -> Tensor:
    """Value of one state entry in the specification's golden table (float64)."""
    v = np.random.RandomState(zlib.crc32(key.encode()) & 0xFFFFFFFF).uniform(-1, 1, shape)
    if len(shape) >= 2:
        v = v * math.sqrt(3 * shape[0] / v.size)
    elif key.endswith(("weight", "running_var")):
        v = 1 + 0.1 * v
    else:
        v = 0.1 * v
    return torch.from_numpy(np.asarray(v))


def fill(model: Segmenter, weight, *, skip: tuple[str, ...] = ()) -> Segmenter:
    """Every floating entry set by name; additions of ours (absent from the reference) keep their initial value."""
    state = model.state_dict()
    ours = ("temporal.", "presence_head.", *skip)
    for key, value in state.items():
        if value.is_floating_point() and not key.startswith(ours):
            state[key] = weight(key, tuple(value.shape)).to(value.dtype)
    model.load_state_dict(state)
    return model.eval()


def randn(seed: int, *shape: int) -> Tensor:
    """A stored run's random input."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def batch(clips: list[Tensor], divisor: int) -> tuple[Tensor, Tensor]:
    """Clips [T, 3, H, W] placed top-left on a common zero canvas; with their sizes."""
    sizes = torch.tensor([clip.shape[-2:] for clip in clips])
    height, width = (int(-(-side // divisor) * divisor) for side in sizes.amax(0).tolist())
    canvas = clips[0].new_zeros(len(clips), *clips[0].shape[:2], height, width)
    for row, clip in zip(canvas, clips, strict=True):
        row[..., : clip.shape[-2], : clip.shape[-1]] = clip
    return canvas, sizes


def black_out(clip: Tensor) -> Tensor:
    """The stored runs' tracking clip: an ellipse kept, the rest normalised black."""
    h, w = clip.shape[-2:]
    y, x = np.arange(h)[:, None], np.arange(w)[None]
    inside = ((y - h / 2) / (h / 4)) ** 2 + ((x - w / 2) / (w / 5)) ** 2 <= 1
    black = -np.array([0.485, 0.456, 0.406]) / np.array([0.229, 0.224, 0.225])
    return torch.where(torch.from_numpy(inside), clip, torch.from_numpy(black.astype(np.float32)).view(1, 3, 1, 1))


def tokens(rows: list[int]) -> tuple[Tensor, Tensor]:
    """ids and attention mask of the stored captions, padded with id 1."""
    chosen = [CAPTIONS[r] for r in rows]
    length = max(map(len, chosen))
    ids = torch.tensor([list(c) + [1] * (length - len(c)) for c in chosen])
    return ids, (torch.arange(length) < torch.tensor([len(c) for c in chosen])[:, None]).long()


class Case:
    """One stored file and our run of it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.arrays = np.load(folder / f"{name}.npz")
        self.meta = json.loads(str(self.arrays["meta"])) if "meta" in self.arrays.files else {}

    def check(self, name: str, x: Tensor, atol: float, rtol: float = 1e-4) -> None:
        """Compare with the stored array, or with its probe where only that is stored."""
        x = x.detach().contiguous()
        z = self.arrays
        if name in z.files:
            np.testing.assert_allclose(x.numpy(), z[name], atol=atol, rtol=rtol, err_msg=name)
            return
        assert tuple(z[name + ".shape"]) == tuple(x.shape), name
        probe = z[name + ".probe"]
        index = (torch.arange(len(probe)) * (x.numel() - 1)) // (len(probe) - 1)
        np.testing.assert_allclose(x.reshape(-1)[index].numpy(), probe, atol=atol, rtol=rtol, err_msg=name)


def squeeze(prediction: Prediction) -> dict[str, Tensor]:
    """Our prediction of one sentence per video under the reference's output names."""
    return {
        "pred_logits": prediction.logits_BETQK[:, 0],
        "pred_boxes": prediction.boxes_BETQ4[:, 0],
        "pred_masks": prediction.masks_BETQhw[:, 0],
    }


def run(
    model: Segmenter,
    clips: list[Tensor],
    text: TextFeatures,
    divisor: int,
    *,
    tracking: list[Tensor] | None = None,
    keep: list[int] | None = None,
) -> tuple[Prediction, VideoFeatures]:
    """Forward of the stored cases: one sentence per clip, optional tracking clips, optional kept frame per clip."""
    video = model.encode_video(*_with_times(*batch(clips, divisor)))
    if keep is not None:
        video = video.gather_frames(torch.tensor(keep)[:, None])
    memory: TrackingMemory | None = None
    if tracking is not None:
        stream = model.encode_video(*_with_times(*batch(tracking, divisor)))
        memory = model.track_video(stream, text, torch.ones(len(clips), 1, clips[0].shape[0], dtype=torch.bool))
    return model(video, text, memory, aux=True), video


def _with_times(frames: Tensor, sizes: Tensor) -> tuple[Tensor, None, Tensor]:
    return frames, None, sizes
