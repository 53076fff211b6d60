"""A random SAM 2 of 1 M parameters whose masks are not empty, saved as a folder that `from_pretrained` reads."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from transformers import (
    Sam2HieraDetConfig,
    Sam2VideoConfig,
    Sam2VideoMaskDecoderConfig,
    Sam2VideoModel,
    Sam2VideoPromptEncoderConfig,
    Sam2VisionConfig,
)

from datasets.video import MemoryVideo
from models.teacher.interfaces import ModelInfo
from models.teacher.segment.sam2 import Sam2Network

INFO = ModelInfo("sam2", "tiny", None, "none")
SIDE, WIDTH = 128, 128  # pixels; channels must be a multiple of 64 and more than 64


def tiny_vision(width: int) -> Sam2VisionConfig:
    """An image encoder of a few channels before a neck of `width`."""
    trunk = Sam2HieraDetConfig(
        hidden_size=8, num_attention_heads=1, image_size=[SIDE, SIDE], blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64], num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[4, 4, 4, 4], global_attention_blocks=[3],
        window_positional_embedding_background_size=[2, 2],
    )  # fmt: skip
    return Sam2VisionConfig(
        backbone_config=trunk, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=width,
        backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
    )  # fmt: skip


def tiny_config() -> Sam2VideoConfig:
    return Sam2VideoConfig(
        vision_config=tiny_vision(WIDTH),
        image_size=SIDE,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(
            hidden_size=WIDTH, image_size=SIDE, patch_size=16, mask_input_channels=4
        ),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(
            hidden_size=WIDTH, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=WIDTH
        ),
        memory_attention_hidden_size=WIDTH, memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32, memory_attention_rope_feat_sizes=[SIDE // 16] * 2,
        memory_encoder_hidden_size=WIDTH, memory_encoder_output_channels=64, mask_downsampler_embed_dim=WIDTH,
        memory_fuser_embed_dim=WIDTH, memory_fuser_intermediate_dim=32, memory_fuser_num_layers=1,
    )  # fmt: skip


@torch.no_grad()
def tiny_sam2(seed: int = 0) -> Sam2VideoModel:
    """Weights away from their initial values, which make the network nearly blind to its input."""
    torch.manual_seed(seed)
    model = Sam2VideoModel(tiny_config())
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape) * 0.05)
    model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(10.0)  # the object is there
    return model.eval()


def save_tiny_sam2(folder: Path, seed: int = 0) -> Path:
    tiny_sam2(seed).save_pretrained(folder)
    return folder


@cache
def tiny_network(seed: int = 0) -> Sam2Network:
    network = Sam2Network(tiny_config())
    network.load_state_dict(tiny_sam2(seed).state_dict())
    return network.eval()


def moving_square(frames: int = 24, size: tuple[int, int] = (60, 80)) -> MemoryVideo:
    """A bright square that moves to the right over noise."""
    noise = np.random.default_rng(0).integers(0, 120, (frames, *size, 3), dtype=np.uint8)
    for t in range(frames):
        noise[t, 20:40, 4 + t : 28 + t] = (230, 60, 40)
    return MemoryVideo(noise, fps=12.0)
