"""The original Grounding DINO files (.pth, Swin-T and Swin-B) as a folder that transformers reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.teacher.convert.original import read_original, write_folder
from models.teacher.loading import load_processor
from util.errors import InputError
from util.hub import local_folder

BERT = "google-bert/bert-base-uncased"  # whose tokenizer the original code reads; the file holds no vocabulary
DELIMITERS = {"[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}  # by these ids both codes know where a phrase ends

_HEADS = 8  # of every attention but Swin's and BERT's; no shape tells it
_BERT_HEAD = 64  # channels of one head of BERT
_SWIN = "model.backbone.conv_encoder.model."
# Constants, computed anew, and the labels of a training trick (denoising) that neither code has at inference
_UNREAD = ("relative_position_index", "embeddings.position_ids", "label_enc.weight")

# Applied in this order, each wherever it fits.
_RULES = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^module\.", ""),
        (r"^bert\.", "model.text_backbone."),
        (r"^feat_map\.", "model.text_projection."),
        (r"^input_proj\.", "model.input_proj_vision."),
        (r"^backbone\.0\.patch_embed\.proj\.", f"{_SWIN}swin.embeddings.patch_embeddings.projection."),
        (r"^backbone\.0\.patch_embed\.norm\.", f"{_SWIN}swin.embeddings.norm."),
        (r"^backbone\.0\.layers\.", f"{_SWIN}swin.encoder.layers."),
        (r"(blocks\.\d+)\.norm1\.", r"\1.layernorm_before."),
        (r"(blocks\.\d+)\.norm2\.", r"\1.layernorm_after."),
        (r"(blocks\.\d+)\.attn\.proj\.", r"\1.attention.o_proj."),
        (r"attn\.relative_position_bias_table", "attention.relative_position_bias.relative_position_bias_table"),
        (r"^transformer\.tgt_embed\.", "model.query_position_embeddings."),
        (r"^transformer\.enc_out_bbox_embed\.", "model.encoder_output_bbox_embed."),
        (r"^transformer\.", "model."),
        (r"encoder\.text_layers\.(\d+)\.", r"encoder.layers.\1.text_enhancer_layer."),
        (r"encoder\.fusion_layers\.(\d+)\.", r"encoder.layers.\1.fusion_layer."),
        (r"model\.encoder\.layers\.(\d+)\.(?!text_enhancer|fusion)", r"model.encoder.layers.\1.deformable_layer."),
        (r"text_enhancer_layer\.norm1\.", "text_enhancer_layer.layer_norm_before."),
        (r"text_enhancer_layer\.norm2\.", "text_enhancer_layer.layer_norm_after."),
        (r"deformable_layer\.norm1\.", "deformable_layer.self_attn_layer_norm."),
        (r"deformable_layer\.norm2\.", "deformable_layer.final_layer_norm."),
        (r"gamma_v$", "vision_param"),
        (r"gamma_l$", "text_param"),
        (r"layer_norm_v\.", "layer_norm_vision."),
        (r"layer_norm_l\.", "layer_norm_text."),
        (r"fusion_layer\.attn\.(values_|out_)?v_proj\.", r"fusion_layer.attn.\1vision_proj."),
        (r"fusion_layer\.attn\.(values_|out_)?l_proj\.", r"fusion_layer.attn.\1text_proj."),
        (r"decoder\.norm\.", "decoder.layer_norm."),
        (r"decoder\.ref_point_head\.", "decoder.reference_points_head."),
        (r"(decoder\.layers\.\d+)\.cross_attn\.", r"\1.encoder_attn."),
        (r"(decoder\.layers\.\d+)\.ca_text\.", r"\1.encoder_attn_text."),
        (r"(decoder\.layers\.\d+)\.norm1\.", r"\1.encoder_attn_layer_norm."),
        (r"(decoder\.layers\.\d+)\.catext_norm\.", r"\1.encoder_attn_text_layer_norm."),
        (r"(decoder\.layers\.\d+)\.norm2\.", r"\1.self_attn_layer_norm."),
        (r"(decoder\.layers\.\d+)\.norm3\.", r"\1.final_layer_norm."),
        (r"\.linear([12])\.", r".fc\1."),
    )
]
_STAGE_NORM = re.compile(r"^backbone\.0\.norm(\d)\.")  # Swin's stages count from 0 there, from 1 here
_FUSED = re.compile(r"(.*)\.(attn\.qkv|(?:self_attn|encoder_attn_text)\.in_proj)[._](weight|bias)$")


def convert_grounding_dino(path: str | Path, out: str | Path, *, tokenizer: str | Path = BERT) -> str:
    """Write the file's weights, and a processor with the words of `tokenizer`, as a folder; returns what it is.

    The file is read without running anything in it. Raises InputError when it is no such file, when a key is missing
    or left over, when the tokenizer is another one, and when the folder cannot be written.
    """
    from transformers import (
        AutoTokenizer,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
    )

    original = read_original(path)
    config, name = recognise(original, path)
    words = load_processor(tokenizer_folder(tokenizer, config, path), AutoTokenizer)
    model = GroundingDinoForObjectDetection(config)
    _fill(model, rename(original), path)
    processor = GroundingDinoProcessor(GroundingDinoImageProcessor(), words)
    write_folder(out, [model, processor], None, source=path, licence="apache-2.0", model=name)
    return name


def tokenizer_folder(tokenizer: str | Path, config: Any, path: str | Path) -> Path:
    """Where the tokenizer (hub id or folder) of the weights in `path` lies.

    Raises InputError where there is none, and for another than bert-base-uncased's.
    """
    from transformers import AutoTokenizer

    advice = "name a folder with the tokenizer of bert-base-uncased, or its hub id while online"
    folder = local_folder(str(tokenizer), ("*.json", "*.txt"), what="tokenizer", advice=advice)
    words = load_processor(folder, AutoTokenizer)
    ids = {token: words.convert_tokens_to_ids(token) for token in DELIMITERS}
    if ids != DELIMITERS or len(words) > config.text_config.vocab_size:
        raise InputError(f"{tokenizer} is not the tokenizer of {path}: it has {len(words)} words and {ids}; {advice}")
    return folder


def recognise(original: Mapping[str, Tensor], path: str | Path) -> tuple[Any, str]:
    """The network's config by the shapes of its weights, and its name. Raises InputError for any other weights."""
    from transformers import BertConfig, GroundingDinoConfig

    shapes = {key.removeprefix("module."): tuple(value.shape) for key, value in original.items()}
    try:
        width = shapes["backbone.0.patch_embed.proj.weight"][0]
        first = "backbone.0.layers.{}.blocks.0.attn.relative_position_bias_table"
        window = (round(shapes[first.format(0)][0] ** 0.5) + 1) // 2
        words, text_width = shapes["bert.embeddings.word_embeddings.weight"]
        swin = {
            "model_type": "swin",
            "embed_dim": width,
            "depths": [_count(shapes, rf"backbone\.0\.layers\.{stage}\.blocks\.(\d+)\.") for stage in range(4)],
            "num_heads": [shapes[first.format(stage)][1] for stage in range(4)],
            "window_size": window,
            "image_size": 32 * window,
            "out_features": ["stage2", "stage3", "stage4"],
        }
        config = GroundingDinoConfig(
            backbone_config=swin,
            text_config=BertConfig(
                vocab_size=words,
                hidden_size=text_width,
                num_hidden_layers=_count(shapes, r"bert\.encoder\.layer\.(\d+)\."),
                num_attention_heads=text_width // _BERT_HEAD,
                intermediate_size=shapes["bert.encoder.layer.0.intermediate.dense.weight"][0],
                max_position_embeddings=shapes["bert.embeddings.position_embeddings.weight"][0],
            ),
            num_queries=shapes["transformer.tgt_embed.weight"][0],
            d_model=shapes["transformer.level_embed"][1],
            num_feature_levels=(levels := shapes["transformer.level_embed"][0]),
            encoder_layers=_count(shapes, r"transformer\.encoder\.layers\.(\d+)\."),
            decoder_layers=_count(shapes, r"transformer\.decoder\.layers\.(\d+)\."),
            encoder_ffn_dim=shapes["transformer.encoder.layers.0.linear1.weight"][0],
            decoder_ffn_dim=shapes["transformer.decoder.layers.0.linear1.weight"][0],
            encoder_n_points=_points(shapes["transformer.encoder.layers.0.self_attn.sampling_offsets.bias"], levels),
            decoder_n_points=_points(shapes["transformer.decoder.layers.0.cross_attn.sampling_offsets.bias"], levels),
        )
    except KeyError as error:
        raise InputError(f"{path} is no Grounding DINO checkpoint: it has no {error.args[0]}") from None
    known = {(96, 7): "Swin-T", (128, 12): "Swin-B"}
    return config, f"Grounding DINO {known.get((width, window), f'Swin of width {width}')}"


