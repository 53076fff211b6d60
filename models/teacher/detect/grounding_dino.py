"""Grounding DINO and MM-Grounding-DINO through transformers: one phrase per prompt, scored on its head noun alone.

The model fires on every noun of its prompt ("a man in a blue coat": man and coat), so a query's score is its
probability on the tokens of the head noun and not the maximum over all tokens. The image's backbone, which reads no
text, runs once for all phrases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from models.teacher.detect.grounding import Grounding, GroundingDetector, read_grounding
from models.teacher.detect.phrases import clean_phrase
from models.teacher.detect.text_guard import check_text_positions
from models.teacher.loading import load_pretrained, load_processor
from util.boxes import cxcywh_to_xyxy
from util.errors import InputError

GROUNDING_DINO = "IDEA-Research/grounding-dino-tiny"
MM_GROUNDING_DINO = "openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det"

# Kept by the library for old files: constants that it computes itself, and a layer that nothing reads
_CONSTANTS = (r"position_ids$", r"relative_position_index$", r"text_backbone\.pooler\.", r"swin\.layernorm\.")


class GroundingDino(GroundingDetector):
    """A `GroundingDetector`; `source` is a hub id or a folder of either family."""

    def __init__(
        self,
        source: str | Path = GROUNDING_DINO,
        *,
        device: str | torch.device = "cpu",
        threshold: float = 0.25,
        text_threshold: float = 0.25,
        iou: float = 0.7,
    ) -> None:
        self.model, folder, info = load_pretrained(
            source,
            AutoModelForZeroShotObjectDetection,
            backend="grounding_dino",
            expected=_CONSTANTS,
            disable_custom_kernels=True,  # which would be fetched and compiled
        )
        family = self.model.config.model_type
        if family not in ("grounding-dino", "mm-grounding-dino"):
            raise InputError(f"{source} is a {family} and no Grounding DINO; name the backend that reads it")
        check_text_positions(self.model)
        named = replace(info, backend=family.replace("-", "_"))
        super().__init__(named, threshold=threshold, text_threshold=text_threshold, iou=iou)
        self.processor = load_processor(folder, AutoProcessor)
        self.backbone = self.model.model.backbone.conv_encoder = _Once(self.model.model.backbone.conv_encoder)
        self.model.to(device)

    @torch.inference_mode()
    def ground(
        self, image_HW3: np.ndarray, phrases: Sequence[str], heads: Sequence[str] | None = None
    ) -> list[Grounding]:
        device = self.model.device
        pixels = self._pixels(image_HW3).to(device)
        scale_4 = torch.tensor([image_HW3.shape[1], image_HW3.shape[0]] * 2, device=device)
        answers = []
        try:
            for asked, head in zip(phrases, heads or [""] * len(phrases), strict=True):
                phrase = clean_phrase(asked)
                text, offsets = self._tokens(phrase)
                output = self.model(**pixels, **{name: value.to(device) for name, value in text.items()})
                boxes_Q4 = cxcywh_to_xyxy(output.pred_boxes[0].float()) * scale_4
                answers.append(read_grounding(phrase, head, offsets, boxes_Q4, output.logits[0]))
        finally:
            self.backbone.forget()
        return answers

    def _tokens(self, phrase: str) -> tuple[dict[str, Tensor], list[tuple[int, int]]]:
        # Only a full stop makes a phrase a block whose tokens see each other.
        encoded = self.processor.tokenizer(f"{phrase}.", return_tensors="pt", return_offsets_mapping=True)
        offsets = [(int(begin), int(end)) for begin, end in encoded.pop("offset_mapping")[0]]
        if len(offsets) > self.model.config.max_text_len:
            raise InputError(
                f"the phrase {phrase[:40]!a}... has {len(offsets)} tokens and the model reads "
                f"{self.model.config.max_text_len}; shorten it"
            )
        return dict(encoded), offsets

    def _pixels(self, image_HW3: np.ndarray) -> Any:
        """`pixel_values` and `pixel_mask`.

        The model picks its queries among the tokens of all levels; raises InputError where the resized image has too
        few of them.
        """
        try:
            pixels = self.processor.image_processor(
                images=[image_HW3], return_tensors="pt", input_data_format="channels_last"
            )
            height, width = pixels["pixel_values"].shape[-2:]
        except ValueError:  # one side is resized to nothing
            pixels, height, width = None, 0, 0
        strides = [8 * 2**level for level in range(self.model.config.num_feature_levels)]
        tokens = sum(-(-height // stride) * -(-width // stride) for stride in strides)
        if tokens < self.model.config.num_queries:
            shape = "x".join(map(str, image_HW3.shape[1::-1]))
            raise InputError(f"an image of {shape} pixels is too long and thin for Grounding DINO; pad or crop it")
        return pixels


class _Once(nn.Module):
    """A backbone that answers the same image (the same tensors) from memory."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.forget()

    def forget(self) -> None:
        self.asked: tuple[Tensor, ...] = ()
        self.answer = None

    def forward(self, *image: Tensor) -> object:
        if len(image) != len(self.asked) or any(new is not old for new, old in zip(image, self.asked, strict=True)):
            self.asked, self.answer = image, self.backbone(*image)
        return self.answer
