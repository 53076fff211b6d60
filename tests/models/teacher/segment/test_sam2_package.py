"""The `sam2` package behind the protocol: the same masks from the same weights as through transformers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Sam2VideoConfig, Sam2VideoPromptEncoderConfig

from models.teacher.convert.sam2 import rename
from models.teacher.interfaces import ModelInfo, ObjectFrame, Prompt
from models.teacher.segment.sam2 import Sam2Network, Sam2Segmenter
from models.teacher.segment.sam2_package import Sam2PackageSegmenter
from tests.models.teacher.tiny_sam2 import SIDE, moving_square, tiny_vision
from util.errors import InputError

VIDEO = moving_square(20)
MASK_HW = np.zeros((60, 80), bool)
MASK_HW[18:42, 10:40] = True
PROMPTS = {
    "box": Prompt(0, box=(4.0, 20.0, 28.0, 40.0)),
    "points": Prompt(4, points=((20.0, 30.0, 1), (5.0, 5.0, 0), (30.0, 25.0, 1))),
    "one point": Prompt(0, points=((20.0, 30.0, 1),)),
    "late box": Prompt(9, box=(13.0, 20.0, 37.0, 40.0)),
    "mask": Prompt(6, mask_HW=MASK_HW),
}


def build_predictor() -> Any:
    """A small random predictor; the heads of the package stay at 256 channels."""
    pytest.importorskip("sam2", reason="the package sam2 is not installed")
    from sam2.build_sam import build_sam2_video_predictor

    trunk, attention = "image_encoder.trunk", "memory_attention.layer"
    settings = {
        "image_size": SIDE,
        f"{trunk}.embed_dim": 8, f"{trunk}.num_heads": 1, f"{trunk}.stages": "[1,1,2,1]",
        f"{trunk}.global_att_blocks": "[3]", f"{trunk}.window_pos_embed_bkg_spatial_size": "[2,2]",
        f"{trunk}.window_spec": "[4,4,4,4]", "image_encoder.neck.backbone_channel_list": "[64,32,16,8]",
        "memory_attention.num_layers": 1, f"{attention}.dim_feedforward": 64,
        f"{attention}.self_attention.feat_sizes": f"[{SIDE // 16},{SIDE // 16}]",
        f"{attention}.cross_attention.feat_sizes": f"[{SIDE // 16},{SIDE // 16}]",
    }  # fmt: skip
    torch.manual_seed(0)
    predictor = build_sam2_video_predictor(
        "configs/sam2.1/sam2.1_hiera_t.yaml",
        device="cpu",
        hydra_overrides_extra=[f"++model.{name}={value}" for name, value in settings.items()],
    )
    with torch.no_grad():
        for parameter in predictor.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.02)
        predictor.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(10.0)
    return predictor


def the_same_in_transformers(predictor: Any) -> Sam2Network:
    config = Sam2VideoConfig(
        vision_config=tiny_vision(256),
        image_size=SIDE,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(image_size=SIDE),
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=[SIDE // 16] * 2,
    )
    network = Sam2Network(config).eval()
    network.load_state_dict(rename(predictor.state_dict()))
    return network


@pytest.fixture(scope="module")
def both() -> tuple[Sam2PackageSegmenter, Sam2Segmenter]:
    predictor = build_predictor()
    info = ModelInfo("tiny", "tiny", None, "none")
    return Sam2PackageSegmenter(predictor, info), Sam2Segmenter(the_same_in_transformers(predictor), info)


def sweep(segmenter: Any, prompts: dict[str, Prompt]) -> dict[tuple[str, int], ObjectFrame]:
    session, seen = segmenter.open(VIDEO), {}
    ids = {name: n for n, name in enumerate(prompts)}
    for frame in range(len(VIDEO)):
        for name, prompt in prompts.items():
            if frame == prompt.frame:
                seen[name, frame] = session.add(ids[name], prompt)
            elif frame > prompt.frame:
                seen[name, frame] = session.step(ids[name], frame)
    for frame in range(len(VIDEO) - 1, -1, -1):
        for name, prompt in prompts.items():
            if frame < prompt.frame:
                seen[name, frame] = session.step(ids[name], frame, reverse=True)
    return seen


def test_same_masks_from_the_same_weights(both: tuple[Sam2PackageSegmenter, Sam2Segmenter]) -> None:
    package, ours = (sweep(segmenter, PROMPTS) for segmenter in both)
    assert package.keys() == ours.keys() and len(ours) == len(PROMPTS) * len(VIDEO)
    for (name, frame), one in package.items():
        other = ours[name, frame]
        # transformers remembers a mask prompt at full size, the package at a quarter of it
        loose = name == "mask"
        assert (one.mask_HW != other.mask_HW).mean() <= (0.001 if loose else 0), (name, frame)
        assert one.object_score == pytest.approx(other.object_score, abs=1e-3 if loose else 1e-5), (name, frame)
        assert np.allclose(one.pointer_D, other.pointer_D, atol=1e-3 if loose else 1e-5), (name, frame)
        assert one.predicted_iou == pytest.approx(other.predicted_iou, abs=1e-3 if loose else 1e-5, nan_ok=True)
    assert 0.01 < np.mean([frame.mask_HW.mean() for frame in ours.values()]) < 0.99


def test_objects_of_the_package_do_not_change_each_other(both: tuple[Sam2PackageSegmenter, Any]) -> None:
    together = sweep(both[0], PROMPTS)
    for name in ("box", "mask"):
        alone = sweep(both[0], {name: PROMPTS[name]})
        for (_, frame), one in alone.items():
            assert np.array_equal(one.mask_HW, together[name, frame].mask_HW)
            assert np.array_equal(one.pointer_D, together[name, frame].pointer_D)


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "sam2", None)
    monkeypatch.setitem(sys.modules, "sam2.build_sam", None)
    with pytest.raises(InputError, match="pip install"):
        Sam2PackageSegmenter.from_pretrained(tmp_path)
