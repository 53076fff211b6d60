"""The specification's golden values of the networks on Swin and Video-Swin, in double precision (13.3: C, D, E)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from oracle import config, fill, uniform_weight

from models.backbone import BackboneConfig
from models.segmenter import Segmenter
from util.types import TextFeatures

# Case: backbone, (frames, height, width), then mean and first or last element of each output as published.
CASES = {
    "C": ("swin_t", (2, 96, 128), (-5.644195e-2, 0.2937737), (0.3195457, 0.3803262),
          (-12.41945, 13.29549, -20.96800), 26.36489),
    # two temporal windows, and stages with sides below the window
    "D": ("video_swin_t", (10, 64, 96), (0.4011028, 0.5190063), (0.3255785, 0.4687716),
          (-3.570395, 3.740286, -6.910727), 9.716804),
    "E": ("video_swin_t", (1, 64, 96), (0.6086144, 0.6138048), (0.3639825, 0.4817511),
          (-2.026812, 2.114155, -0.0789122), 6.734948),
}  # fmt: skip


def uniform(seed: int, limit: float, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).uniform(-limit, limit, shape))


@pytest.fixture(scope="module")
def networks():
    built: dict[str, Segmenter] = {}

    def get(name: str) -> Segmenter:
        if name not in built:
            plan = dataclasses.replace(config(), backbone=BackboneConfig(name))
            built[name] = fill(Segmenter(plan).double(), uniform_weight, skip=("text_encoder.",))
        return built[name]

    return get


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_golden_case(networks, case):
    name, (frames, height, width), logits, boxes, masks, first_layer = CASES[case]
    network = networks(name)
    words, sentence = network.resizer(uniform(1, 1, 1, 6, 768)), network.resizer(uniform(2, 1, 1, 768))
    text = TextFeatures(words[:, None], torch.zeros(1, 1, 6, dtype=torch.bool), sentence[:, None])
    video = network.encode_video(uniform(10, 2, frames, 3, height, width)[None])
    prediction = network(video, text, aux=True)
    ours = [
        *((x.mean(), x.flatten()[0]) for x in (prediction.logits_BETQK, prediction.boxes_BETQ4)),
        *((x.mean(), x.abs().mean(), x.flatten()[-1]) for x in (prediction.masks_BETQhw,)),
        (prediction.aux[0].masks_BETQhw.mean(),),
    ]
    for values, expected in zip(ours, (logits, boxes, masks, (first_layer,)), strict=True):
        np.testing.assert_allclose([v.item() for v in values], expected, rtol=3e-6, atol=1e-6)
