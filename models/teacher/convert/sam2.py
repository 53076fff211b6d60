"""Meta's SAM 2 and 2.1 files (.pt), all eight sizes, as a folder that transformers reads: same numbers, other names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.teacher.convert.original import read_original, require_fit, write_folder
from util.errors import InputError

_TRUNK = "image_encoder.trunk."
_POINTS = "prompt_encoder.point_embeddings.{}.weight"
_NEW_IN_2_1 = "no_obj_embed_spatial"
_STEM = re.compile(r"memory_encoder\.mask_downsampler\.encoder\.(\d+)\.")
_LAST_STEM = 12  # conv, norm and activation by turns; the last is a convolution of its own

# Applied in this order, each wherever it fits. Multi-layer perceptrons: Meta counts layers, transformers names them.
_HEADS = r"(pointer_proj|score_head|prediction_head|networks_mlps\.\d)"
_RULES = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
        (r"patch_embed\.proj\.", "patch_embed.projection."),
        (r"^image_encoder\.neck\.(convs\.\d+)\.conv\.", r"vision_encoder.neck.\1."),
        (r"^sam_(mask_decoder|prompt_encoder)\.", r"\1."),
        (r"^obj_ptr_proj\.", "object_pointer_proj."),
        (r"\.norm(\d|_final_attn)?\.", r".layer_norm\1."),
        (r"(attn|attn_image|token_to_image|image_to_token)\.out_proj\.", r"\1.o_proj."),
        (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
        (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
        (_HEADS + r"\.layers\.0\.", r"\1.proj_in."),
        (_HEADS + r"\.layers\.1\.", r"\1.layers.0."),
        (_HEADS + r"\.layers\.2\.", r"\1.proj_out."),
        (r"output_upscaling\.0\.", "upscale_conv1."),
        (r"output_upscaling\.1\.", "upscale_layer_norm."),
        (r"output_upscaling\.3\.", "upscale_conv2."),
        (r"mask_downscaling\.0\.", "mask_embed.conv1."),
        (r"mask_downscaling\.1\.", "mask_embed.layer_norm1."),
        (r"mask_downscaling\.3\.", "mask_embed.conv2."),
        (r"mask_downscaling\.4\.", "mask_embed.layer_norm2."),
        (r"mask_downscaling\.6\.", "mask_embed.conv3."),
        (r"pe_layer\.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"),
        (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
        (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
        (r"^memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
        (r"\.dwconv\.", ".depthwise_conv."),
        (r"\.pwconv(\d)\.", r".pointwise_conv\1."),
        (r"\.gamma$", ".scale"),
        (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
        (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
        (r"^no_mem_embed$", "no_memory_embedding"),
        (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
        (r"^no_obj_ptr$", "no_object_pointer"),
        (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
    )
]


@dataclass(frozen=True)
class Trunk:
    """What the shapes of a file do not tell of its image encoder (Hiera), and how it is recognised.

    width    channels of the first stage; blocks of the four stages; global_blocks attend to the whole image
    windows  sides of the attention windows of the stages; background  size of the position table
    """

    width: int
    heads: int
    blocks: tuple[int, int, int, int]
    global_blocks: tuple[int, int, int]
    windows: tuple[int, int, int, int]
    background: int


TRUNKS = {
    "tiny": Trunk(96, 1, (1, 2, 7, 2), (5, 7, 9), (8, 4, 14, 7), 7),
    "small": Trunk(96, 1, (1, 2, 11, 2), (7, 10, 13), (8, 4, 14, 7), 7),
    "base_plus": Trunk(112, 2, (2, 3, 16, 3), (12, 16, 20), (8, 4, 14, 7), 14),
    "large": Trunk(144, 2, (2, 6, 36, 4), (23, 33, 43), (8, 4, 16, 8), 7),
}


def convert_sam2(path: str | Path, out: str | Path) -> str:
    """Write the weights of Meta's file as a folder of transformers; returns what it is, "SAM 2.1 tiny", say.

    The file is read without running anything in it. Raises InputError when it is no such file, when a key is missing
    or left over, and when the folder cannot be written.
    """
    from transformers import Sam2VideoModel

    original = read_original(path)
    config, name = recognise(original, path)
    weights = rename(original)
    require_fit(lambda: Sam2VideoModel(config), weights, path)
    write_folder(out, [config], weights, source=path, licence="apache-2.0", model=name)
    return name


def recognise(original: Mapping[str, Tensor], path: str | Path) -> tuple[Any, str]:
    """The network's config for these weights of Meta's, and its name. Raises InputError for any other weights."""
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig

    patches = original.get(f"{_TRUNK}patch_embed.proj.weight")
    found = [re.match(re.escape(_TRUNK) + r"blocks\.(\d+)\.", key) for key in original]
    blocks = max((int(match[1]) for match in found if match), default=-1) + 1
    kind = (0 if patches is None else patches.shape[0], blocks)
    size = next((name for name, trunk in TRUNKS.items() if (trunk.width, sum(trunk.blocks)) == kind), None)
    if size is None:
        raise InputError(f"{path} is no SAM 2 checkpoint: its image encoder has {kind[1]} blocks, width {kind[0]}")
    trunk, newer = TRUNKS[size], _NEW_IN_2_1 in original
    widths = [trunk.width * 2**stage for stage in range(4)]
    heads = [trunk.heads * 2**stage for stage in range(4)]
    backbone = Sam2HieraDetConfig(
        hidden_size=trunk.width,
        num_attention_heads=trunk.heads,
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=heads,
        blocks_per_stage=list(trunk.blocks),
        global_attention_blocks=list(trunk.global_blocks),
        window_size_per_stage=list(trunk.windows),
        window_positional_embedding_background_size=[trunk.background] * 2,
    )
    config = Sam2VideoConfig(
        vision_config=Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=widths[::-1]),
        enable_temporal_pos_encoding_for_object_pointers=newer,
        enable_occlusion_spatial_embedding=newer,
    )
    return config, f"SAM {'2.1' if newer else '2'} {size.replace('_plus', '+')}"


def rename(original: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Meta's weights under transformers' names. Unknown keys keep theirs, to be refused by name afterwards."""
    weights = {_rename(key): value for key, value in original.items()}
    points = [weights.pop(_POINTS.format(kind), None) for kind in range(4)]
    kinds = [value for value in points if value is not None]
    if len(kinds) == 4:
        weights["prompt_encoder.point_embed.weight"] = torch.cat(kinds)
    positions = weights.get("prompt_encoder.shared_embedding.positional_embedding")
    if positions is not None:  # stored twice
        weights["shared_image_embedding.positional_embedding"] = positions.clone()
    return weights


def _rename(key: str) -> str:
    for pattern, name in _RULES:
        key = pattern.sub(name, key)
    stem = _STEM.match(key)
    if stem is None:
        return key
    place = int(stem[1])
    part = "conv" if place % 3 == 0 else "layer_norm"
    where = "final_conv" if place == _LAST_STEM else f"layers.{place // 3}.{part}"
    return f"memory_encoder.mask_downsampler.{where}.{key[stem.end() :]}"
