"""What every query says of one frame: the detections that A2D-Sentences, JHMDB-Sentences and RefCOCO are scored on.

ReferFormer's inference for them: a clip of T frames around the asked one goes through the backbone, the asked one alone
through the rest; each query is a detection with its class score, box and mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.inference import (
    STRIDE,
    Inference,
    InferenceConfig,
    clean_sentences,
    evaluating,
    network_size,
    query_scores,
)  # fmt: skip
from models.segmenter import Segmenter
from util import rle
from util.boxes import cxcywh_to_xyxy
from util.image_scores import Detection
from util.types import FrameSource


def detect(
    segmenter: Segmenter,
    frames: FrameSource,
    index: int,
    sentences: Sequence[str],
    config: InferenceConfig | None = None,
) -> list[list[Detection]]:
    """Detections [E][Q] of each sentence in frame `index`, from a clip of `config.window` frames around it.

    Frames are resized with the longest side bounded and sentences cleaned whatever the protocol (RefCOCO's are taken as
    they are under the published one): that is what the published numbers of these data sets were made with. Under it
    masks are enlarged by nearest neighbour from a mask at the network's size, and the decoder sees the asked frame
    alone; a network of ours decodes the whole clip, which its attention over time needs. An image is a clip of one
    frame. Raises InputError for no or empty sentences.
    """
    config = config or InferenceConfig()
    clip, position = clip_around(index, config.window, len(frames))
    with evaluating(segmenter):
        inference = Inference(segmenter, config, frames.size)
        inference.canvas = network_size(frames.size, inference.config.short_side, inference.config.max_side)
        published = inference.protocol.name == "published"
        cleaned = clean_sentences(sentences, "raw" if published and len(frames) == 1 else "cleaned")
        text = segmenter.encode_text([cleaned])
        pixels = inference.pixels([frames[t] for t in clip])
        video = segmenter.encode_video(pixels, inference.times(clip, frames.fps))
        if published:
            video = video.gather_frames(torch.tensor([[position]], device=inference.device))
            position = 0
        prediction = segmenter.decode(segmenter.encode_expressions(video, text))
        scores_EQ = query_scores(prediction)[:, position].tolist()
        height, width = frames.size
        scale = torch.tensor([width, height, width, height], device=inference.device)
        boxes_EQ4 = (cxcywh_to_xyxy(prediction.boxes_BETQ4[0, :, position].float()) * scale).tolist()
        logits_EQhw = prediction.masks_BETQhw[0, :, position].float()
        masks_EQ = [
            [rle.encode(mask) for mask in (_nearest(inference, logits) if published else inference.finish(logits))]
            for logits in logits_EQhw
        ]
    return [
        [Detection(*found) for found in zip(scores, masks, map(tuple, boxes), strict=True)]
        for scores, masks, boxes in zip(scores_EQ, masks_EQ, boxes_EQ4, strict=True)
    ]


def clip_around(index: int, length: int, frames: int) -> tuple[list[int], int]:
    """Frames index - length // 2 ... of a clip, those outside the video replaced by its ends, and where `index` is."""
    length = 1 if frames == 1 else length
    first = index - length // 2
    clip = [min(max(t, 0), frames - 1) for t in range(first, first + length)]
    return clip, clip.index(index)


def _nearest(inference: Inference, logits_Qhw: Tensor) -> np.ndarray:
    """Masks bool [Q, H, W] decided at the network's input size and enlarged by nearest neighbour."""
    height, width = inference.canvas
    x = F.interpolate(logits_Qhw[:, None], scale_factor=STRIDE, mode="bilinear", align_corners=False)
    decided = (x[..., :height, :width].sigmoid() > inference.config.threshold).float()
    return F.interpolate(decided, inference.source, mode="nearest")[:, 0].cpu().numpy() > 0
