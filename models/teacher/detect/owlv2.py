"""OWLv2 through transformers: every noun is compared with every patch on its own, so all go through in one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoProcessor, Owlv2ForObjectDetection

from models.teacher.detect.boxes import clip_box, sort_by_score, suppress
from models.teacher.detect.phrases import clean_phrase
from models.teacher.interfaces import Detection, ModelInfo
from models.teacher.loading import load_pretrained, load_processor
from util.boxes import cxcywh_to_xyxy
from util.errors import InputError

OWLV2 = "google/owlv2-base-patch16-ensemble"


class Owlv2:
    """A `Detector`; `source` is a hub id or a folder.

    threshold  least probability; iou  above which two boxes of one noun are one
    template   the sentence that a noun is asked in
    """

    def __init__(
        self,
        source: str | Path = OWLV2,
        *,
        device: str | torch.device = "cpu",
        threshold: float = 0.2,
        iou: float = 0.7,
        template: str = "a photo of a {}",
    ) -> None:
        self.model, folder, self._info = load_pretrained(
            source, Owlv2ForObjectDetection, backend="owlv2", device=device, expected=(r"position_ids$",)
        )
        self.processor = load_processor(folder, AutoProcessor)
        self.threshold, self.iou, self.template = threshold, iou, template

    @property
    def info(self) -> ModelInfo:
        return self._info

    @torch.inference_mode()
    def detect(self, image_HW3: np.ndarray, nouns: Sequence[str]) -> list[Detection]:
        """Boxes of every noun, the most certain first. Raises InputError for a noun without a word or too long."""
        if not nouns:
            return []
        height, width = image_HW3.shape[:2]
        prompts = [self.template.format(clean_phrase(noun)) for noun in nouns]
        text = self.processor.tokenizer(prompts, padding="max_length", return_tensors="pt")
        limit = self.model.config.text_config.max_position_embeddings
        for prompt, mask in zip(prompts, text["attention_mask"], strict=True):
            if mask.sum() > limit:
                raise InputError(f"{prompt[:40]!a} has {int(mask.sum())} tokens and OWLv2 reads {limit}; shorten it")
        pixels = self.processor.image_processor(
            images=[image_HW3], return_tensors="pt", input_data_format="channels_last"
        )
        output = self.model(**text.to(self.model.device), **pixels.to(self.model.device))
        scores_QN = output.logits[0].float().sigmoid().cpu().numpy()
        # The image was padded to a square at its right or bottom; boxes are fractions of that.
        boxes_Q4 = cxcywh_to_xyxy(output.pred_boxes[0].double()).cpu().numpy() * max(height, width)
        found = []
        for query, place in np.argwhere(scores_QN > self.threshold):
            box = clip_box(boxes_Q4[query], height, width)
            if box is not None:
                found.append(Detection(box, float(scores_QN[query, place]), nouns[place], prompts[place]))
        return sort_by_score(suppress(found, self.iou))
