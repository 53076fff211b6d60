"""Backbones: names, sizes and frozen parts as in the released checkpoints; shapes and checkpointing of each kind."""

from __future__ import annotations

import pytest
import torch
from small_backbones import clip, outline
from torch import nn

from models.backbone import BackboneConfig, build_backbone
from util.errors import InputError

# name: entries of the state, parameters, channels of C2..C5
PUBLISHED = {
    "resnet50": (265, 23_454_912, (256, 512, 1024, 2048)),
    "resnet101": (520, 42_394_816, (256, 512, 1024, 2048)),
    "swin_t": (189, 27_520_698, (96, 192, 384, 768)),
    "swin_s": (357, 48_838_602, (96, 192, 384, 768)),
    "swin_b": (357, 86_745_016, (128, 256, 512, 1024)),
    "swin_l": (357, 194_998_164, (192, 384, 768, 1536)),
    "video_swin_t": (181, 27_844_326, (96, 192, 384, 768)),
    "video_swin_s": (349, 49_502_934, (96, 192, 384, 768)),
    "video_swin_b": (349, 87_630_792, (128, 256, 512, 1024)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name):
    entries, parameters, channels = PUBLISHED[name]
    backbone = outline(name)
    assert len(backbone.state_dict()) == entries
    assert sum(p.numel() for p in backbone.parameters()) == parameters
    assert backbone[0].channels == channels
    assert all(key.startswith("0.body.") for key in backbone.state_dict())


@pytest.mark.parametrize("name", PUBLISHED)
def test_keys_are_those_of_released_checkpoints(name, oracles):
    short = name.replace("resnet", "r")
    rows = [row.split() for row in (oracles / "referformer" / f"keys_{short}.txt").read_text().splitlines()[1:]]
    published = {
        key: (tuple(map(int, shape.split("x"))), kind) for key, shape, _, kind in rows if key.startswith("backbone.")
    }
    segmenter = nn.Module()
    segmenter.backbone = outline(name)
    parameters = dict(segmenter.named_parameters())
    ours = {
        key: (tuple(value.shape), "p" if key in parameters else "b") for key, value in segmenter.state_dict().items()
    }
    assert ours == published


@pytest.mark.parametrize(
    ("name", "changes", "trained"),
    [
        ("resnet50", {}, 23_232_512),
        ("resnet50", {"train": False}, 0),
        ("swin_t", {}, 27_520_698),
        ("swin_t", {"train": False}, 0),
        ("video_swin_t", {"train": False}, 0),
        ("tiny", {"train": False}, 0),
    ],
)
def test_what_is_trained(name, changes, trained):
    backbone = outline(name, **changes)
    assert sum(p.numel() for p in backbone.parameters() if p.requires_grad) == trained
    assert backbone.train()[0].body.training == (trained > 0)


@pytest.mark.parametrize("name", ["resnet50", "swin_t", "video_swin_t", "tiny"])
def test_levels_have_strides_4_to_32_rounded_up(name):
    backbone = build_backbone(BackboneConfig(name)).eval()
    with torch.no_grad():
        levels = backbone(clip(1, 2, 3, 50, 70, dtype=torch.float32))
    grids = [(13, 18), (7, 9), (4, 5), (2, 3)]
    expected = [(2, c, *g) for c, g in zip(backbone[0].channels, grids, strict=True)]
    assert [tuple(level.shape) for level in levels] == expected


@pytest.mark.parametrize("name", ["tiny", "swin_t", "video_swin_t", "resnet50"])
def test_checkpointing_changes_no_gradient(name):
    frames = clip(1, 2, 3, 32, 40, dtype=torch.float32)
    grads = []
    for checkpointing in (False, True):
        torch.manual_seed(3)
        # Drop path stays on: its draws must be the same ones when a block is computed again.
        backbone = build_backbone(BackboneConfig(name, drop_path=None, checkpoint_activations=checkpointing)).train()
        torch.manual_seed(4)
        sum(level.square().mean() for level in backbone(frames)).backward()
        grads.append({key: p.grad for key, p in backbone.named_parameters()})
    assert {key for key, grad in grads[0].items() if grad is None} == {
        key for key in grads[0] if name == "resnet50" and key.startswith(("0.body.conv1", "0.body.layer1"))
    }
    for key, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][key], msg=lambda text, key=key: f"{key}: {text}")


def test_an_unknown_name_is_refused():
    with pytest.raises(InputError, match=r"resnet34.*resnet50"):
        build_backbone(BackboneConfig("resnet34"))
