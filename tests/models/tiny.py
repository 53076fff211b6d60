"""A network small enough to run in milliseconds, with every switch at hand."""

from __future__ import annotations

import torch

from models.backbone import BackboneConfig
from models.segmenter import Segmenter, SegmenterConfig
from models.text_encoder import ROBERTA_BASE, TextEncoderConfig
from util.types import TextFeatures

ROBERTA = ROBERTA_BASE | {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}
SIZES = dict(hidden_dim=64, heads=4, encoder_layers=1, decoder_layers=2, feedforward=32, points=2)


def build(*, dropout: float = 0.0, **changes) -> Segmenter:
    """An evaluation-mode network with random, seeded weights (gates opened, so that switches show)."""
    torch.manual_seed(1)
    text = TextEncoderConfig(arch=ROBERTA | {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout})
    fields = dict(backbone=BackboneConfig("tiny"), text=text, dropout=dropout, cross_modal_dropout=dropout, **SIZES)
    model = Segmenter(SegmenterConfig(**(fields | changes)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() <= 1 or "bbox_embed" in name:
                parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def words(model: Segmenter, batch: int, expressions: int, seed: int = 0) -> TextFeatures:
    """Features of random sentences of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    rows = batch * expressions
    ids = torch.randint(5, 60, (rows, 8), generator=generator)
    mask = torch.arange(8) < torch.randint(4, 9, (rows, 1), generator=generator)
    return model.encode_tokens(torch.where(mask, ids, 1), mask.long(), batch)
