"""ResNets against torchvision's own and the golden table; the tiny one's beginnings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracle import uniform_weight
from small_backbones import clip, outline, randomise
from torch import nn
from torchvision.models import resnet50

from models.backbone import BackboneConfig, build_backbone
from models.resnet import FrozenBatchNorm


def test_resnet_equals_torchvision():
    reference = randomise(resnet50(weights=None), 3)
    backbone = build_backbone(BackboneConfig("resnet50")).double()
    state = {k: v for k, v in reference.state_dict().items() if not k.startswith("fc.") and "batches" not in k}
    backbone[0].body.load_state_dict(state)
    frames = clip(1, 2, 3, 50, 70)
    x = reference.maxpool(reference.relu(reference.bn1(reference.conv1(frames[0]))))
    with torch.no_grad():
        for stage, level in zip(("layer1", "layer2", "layer3", "layer4"), backbone(frames), strict=True):
            x = getattr(reference, stage)(x)
            torch.testing.assert_close(level, x, atol=1e-8, rtol=1e-8)


def test_resnet_stage_values_of_the_golden_case():
    backbone = build_backbone(BackboneConfig("resnet50")).double()
    state = {key: uniform_weight(f"backbone.{key}", tuple(value.shape)) for key, value in backbone.state_dict().items()}
    backbone.load_state_dict(state)
    frames = torch.zeros(2, 1, 3, 96, 128, dtype=torch.float64)
    for i, (h, w) in enumerate(((70, 100), (90, 60))):
        frames[i, 0, :, :h, :w] = torch.from_numpy(np.random.RandomState(10 + i).uniform(-2, 2, (1, 3, h, w)))[0]
    with torch.no_grad():
        levels = backbone(frames)
    assert [tuple(x.shape) for x in levels[::3]] == [(2, 256, 24, 32), (2, 2048, 3, 4)]
    for level, mean, first in ((levels[0], 0.644804, 0.385144), (levels[3], 0.931931, 0.335926)):
        assert level.abs().mean().item() == pytest.approx(mean, abs=2e-6)
        assert level.flatten()[0].item() == pytest.approx(first, abs=2e-6)


def test_frozen_batch_norm_is_batch_norm_in_eval_mode():
    reference = randomise(nn.BatchNorm2d(6), 8)
    frozen = FrozenBatchNorm(6).double()
    frozen.load_state_dict({k: v for k, v in reference.state_dict().items() if "batches" not in k})
    x = clip(2, 6, 3, 4)
    torch.testing.assert_close(frozen(x), reference(x))
    assert not list(frozen.parameters())
    assert frozen(x.bfloat16()).dtype == torch.bfloat16


def test_a_resnet_with_group_norm_is_trained_whole():
    backbone = outline("resnet50", norm="group")
    assert all(p.requires_grad for p in backbone.parameters())
    assert not any("running" in key for key in backbone.state_dict())


def test_tiny_starts_at_a_sane_scale_and_every_weight_learns():
    backbone = build_backbone(BackboneConfig("tiny"))
    levels = backbone(clip(1, 3, 3, 96, 160, dtype=torch.float32))
    assert all(0.2 < level.square().mean().sqrt().item() < 5 for level in levels)
    sum(level.square().mean() for level in levels).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in backbone.parameters())
    assert 1_000_000 < sum(p.numel() for p in backbone.parameters()) < 1_500_000
