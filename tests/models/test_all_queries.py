"""Detections of all queries in one frame: the clip around it, the chosen query's mask, what the protocol changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.video import MemoryVideo
from models.all_queries import clip_around, detect
from models.key_frame import segment_video
from models.segmenter import Segmenter
from tests.models.test_inference import CONFIG, NETWORK, SENTENCES, Letters
from util import rle
from util.image_scores import best_of
from util.protocol import PUBLISHED


@pytest.mark.parametrize(
    ("index", "length", "frames", "clip", "position"),
    [
        (4, 5, 9, [2, 3, 4, 5, 6], 2),
        (0, 5, 9, [0, 0, 0, 1, 2], 0),  # the first of the repeated frames
        (8, 4, 9, [6, 7, 8, 8], 2),
        (1, 5, 2, [0, 0, 1, 1, 1], 2),
        (0, 5, 1, [0], 0),  # an image
    ],
)
def test_clip_around(index: int, length: int, frames: int, clip: list[int], position: int) -> None:
    assert clip_around(index, length, frames) == (clip, position)


def network(protocol: str) -> Segmenter:
    torch.manual_seed(3)
    config = replace(NETWORK, protocol=PUBLISHED) if protocol == "published" else NETWORK
    return Segmenter(config, tokenizer=Letters()).eval()


def video(frames: int) -> MemoryVideo:
    pixels = np.random.default_rng(0).integers(0, 256, (frames, 60, 90, 3), dtype=np.uint8)
    return MemoryVideo(list(pixels), 5.0)


@pytest.mark.parametrize("protocol", ["corrected", "published"])
def test_every_query_is_a_detection(protocol: str) -> None:
    segmenter = network(protocol)
    found = detect(segmenter, video(4), 2, SENTENCES, CONFIG)
    assert [len(detections) for detections in found] == [NETWORK.queries] * len(SENTENCES)
    for detections in found:
        for detection in detections:
            assert 0 <= detection.score <= 1
            assert detection.mask["size"] == [60, 90]
            assert detection.box is not None and detection.box[0] <= detection.box[2]
    alone = detect(segmenter, video(4), 2, SENTENCES[1:2], CONFIG)[0]
    for one, batched in zip(alone, found[1], strict=True):
        assert one.score == pytest.approx(batched.score, abs=1e-5)


def test_the_best_detection_of_an_image_is_the_mask_that_is_shown() -> None:
    """Clip mode answers an image with its best query's mask, which is what the corrected mAP scores."""
    segmenter = network("corrected")
    shown = segment_video(segmenter, video(1), SENTENCES, replace(CONFIG, mode="clip"))
    for detections, masks in zip(detect(segmenter, video(1), 0, SENTENCES, CONFIG), shown.masks, strict=True):
        best = best_of(detections)
        assert best is not None
        assert np.mean(rle.decode(best.mask) != rle.decode(masks[0])) < 1e-3
