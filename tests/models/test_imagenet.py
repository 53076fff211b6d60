"""Classification files into backbones: every key accounted for, every misfit named, nothing executed."""

from __future__ import annotations

import math

import pytest
import torch
from small_backbones import outline

from models.backbone import BackboneConfig, build_backbone, load_imagenet
from util.errors import InputError


def torchvision_file(backbone):
    state = {k.removeprefix("0.body."): torch.rand_like(v) for k, v in backbone.state_dict().items()}
    state |= {"fc.weight": torch.ones(10, 2048), "bn1.num_batches_tracked": torch.tensor(5)}
    return state, state, {"fc.weight", "bn1.num_batches_tracked"}, set()


def swin_file(backbone):
    state = {k.removeprefix("0.body."): v for k, v in backbone.state_dict().items()}
    state = {k: torch.rand_like(v) if v.is_floating_point() else v for k, v in state.items() if k[:5] != "norm0"}
    state = {k: v for k, v in state.items() if k.split(".")[0] not in ("norm1", "norm2", "norm3")}
    extra = {"norm.weight": torch.ones(768), "norm.bias": torch.ones(768), "head.weight": torch.ones(10, 768)}
    extra["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    kept = {f"norm{i}.{kind}" for i in range(4) for kind in ("weight", "bias")}
    return {"model": state | extra}, state, set(extra), kept


def video_swin_file(backbone):
    state = {k.removeprefix("0.body."): v for k, v in backbone.state_dict().items()}
    state = {k: torch.rand_like(v) if v.is_floating_point() else v for k, v in state.items()}
    stored = dict(state)
    halves = torch.rand(96, 3, 2, 4, 4)
    state["patch_embed.proj.weight"], stored["patch_embed.proj.weight"] = halves.sum(2, keepdim=True), halves
    names = {k: k for k in stored}
    names |= {k: f"layers.{k.split('.')[1]}.downsample.{k.split('.', 2)[2]}" for k in stored if k[:11] == "downsamples"}
    extra = {"backbone.norm.weight": torch.ones(768), "cls_head.fc_cls.bias": torch.ones(400)}
    file = {"meta": {"epoch": 30}, "state_dict": {f"backbone.{names[k]}": v for k, v in stored.items()} | extra}
    return file, state, set(extra), set()


@pytest.mark.parametrize(
    ("name", "make"), [("resnet50", torchvision_file), ("swin_t", swin_file), ("video_swin_t", video_swin_file)]
)
def test_classification_files_load_with_every_key_accounted_for(name, make, tmp_path):
    backbone = build_backbone(BackboneConfig(name))
    file, expected, dropped, kept = make(backbone)
    torch.save(file, tmp_path / "weights.pth")
    report = load_imagenet(backbone, tmp_path / "weights.pth")
    state = {key.removeprefix("0.body."): value for key, value in backbone.state_dict().items()}
    assert set(report.loaded) | set(report.kept) == set(state)
    assert set(report.dropped) == dropped and set(report.kept) == kept
    assert all(torch.equal(state[key], expected[key]) for key in report.loaded)
    assert f"{len(report.loaded)} entries loaded" in str(report)


def break_missing(state):
    del state["layers.1.blocks.0.norm1.weight"]


def break_unexpected(state):
    state["layers.9.weight"] = torch.ones(1)


def break_shape(state):
    state["patch_embed.proj.bias"] = torch.ones(128)


def break_index(state):
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)


def break_values(state):
    state["patch_embed.proj.bias"] = torch.full((96,), math.nan)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (break_missing, "missing: layers.1.blocks.0.norm1.weight"),
        (break_unexpected, "unexpected: layers.9.weight"),
        (break_shape, r"patch_embed.proj.bias is \[128\], the backbone needs \[96\]"),
        (break_index, "relative_position_index differs"),
        (break_values, "patch_embed.proj.bias is not finite"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(spoil, message, tmp_path):
    backbone = build_backbone(BackboneConfig("swin_t"))
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    file = swin_file(backbone)[0]
    spoil(file["model"])
    torch.save(file, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=message):
        load_imagenet(backbone, tmp_path / "weights.pth")
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


class Rogue:
    def __reduce__(self):
        return (print, ("run",))


def test_unreadable_files_say_so(tmp_path, capsys):
    (tmp_path / "junk.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match="cannot read"):
        load_imagenet(build_backbone(BackboneConfig("tiny")), tmp_path / "junk.safetensors")
    swin = outline("swin_t")
    with pytest.raises(InputError, match=r"no file .*x\.pth"):
        load_imagenet(swin, tmp_path / "x.pth")
    (tmp_path / "junk.pth").write_bytes(b"not weights")
    torch.save({"model": Rogue()}, tmp_path / "rogue.pth")
    for name in ("junk.pth", "rogue.pth"):
        with pytest.raises(InputError, match="cannot read"):
            load_imagenet(swin, tmp_path / name)
    assert capsys.readouterr().out == ""
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="under 'model'; this one has only: state_dict"):
        load_imagenet(swin, tmp_path / "other.pth")


def test_group_norm_resnet_refuses_a_batch_norm_file(tmp_path):
    source = outline("resnet50")
    state = {key.removeprefix("0.body."): torch.ones(value.shape) for key, value in source.state_dict().items()}
    torch.save(state, tmp_path / "resnet.pth")
    with pytest.raises(InputError, match=r"unexpected: bn1\.running_mean"):
        load_imagenet(outline("resnet50", norm="group"), tmp_path / "resnet.pth")
