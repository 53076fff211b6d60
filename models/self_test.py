"""Does this machine compute what it should? The operator against a float64 loop, the network against stored sums.

A wrong driver or build gives masks that look like a bad model; these two numbers tell the difference.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor

from models.backbone import BackboneConfig
from models.fitting import empty_segmenter
from models.ops import deformable_attention
from models.segmenter import Segmenter, SegmenterConfig
from models.text_encoder import ROBERTA_BASE, TextEncoderConfig

# Largest deviation that arithmetic explains: other summation orders and convolution algorithms, TF32 included.
OPERATOR_TOLERANCE = 1e-5
NETWORK_TOLERANCE = 2e-3

CONFIG = SegmenterConfig(
    backbone=BackboneConfig(name="tiny"),
    text=TextEncoderConfig(
        name="none",
        arch={
            **ROBERTA_BASE,
            "vocab_size": 300,
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 40,
        },
    ),
    hidden_dim=64,
    encoder_layers=1,
    decoder_layers=2,
    feedforward=128,
    tracking="feature",
    time=True,
    presence=True,
)

# network_sums("cpu") of the version these were stored with; a change of the network's arithmetic changes them.
STORED_SUMS = {
    "logits mean": -0.043179,
    "logits spread": 0.352683,
    "boxes mean": 0.290314,
    "boxes spread": 0.065062,
    "masks mean": -5.861284,
    "masks spread": 7.147929,
    "presence mean": -0.171744,
    "presence spread": 0.099891,
}

SHAPES = ((4, 5), (2, 3))


def operator_error(device: str | torch.device) -> float:
    """Largest difference between the float32 operator on `device` and a plain float64 loop over its definition."""
    draw = np.random.RandomState(1)
    value = draw.standard_normal((2, sum(h * w for h, w in SHAPES), 2, 4))
    locations = draw.uniform(-0.2, 1.2, (2, 3, 2, len(SHAPES), 3, 2))  # some outside, where samples are zero
    weights = draw.uniform(0, 1, locations.shape[:-1])
    tensors = [torch.from_numpy(x).float().to(device) for x in (value, locations, weights)]
    result = deformable_attention(tensors[0], SHAPES, tensors[1], tensors[2]).double().cpu().numpy()
    return float(np.abs(result - _operator_loop(value, locations, weights)).max())


def _operator_loop(value: np.ndarray, locations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum over levels and points of weight times the bilinear sample, one sample at a time."""
    samples, queries, heads, levels, points, _ = locations.shape
    out = np.zeros((samples, queries, heads, value.shape[-1]))
    starts = np.cumsum([0, *(h * w for h, w in SHAPES)])
    for n, q, m, level, p in np.ndindex(samples, queries, heads, levels, points):
        height, width = SHAPES[level]
        x, y = locations[n, q, m, level, p] * (width, height) - 0.5
        for column in (math.floor(x), math.floor(x) + 1):
            for row in (math.floor(y), math.floor(y) + 1):
                if 0 <= column < width and 0 <= row < height:
                    share = (1 - abs(x - column)) * (1 - abs(y - row)) * weights[n, q, m, level, p]
                    out[n, q, m] += share * value[n, starts[level] + row * width + column, m]
    return out.reshape(samples, queries, -1)


def network_error(device: str | torch.device) -> float:
    """Largest difference between `network_sums` on `device` and the stored ones, relative where they exceed 1."""
    sums = network_sums(device)
    return max(abs(sums[name] - stored) / max(1.0, abs(stored)) for name, stored in STORED_SUMS.items())


def network_sums(device: str | torch.device) -> dict[str, float]:
    """Mean and spread of every output of a small network with all its parts, weights and input by seed."""
    network = seeded_network().to(device)
    frames = _uniform(2, (1, 2, 3, 48, 80), 2.0).to(device)
    ids = torch.tensor([[0, 17, 25, 99, 42, 7, 2], [0, 5, 30, 64, 2, 1, 1]], device=device)
    masks = torch.zeros(1, 2, 2, 48, 80, device=device)
    masks[..., 10:30, 20:60] = 1
    with torch.inference_mode():
        text = network.encode_tokens(ids, (ids != 1).long(), 1)
        features = network.encode_expressions(network.encode_video(frames), text)
        tracking = network.track(features, masks, torch.tensor([[[True, True], [False, True]]], device=device))
        prediction = network.decode(features, tracking)
    outputs = {
        "logits": prediction.logits_BETQK,
        "boxes": prediction.boxes_BETQ4,
        "masks": prediction.masks_BETQhw,
        "presence": prediction.presence_BETQ,
    }
    return {name: value for part, tensor in outputs.items() for name, value in _sums(part, tensor).items()}


def seeded_network() -> Segmenter:
    """The self-test's network: every weight follows from its key and shape, whatever the library versions."""
    network = empty_segmenter(CONFIG).eval()
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            value.copy_(_weight(key, tuple(value.shape)))
    return network


def _weight(key: str, shape: tuple[int, ...]) -> Tensor:
    drawn = _uniform(zlib.crc32(key.encode()), shape, 1.0)
    if len(shape) >= 2:
        return drawn * math.sqrt(3 * shape[0] / drawn.numel())
    return 1 + 0.1 * drawn if key.endswith("weight") else 0.1 * drawn


def _uniform(seed: int, shape: tuple[int, ...], limit: float) -> Tensor:
    # RandomState's streams are frozen, unlike default_rng's.
    return torch.from_numpy(np.random.RandomState(seed).uniform(-limit, limit, shape)).float()


def _sums(name: str, tensor: Tensor | None) -> dict[str, float]:
    assert tensor is not None
    values = tensor.double()
    return {f"{name} mean": values.mean().item(), f"{name} spread": values.std().item()}
