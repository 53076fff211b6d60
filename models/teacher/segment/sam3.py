"""SAM 3's tracker through transformers: points, boxes and masks as in SAM 2, at 1008 pixels; never used unless named.

Its weights are gated and under Meta's SAM License, which restricts what they may be used for. The part of SAM 3 that
finds things by a phrase is not loaded.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from models.teacher.interfaces import ModelInfo
from models.teacher.loading import load_pretrained
from models.teacher.segment.model_frames import Scaling
from models.teacher.segment.network import NetworkSegmenter, SingleMaskPointer
from util.errors import InputError

try:
    from transformers import Sam3TrackerVideoInferenceSession, Sam3TrackerVideoModel
except ImportError as error:  # this file is imported only where SAM 3 was asked for
    raise InputError(
        "the installed transformers has no SAM 3; `pip install 'transformers>=5'`, or use the backend sam2"
    ) from error

BACKEND = "sam3"
DEFAULT = "facebook/sam3"
LICENCE = "SAM License"
SCALING = Scaling((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# Where a whole SAM 3, whose tracker reads the detector's image encoder, keeps what the tracker alone is made of.
# The library's own table does this for its own classes, and leaves classes derived from them out.
_PLACES = {
    r"detector_model\.vision_encoder\.backbone\.": "vision_encoder.backbone.",
    r"tracker_neck\.": "vision_encoder.neck.",
    r"tracker_model\.(.+)": r"\1",
}


class Sam3Network(SingleMaskPointer, Sam3TrackerVideoModel):
    """transformers' network, corrected."""


class Sam3Segmenter(NetworkSegmenter):
    """`VideoSegmenter` around the tracker of a SAM 3."""

    @classmethod
    def from_pretrained(cls, source: str | Path, device: str | torch.device = "cpu") -> Sam3Segmenter:
        """From a hub id or a folder of safetensors, of the whole SAM 3 or its tracker alone.

        Raises InputError unless it holds every weight of the tracker.
        """
        loaded = load_pretrained(source, Sam3Network, backend=BACKEND, device=device, key_mapping=_PLACES)
        return cls(loaded.model, replace(loaded.info, licence=LICENCE))  # also where a folder does not say it

    def __init__(self, network: Sam3Network, info: ModelInfo) -> None:
        super().__init__(network, info, Sam3TrackerVideoInferenceSession, SCALING)