def rename(original: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names of transformers' modules; fused projections are split in their three parts."""
    weights = {}
    for name, value in original.items():
        key = _STAGE_NORM.sub(
            lambda found: f"{_SWIN}hidden_states_norms.stage{int(found[1]) + 1}.", name.removeprefix("module.")
        )
        if key.endswith(_UNREAD):
            continue
        for pattern, new in _RULES:
            key = pattern.sub(new, key)
        fused = _FUSED.match(key)
        if fused is None:
            weights[key] = value
            continue
        if fused[2] == "attn.qkv":
            place, parts = f"{fused[1]}.attention", ("q_proj", "k_proj", "v_proj")
        else:
            place, parts = f"{fused[1]}.{fused[2].split('.')[0]}", ("query", "key", "value")
        for part, third in zip(parts, value.chunk(3), strict=True):
            weights[f"{place}.{part}.{fused[3]}"] = third.clone()
    return weights


@torch.no_grad()
def _fill(model: Any, weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Load strictly, but for two things that nothing reads: the last norm of Swin and the pooler of BERT."""
    named = {key: value for key, value in weights.items() if not key.startswith("model.text_backbone.pooler.")}
    unread = {key: value for key, value in model.state_dict().items() if f"{_SWIN}swin.layernorm." in key}
    try:
        model.load_state_dict({**unread, **named}, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:400]
        raise InputError(f"{path} was not converted; it does not fit Grounding DINO: {reason}") from error
    for key, value in model.state_dict().items():
        if not torch.isfinite(value).all() or (key in named and not torch.equal(value, named[key])):
            raise InputError(f"{path} is damaged: {key} is not finite, or differs from the copy that it shares")


def _count(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> int:
    numbers = [int(found[1]) for key in shapes if (found := re.match(pattern, key))]
    if not numbers:
        raise KeyError(pattern.replace("\\", ""))
    return max(numbers) + 1


def _points(offsets: tuple[int, ...], levels: int) -> int:
    return offsets[0] // (_HEADS * levels * 2)
