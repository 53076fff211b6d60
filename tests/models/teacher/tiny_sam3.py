"""A random SAM 3 tracker of 2 M parameters, and a whole SAM 3 around it, saved as the folders that the hub has."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    Sam3TrackerVideoConfig,
    Sam3TrackerVideoMaskDecoderConfig,
    Sam3TrackerVideoModel,
    Sam3TrackerVideoPromptEncoderConfig,
    Sam3VideoConfig,
    Sam3VideoModel,
    Sam3VisionConfig,
    Sam3ViTConfig,
)

from models.teacher.interfaces import ModelInfo
from models.teacher.segment.sam3 import Sam3Network
from tests.models.teacher.tiny_models import shake

INFO = ModelInfo("sam3", "tiny", None, "SAM License")
SIDE, WIDTH = 112, 128  # pixels, a multiple of the patches' 14; channels must be a multiple of 64 and more than 64


def vision_config() -> Sam3VisionConfig:
    """Two layers, one of which looks at all of the image."""
    trunk = Sam3ViTConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
        window_size=4, global_attn_indexes=[1], pretrain_image_size=56,
    )  # fmt: skip
    return Sam3VisionConfig(backbone_config=trunk, fpn_hidden_size=WIDTH)


def tiny_config() -> Sam3TrackerVideoConfig:
    return Sam3TrackerVideoConfig(
        vision_config=vision_config(),
        image_size=SIDE,
        prompt_encoder_config=Sam3TrackerVideoPromptEncoderConfig(hidden_size=WIDTH, mask_input_channels=4),
        mask_decoder_config=Sam3TrackerVideoMaskDecoderConfig(
            hidden_size=WIDTH, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=WIDTH
        ),
        memory_attention_hidden_size=WIDTH, memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32, memory_encoder_hidden_size=WIDTH,
        memory_encoder_output_channels=64, mask_downsampler_embed_dim=WIDTH, memory_fuser_embed_dim=WIDTH,
        memory_fuser_intermediate_dim=32, memory_fuser_num_layers=1,
    )  # fmt: skip


@cache
def tiny_network() -> Sam3Network:
    """Weights away from their initial values, which make the network nearly blind to its input."""
    torch.manual_seed(0)
    network = Sam3Network(tiny_config()).eval()
    shake(network, 0, 0.05)
    with torch.no_grad():
        network.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(10.0)  # the object is there
    return network


def save_tiny_sam3(folder: Path) -> Path:
    """The tracker alone, as the library writes it."""
    library = Sam3TrackerVideoModel(tiny_config())
    library.load_state_dict(tiny_network().state_dict())
    library.save_pretrained(folder)
    return folder


def save_whole_sam3(folder: Path) -> Sam3VideoModel:
    """Detector and tracker, as the hub has them: the tracker has no image encoder of its own."""
    small = {"hidden_size": WIDTH, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    text = {
        "vocab_size": 60, "hidden_size": 32, "intermediate_size": 32, "projection_dim": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 8,
    }  # fmt: skip
    detector = {
        "vision_config": vision_config().to_dict(),
        "text_config": text,
        "geometry_encoder_config": small,
        "detr_encoder_config": small,
        "detr_decoder_config": {**small, "num_queries": 4},
        "mask_decoder_config": {"hidden_size": WIDTH, "num_attention_heads": 2},
    }
    model = Sam3VideoModel(Sam3VideoConfig(detector_config=detector, tracker_config=tiny_config().to_dict()))
    shake(model, 0, 0.05)
    model.config.save_pretrained(folder)
    # by itself it would write some keys with `tracker_model.` twice, which it cannot read again
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "model.safetensors")
    return model
