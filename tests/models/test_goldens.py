"""Parity without any file: the specification's golden values, from weights that follow from their names (13.3)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from oracle import batch, config, fill, uniform_weight

from models.segmenter import Segmenter
from util.protocol import PUBLISHED
from util.types import TextFeatures

WORDS = 6


@pytest.fixture(scope="module")
def network():
    return fill(Segmenter(config(tracking="rgb")), uniform_weight, skip=("text_encoder.",))


def text_features(network: Segmenter, videos: int, padded_words: int) -> TextFeatures:
    hidden = np.random.RandomState(1).uniform(-1, 1, (videos, WORDS, 768)).astype(np.float32)
    pooled = np.random.RandomState(2).uniform(-1, 1, (videos, 768)).astype(np.float32)
    padding = torch.zeros(videos, WORDS, dtype=torch.bool)
    padding[1:, WORDS - padded_words :] = padded_words > 0
    hidden, pooled = torch.from_numpy(hidden), torch.from_numpy(pooled)
    return TextFeatures(network.resizer(hidden)[:, None], padding[:, None], network.resizer(pooled)[:, None])


def clips(seed: int, *shapes: tuple[int, int, int]) -> list[torch.Tensor]:
    return [
        torch.from_numpy(np.random.RandomState(seed + i).uniform(-2, 2, (t, 3, h, w)).astype(np.float32))
        for i, (t, h, w) in enumerate(shapes)
    ]


@torch.no_grad()
def outputs(network, shapes, *, divisor=1, padded_words=0, tracking=None):
    text = text_features(network, len(shapes), padded_words)
    frames, sizes = batch(clips(10, *shapes), divisor)
    video = network.encode_video(frames, sizes_B2=sizes)
    memory = None
    if tracking is not None:
        frames, sizes = batch(clips(20, *tracking), divisor)
        stream = network.encode_video(frames, sizes_B2=sizes)
        memory = network.track_video(stream, text, torch.ones(len(shapes), 1, shapes[0][0], dtype=torch.bool))
    return network(video, text, memory, aux=True)


def close(x: torch.Tensor, value: float, tolerance: float) -> None:
    np.testing.assert_allclose(x.item(), value, atol=tolerance, rtol=1e-5)


def check(prediction, logits, boxes, masks, aux_mean) -> None:
    for x, (mean, first) in ((prediction.logits_BETQK, logits), (prediction.boxes_BETQ4, boxes)):
        close(x.double().mean(), mean, 3e-5)
        close(x.flatten()[0], first, 3e-5)
    m = prediction.masks_BETQhw
    close(m.double().mean(), masks[0], 2e-4)
    close(m.double().abs().mean(), masks[1], 2e-4)
    close(m.flatten()[-1], masks[2], 3e-4)
    close(prediction.aux[0].masks_BETQhw.double().mean(), aux_mean, 2e-4)


def test_regenerated_weights(network):
    state = network.state_dict()
    np.testing.assert_allclose(state["query_embed.weight"][0, :3], [0.05171343, 0.01638093, 0.06692563], atol=1e-7)
    norm = state["resizer.layer_norm.weight"][:3]
    np.testing.assert_allclose(norm, [1.03382622, 0.99168536, 1.09050143], atol=1e-7)


@pytest.mark.usefixtures("backend")
def test_case_a(network):
    check(
        outputs(network, [(2, 96, 128)]),
        (1.053119e-2, 0.1103692),
        (0.3553311, 0.2933660),
        (-7.529637, 8.135844, -6.439404),
        12.90502,
    )


def test_case_a2_odd_size(network):
    check(
        outputs(network, [(2, 90, 122)]),
        (-5.606963e-2, -0.0495763),
        (0.3531928, 0.3156497),
        (-6.340762, 7.027835, 0.8834334),
        13.49116,
    )


@pytest.mark.usefixtures("backend")
def test_case_b_padded_batch(network):
    check(
        outputs(network, [(1, 70, 100), (1, 90, 60)], divisor=32, padded_words=2),
        (-0.8313643, 0.0829450),
        (0.4070034, 0.3263783),
        (9.403781e-2, 8.392590, 22.43040),
        5.076414,
    )


@pytest.mark.usefixtures("backend")
def test_case_f_tracking_stream(network):
    check(
        outputs(network, [(1, 96, 128)], tracking=[(1, 96, 128)]),
        (-0.1353432, -0.1332589),
        (0.3481847, 0.2641648),
        (-3.471777, 9.323888, -1.279890),
        3.013265,
    )


def test_case_f0_tracking_off(network):
    check(
        outputs(network, [(1, 96, 128)]),
        (8.403328e-2, 0.1103692),
        (0.3540087, 0.2933660),
        (-7.058785, 7.723969, -0.5445184),
        14.20519,
    )


G = dict(shapes=[(2, 96, 128)], divisor=32, tracking=[(2, 90, 100)])


def test_case_g_published_ratios(network):
    check(
        outputs(network, **G),
        (-0.1060824, 6.53530e-3),
        (0.3487903, 0.2554443),
        (-5.832557, 9.149216, -14.39963),
        4.644434,
    )


def test_case_g_corrected_ratios(network):
    published = network.config
    network.config = dataclasses.replace(published, protocol=dataclasses.replace(PUBLISHED, track_valid_ratio="own"))
    try:
        prediction = outputs(network, **G)
    finally:
        network.config = published
    check(
        prediction,
        (-0.1209956, 2.64212e-3),
        (0.3460955, 0.2552016),
        (-5.761803, 9.069445, -12.61930),
        5.055300,
    )
