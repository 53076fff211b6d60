"""SigLIP 2 or CLIP as a matcher: how well a cut-out of a track fits the sentence, against the others and the frame.

Each track is shown in three ways, and the logits are averaged: a crop with 15 % of context, the same with what is
beside the mask blurred, and with the mask's outline drawn. A sentence's score of a track is

    softmax over {tracks, the frame as a whole} of the logits  *  sigmoid(logit)

the last factor only for models that were trained with it (SigLIP); for CLIP a logit alone says nothing. A frame is
judged on its own, so a movement is not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from models.teacher.interfaces import MatchScores, ModelInfo, Question
from models.teacher.loading import load_pretrained, load_processor
from util.errors import InputError
from util.types import Box

SIGLIP_2 = "google/siglip2-base-patch16-224"
CONTEXT = 0.15  # of the box's sides, around it
BLUR = 10.0  # the crop's longer side over the deviation of the blur
OUTLINE = (255, 0, 0)
BATCH = 32  # images encoded at a time
_CONSTANTS = (r"position_ids$",)


class RegionTextMatcher:
    """A `Matcher`; `source` is a hub id or a folder of a SigLIP, SigLIP 2 or CLIP."""

    def __init__(self, source: str | Path = SIGLIP_2, *, device: str | torch.device = "cpu") -> None:
        """Raises InputError for another kind of model."""
        self.model, folder, self._info = load_pretrained(
            source, AutoModel, backend="region_text", device=device, expected=_CONSTANTS
        )
        if not hasattr(self.model, "get_image_features") or not hasattr(self.model, "logit_scale"):
            raise InputError(f"{source} does not compare images with texts; name a SigLIP or a CLIP")
        self.images = load_processor(folder, AutoImageProcessor)
        self.tokenizer = load_processor(folder, AutoTokenizer)

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def sees_motion(self) -> bool:
        return False

    def score(self, question: Question) -> MatchScores:
        """NaN where a track is not seen; `absent` is not judged."""
        said = question.unjudged()
        texts = [parsed.text for parsed in question.expressions]
        for f, (frame, image) in enumerate(question.images.items() if texts else ()):
            shown = [(n, track.mask(frame)) for n, track in enumerate(question.tracks)]
            seen = [(n, mask) for n, mask in shown if mask.any()]
            if not seen:
                continue
            pictures = [picture for _, mask in seen for picture in views(image, mask)]
            logits_VE = self.logits([*pictures, image], texts)
            logits_NE = logits_VE[:-1].reshape(len(seen), -1, len(texts)).mean(1)
            said.scores_ENF[:, [n for n, _ in seen], f] = self._shares(logits_NE, logits_VE[-1]).T
        return said

    @torch.inference_mode()
    def logits(self, pictures: Sequence[np.ndarray], texts: Sequence[str]) -> np.ndarray:
        """How well each of V pictures (uint8 [h, w, 3]) fits each of E texts, float64 [V, E]."""
        device = self.model.device
        most = self.model.config.text_config.max_position_embeddings
        # SigLIP reads the last place of a text filled up to its full length
        words = self.tokenizer(
            list(texts), padding="max_length", max_length=most, truncation=True, return_tensors="pt"
        ).to(device)
        words = {name: words[name] for name in ("input_ids", "attention_mask") if name in words}
        if self._sigmoid:
            words.pop("attention_mask", None)
        rows = []
        for start in range(0, len(pictures), BATCH):
            pixels = self.images(
                images=list(pictures[start : start + BATCH]), return_tensors="pt", input_data_format="channels_last"
            ).to(device)
            rows.append(self.model(**pixels, **words).logits_per_image.double().cpu().numpy())
        return np.concatenate(rows)

    @property
    def _sigmoid(self) -> bool:
        return hasattr(self.model, "logit_bias")

    def _shares(self, logits_NE: np.ndarray, frame_E: np.ndarray) -> np.ndarray:
        every = np.concatenate([logits_NE, frame_E[None]])
        weights = np.exp(every - every.max(0))
        shares = (weights / weights.sum(0))[:-1]
        return shares / (1 + np.exp(-np.clip(logits_NE, -500, 500))) if self._sigmoid else shares


def views(image_HW3: np.ndarray, mask_HW: np.ndarray) -> list[np.ndarray]:
    """The three pictures of a mask: a crop, the same blurred beside the mask, and the same with its outline."""
    left, top, right, bottom = _around(mask_HW)
    crop = np.ascontiguousarray(image_HW3[top:bottom, left:right])
    inside = mask_HW[top:bottom, left:right]
    blurred = cv2.GaussianBlur(crop, (0, 0), max(crop.shape[:2]) / BLUR)
    outlined = crop.copy()
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(outlined, contours, -1, OUTLINE, max(1, round(max(crop.shape[:2]) / 100)))
    return [crop, np.where(inside[..., None], crop, blurred), outlined]


def _around(mask_HW: np.ndarray) -> tuple[int, int, int, int]:
    """The mask's box with its context, inside the image."""
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    box: Box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    across, down = round((box[2] - box[0]) * CONTEXT), round((box[3] - box[1]) * CONTEXT)
    height, width = mask_HW.shape
    return (
        int(max(box[0] - across, 0)), int(max(box[1] - down, 0)),
        int(min(box[2] + across, width)), int(min(box[3] + down, height)),
    )  # fmt: skip
