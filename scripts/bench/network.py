"""The network that a benchmark measures: a checkpoint's, or one of published size with random weights (no download)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from models.backbone import BackboneConfig
from models.segmenter import Segmenter, SegmenterConfig
from models.text_encoder import ROBERTA_BASE, TextEncoderConfig, build_tokenizer, train_byte_level_tokenizer

VOCABULARY = 2000


def published_text() -> TextEncoderConfig:
    """RoBERTa-base by its architecture, so that nothing is fetched."""
    return TextEncoderConfig(arch=dict(ROBERTA_BASE))


def random_segmenter(backbone: str, tracking: Literal["none", "rgb", "feature"]) -> Segmenter:
    """ReferFormer's sizes on the given backbone; its tokenizer is a byte-level one learned on the spot."""
    text = published_text()
    config = SegmenterConfig(backbone=BackboneConfig(name=backbone), text=text, tracking=tracking)
    with tempfile.TemporaryDirectory() as folder:
        path = train_byte_level_tokenizer(sentences(), Path(folder) / "tokenizer.json", VOCABULARY)
        tokenizer = build_tokenizer(text, search=path.parent)
    return Segmenter(config, tokenizer=tokenizer).eval()


def sentences() -> list[str]:
    """Some hundred sentences of the synthetic world, the same every time."""
    videos = SyntheticVideos(SyntheticConfig(videos=40, frames=2, height=32, width=48))
    return [expression.text for video in videos for expression in video.expressions]
