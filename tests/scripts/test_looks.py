"""The tiny backbone's classification weights (`scripts/looks.py`)."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.synthetic import SyntheticVideos
from models.backbone import Backbone, BackboneConfig, build_backbone
from models.imagenet import load_imagenet
from models.tracking import IMAGENET_MEAN, IMAGENET_STD
from scripts import looks
from util.errors import InputError

FEW = replace(looks.WORLD, videos=12)


def test_things_are_asked_for_where_they_are_seen() -> None:
    """Each mask of a batch is the one thing of its frame that has its names."""
    seen = looks.views(FEW, 2)
    assert len(seen) == 24
    things = looks.look(seen)
    mean, std = (np.array(values, np.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))
    assert np.allclose(things.frames_MCHW[5].permute(1, 2, 0), (seen[5].frame_HW3 / 255 - mean) / std, atol=1e-5)
    scene, video = SyntheticVideos(FEW).silent(5)
    assert video.expressions == () and video.masks is not None
    first = [k for k, frame in enumerate(things.frame_K.tolist()) if frame == 10]  # of video 5
    masks_NHW, _ = video.masks.read(6, [thing.id for thing in scene.things])
    wanted = [(thing, mask) for thing, mask in zip(scene.things, masks_NHW, strict=True) if mask.mean() >= looks.LEAST]
    assert len(first) == len(wanted) > 1
    for k, (thing, mask_HW) in zip(first, wanted, strict=True):
        assert np.array_equal(things.masks_KHW[k].numpy() > 0, mask_HW)
        size, colour, texture, shape = things.names_K4[k].tolist()
        names = looks.NAMES
        assert (names["colour"][colour], names["texture"][texture]) == (thing.colour, thing.texture)
        assert names["shape"][shape] == thing.shape and names["size"][size] == ("large", "small")[thing.radius < 0.14]


def test_colours_are_learned_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "WORLD", replace(looks.WORLD, videos=60))
    torch.manual_seed(0)
    said: list[str] = []
    schedule = looks.Schedule(steps=150, batch=8, views=2, warmup=10, asked=20)
    right = looks.pretrain(Backbone(BackboneConfig("tiny")), schedule, 0, said.append)
    assert list(right) == ["size", "colour", "texture", "shape"] and len(said) == 1
    assert right["colour"] > 0.5  # 1 in 8 by chance


def test_what_is_written_is_a_backbone_to_start_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "WORLD", FEW)
    monkeypatch.setattr(sys, "argv", ["looks", "--out", str(tmp_path), "--steps", "2"])
    looks.main()
    assert (tmp_path / "facts.json").is_file()
    backbone = build_backbone(BackboneConfig("tiny"))
    before = backbone.state_dict()["0.body.stem.0.weight"].clone()
    report = load_imagenet(backbone, tmp_path / "backbone.safetensors")
    after = backbone.state_dict()["0.body.stem.0.weight"]
    assert not report.kept and after.dtype == torch.float32 and not torch.equal(before, after)
    with pytest.raises(InputError, match=r"unexpected: stem\.0\.weight"):
        load_imagenet(build_backbone(BackboneConfig("resnet50")), tmp_path / "backbone.safetensors")
