"""Tiny foundation models with random weights, built from their configs and saved as the folders the hub has.

BERT's delimiters must lie on the ids that Grounding DINO's code knows them by, or phrases never become blocks; and
freshly initialised networks hardly look at their input, so `shake` moves every weight.
"""

from __future__ import annotations

from pathlib import Path

import tokenizers
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertTokenizer,
    CLIPImageProcessor,
    CLIPTokenizer,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    GroundingDinoProcessor,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    Owlv2Processor,
    PreTrainedTokenizerFast,
    SwinConfig,
)

WORDS = (
    "a", "the", "red", "blue", "car", "cat", "dog", "person", "man", "left", "on", "in", "coat", "run", "##ning",
)  # fmt: skip
VOCABULARY = 1040
DELIMITERS = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}


@torch.no_grad()
def shake(model: nn.Module, seed: int, std: float) -> None:
    """Add noise of this deviation to every weight."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * std)


def bert_vocabulary() -> dict[str, int]:
    """Word pieces by id, as BertTokenizer takes them."""
    known = DELIMITERS | {200 + place: word for place, word in enumerate(WORDS)}
    return {known.get(number, f"[unused{number}]"): number for number in range(VOCABULARY)}


def grounding_dino_config() -> GroundingDinoConfig:
    """32 channels, one encoder and two decoder layers, 8 queries."""
    return GroundingDinoConfig(
        backbone_config=SwinConfig(
            embed_dim=8,
            depths=[1] * 4,
            num_heads=[1, 1, 2, 2],
            window_size=4,
            image_size=64,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
        ),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=8,
        encoder_n_points=2,
        decoder_n_points=2,
        max_text_len=32,
        disable_custom_kernels=True,
    )


def save_grounding_dino(folder: Path, *, mm: bool = False, seed: int = 0) -> Path:
    """A Grounding DINO, or an MM-Grounding-DINO, with its processor."""
    config = grounding_dino_config()
    torch.manual_seed(seed)
    if mm:
        shared = {
            name: value
            for name, value in config.to_dict().items()
            if name not in ("model_type", "architectures", "backbone_config", "text_config", "transformers_version")
        }
        model: nn.Module = MMGroundingDinoForObjectDetection(
            MMGroundingDinoConfig(backbone_config=config.backbone_config, text_config=config.text_config, **shared)
        )
    else:
        model = GroundingDinoForObjectDetection(config)
    shake(model, seed, 0.1)
    model.save_pretrained(folder)
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": 96, "longest_edge": 128})
    GroundingDinoProcessor(images, BertTokenizer(vocab=bert_vocabulary())).save_pretrained(folder)
    return folder


def save_owlv2(folder: Path, *, seed: int = 0) -> Path:
    """An OWLv2 of 16 channels for images of 64 pixels, with its processor."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["!", *letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Owlv2Config(
        # the end token must have the highest id: the model finds it by that
        text_config={
            **tower,
            "vocab_size": len(pieces),
            "max_position_embeddings": 32,
            "eos_token_id": len(pieces) - 1,
        },
        vision_config={**tower, "image_size": 64, "patch_size": 16},
        projection_dim=16,
    )
    torch.manual_seed(seed)
    model = Owlv2ForObjectDetection(config)
    shake(model, seed, 0.1)
    for last in (model.box_head.dense2, model.class_head.dense0):  # at random they drive every sigmoid to its end
        last.weight.data.mul_(0.03)
    model.save_pretrained(folder)
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], pad_token="!", model_max_length=32)
    Owlv2Processor(Owlv2ImageProcessor(size={"height": 64, "width": 64}), tokenizer).save_pretrained(folder)
    return folder


def save_florence(folder: Path, *, seed: int = 0) -> Path:
    """A Florence-2 of 32 channels for images of 64 pixels, which are 5 tokens; its words are bytes and locations."""
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(
        tokenizers.models.BPE({token: place for place, token in enumerate([*specials, *letters])}, [])
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )
    tokenizer.add_tokens([*(f"<loc_{place}>" for place in range(1000)), "<poly>", "</poly>", "<sep>"])
    stages = [1] * 4
    config = Florence2Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        is_encoder_decoder=True,
        vision_config={
            "depths": stages,
            "patch_size": [7, 3, 3, 3],
            "patch_stride": [4, 2, 2, 2],
            "patch_padding": [3, 1, 1, 1],
            "patch_prenorm": [False, True, True, True],
            "embed_dim": [8, 8, 16, 16],
            "num_heads": [1, 1, 2, 2],
            "num_groups": [1, 1, 2, 2],
            "window_size": 2,
            "projection_dim": 32,
            "max_temporal_embeddings": 4,
            "max_position_embeddings": 50,
        },
        text_config={
            "model_type": "bart",
            "vocab_size": len(tokenizer),
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "max_position_embeddings": 128,
            "bos_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 2,
            "forced_eos_token_id": 2,
        },
    )
    torch.manual_seed(seed)
    model = Florence2ForConditionalGeneration(config)
    shake(model, seed, 0.1)
    model.save_pretrained(folder)
    side = {"height": 64, "width": 64}
    images = CLIPImageProcessor(size=side, crop_size=side, do_center_crop=False, image_seq_length=5)
    Florence2Processor(images, tokenizer).save_pretrained(folder)
    return folder
