"""Tiny models of images and texts, and of texts alone, with random weights, saved as the folders the hub has."""

from __future__ import annotations

from pathlib import Path

import tokenizers
import torch
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from tests.models.teacher.tiny_models import shake

TOWER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SPECIAL = ["<pad>", "<end>", "<unk>"]
WORDS = "yes Yes no No the a is it red blue car dog cat left on object frames video answer there of two dogs"


def word_tokenizer(*special: str) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words; everything else is one unknown token each."""
    tokens = [*SPECIAL, *special, *WORDS.split()]
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({token: place for place, token in enumerate(tokens)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unk>",
        extra_special_tokens=list(special),
    )


def _save(folder: Path, model: nn.Module) -> None:
    shake(model, 0, 0.1)
    model.save_pretrained(folder)


def save_siglip(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = word_tokenizer()
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "projection_size": 16}
    _save(
        folder, SiglipModel(SiglipConfig(text_config=text, vision_config={**TOWER, "image_size": 32, "patch_size": 8}))
    )
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_clip(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = word_tokenizer()
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": 1, "bos_token_id": 2}
    vision = {**TOWER, "image_size": 32, "patch_size": 8}
    _save(folder, CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)))
    side = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_causal(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = word_tokenizer()
    _save(folder, LlamaForCausalLM(LlamaConfig(**TOWER, vocab_size=len(tokenizer), max_position_embeddings=1024)))
    tokenizer.save_pretrained(folder)
    return folder


TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
)


def save_qwen_vl(folder: Path) -> Path:
    torch.manual_seed(0)
    special = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = word_tokenizer(*special)
    start, end, image, video = tokenizer.convert_tokens_to_ids(list(special))
    text = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": len(tokenizer),
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4},
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32,
        "patch_size": 14, "spatial_merge_size": 2, "window_size": 56, "fullatt_block_indexes": [1],
    }  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, image_token_id=image, video_token_id=video,
        vision_start_token_id=start, vision_end_token_id=end,
    )  # fmt: skip
    _save(folder, Qwen2_5_VLForConditionalGeneration(config))
    images = Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=84 * 84)
    Qwen2_5_VLProcessor(images, tokenizer, Qwen2VLVideoProcessor(), chat_template=TEMPLATE).save_pretrained(folder)
    return folder
