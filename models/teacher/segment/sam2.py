"""SAM 2 and 2.1 through transformers: the default segmenter."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Sam2VideoInferenceSession, Sam2VideoModel

from models.teacher.interfaces import ModelInfo
from models.teacher.loading import load_pretrained
from models.teacher.segment.network import NetworkSegmenter, SingleMaskPointer

BACKEND = "sam2"
DEFAULT = "facebook/sam2.1-hiera-large"


class Sam2Network(SingleMaskPointer, Sam2VideoModel):
    """transformers' network, corrected."""


class Sam2Segmenter(NetworkSegmenter):
    """`VideoSegmenter` around a SAM 2."""

    @classmethod
    def from_pretrained(cls, source: str | Path, device: str | torch.device = "cpu") -> Sam2Segmenter:
        """From a hub id or a folder of safetensors. Raises InputError unless it holds every weight and no other."""
        loaded = load_pretrained(source, Sam2Network, backend=BACKEND, device=device)
        return cls(loaded.model, loaded.info)

    def __init__(self, network: Sam2Network, info: ModelInfo) -> None:
        super().__init__(network, info, Sam2VideoInferenceSession)
