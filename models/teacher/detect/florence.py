"""Florence-2 through transformers: captions, regions, phrases and masks of one image, by a task's token.

It gives no scores: a `Detection` of its says 1, and the files that people read say null.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from transformers import AutoProcessor, Florence2ForConditionalGeneration

from models.teacher.detect.boxes import suppress
from models.teacher.detect.florence_answers import Region, Shape, location_tokens, plain_text, read_regions
from models.teacher.detect.phrases import clean_phrase
from models.teacher.interfaces import Detection, ModelInfo
from models.teacher.loading import load_pretrained, load_processor
from util.errors import InputError
from util.types import Box

FLORENCE_2 = "florence-community/Florence-2-large"

Needs = Literal["nothing", "text", "region"]
Detail = Literal["caption", "detailed_caption", "more_detailed_caption"]

# name -> what must be given beside the image, and what the answer holds; the token is the name in capitals
TASKS: dict[str, tuple[Needs, Shape]] = {
    "caption": ("nothing", "text"),
    "detailed_caption": ("nothing", "text"),
    "more_detailed_caption": ("nothing", "text"),
    "ocr": ("nothing", "text"),
    "ocr_with_region": ("nothing", "quads"),
    "od": ("nothing", "boxes"),
    "dense_region_caption": ("nothing", "boxes"),
    "region_proposal": ("nothing", "boxes"),
    "caption_to_phrase_grounding": ("text", "boxes"),
    "referring_expression_segmentation": ("text", "polygons"),
    "open_vocabulary_detection": ("text", "boxes or polygons"),
    "region_to_segmentation": ("region", "polygons"),
    "region_to_category": ("region", "text"),
    "region_to_description": ("region", "text"),
    "region_to_ocr": ("region", "text"),
}

# Captions name these and mean no thing that a box could hold
_NO_THINGS = frozenset(
    {"it", "its", "he", "him", "his", "she", "her", "they", "them", "their", "this", "that", "there", "which", "who"}
    | {"the image", "the picture", "the photo", "image", "picture", "photo", "the scene", "scene", "the background"}
)


@dataclass(frozen=True)
class Answer:
    """What was answered: `text` without its tokens, and the regions, in pixels, of tasks that have them."""

    task: str
    text: str
    regions: tuple[Region, ...]


class Florence2:
    """A `Detector` that also captions, reads and segments; `source` is a hub id or a folder.

    beams       of the search; max_tokens  of an answer
    iou         above which two boxes of one noun are one
    """

    def __init__(
        self,
        source: str | Path = FLORENCE_2,
        *,
        device: str | torch.device = "cpu",
        beams: int = 3,
        max_tokens: int = 1024,
        iou: float = 0.7,
    ) -> None:
        self.model, folder, self._info = load_pretrained(
            source, Florence2ForConditionalGeneration, backend="florence2", device=device
        )
        self.processor = load_processor(folder, AutoProcessor)
        self.beams, self.max_tokens, self.iou = beams, max_tokens, iou

    @property
    def info(self) -> ModelInfo:
        return self._info

    def detect(self, image_HW3: np.ndarray, nouns: Sequence[str]) -> list[Detection]:
        """Boxes of every noun, each asked on its own, all with score 1, in the order they were answered."""
        found = []
        for noun in nouns:
            answer = self.run(image_HW3, "open_vocabulary_detection", text=clean_phrase(noun))
            found += [Detection(region.box, 1.0, noun, region.label) for region in answer.regions]
        return suppress(found, self.iou)

    @torch.inference_mode()
    def run(self, image_HW3: np.ndarray, task: str, *, text: str = "", region: Box | None = None) -> Answer:
        """Do one of `TASKS`; `text` and `region` (xyxy in pixels) are what its row says that it needs.

        Raises InputError for an unknown task, for what is missing or too much, and for a text too long to read.
        """
        height, width = image_HW3.shape[:2]
        inputs = self.processor(
            images=[image_HW3],
            text=_prompt(task, text, None if region is None else location_tokens(region, height, width)),
            return_tensors="pt",
            input_data_format="channels_last",
        ).to(self.model.device)
        limit = self.model.config.text_config.max_position_embeddings
        if inputs["input_ids"].shape[1] > limit:
            raise InputError(
                f"the text {text[:40]!a}... makes {inputs['input_ids'].shape[1]} tokens with the image and Florence-2 "
                f"reads {limit}; shorten it"
            )
        written = self.model.generate(
            **inputs,
            max_new_tokens=min(self.max_tokens, limit - 1),
            num_beams=self.beams,
            do_sample=False,
            early_stopping=False,
        )
        answer = self.processor.tokenizer.decode(written[0], skip_special_tokens=False)
        return read_answer(task, answer, height, width)

    def ground_caption(self, image_HW3: np.ndarray, detail: Detail = "caption") -> tuple[str, Answer]:
        """Describe the image, then find every phrase of the description in it."""
        caption = self.run(image_HW3, detail).text
        if not caption:
            return caption, Answer("caption_to_phrase_grounding", "", ())
        return caption, self.run(image_HW3, "caption_to_phrase_grounding", text=caption)


def read_answer(task: str, answer: str, height: int, width: int) -> Answer:
    """What the tokens that were written for a task say of an image of this size."""
    shape = TASKS[task][1]
    regions = [] if shape == "text" else read_regions(answer, shape, height, width)
    if task == "caption_to_phrase_grounding":
        regions = [region for region in regions if region.label and region.label.lower() not in _NO_THINGS]
    return Answer(task, plain_text(answer), tuple(regions))


def _prompt(task: str, text: str, place: str | None) -> str:
    if task not in TASKS:
        raise InputError(f"Florence-2 has no task {task!r}; it has {', '.join(TASKS)}")
    needs = TASKS[task][0]
    text = " ".join(re.sub(r"[<>]", " ", text).split())  # a token spelled in it would be read as one
    if bool(text) != (needs == "text") or (place is not None) != (needs == "region"):
        raise InputError(f"Florence-2's task {task} needs {needs} beside the image, and nothing else")
    return f"<{task.upper()}>{text}{place or ''}"
