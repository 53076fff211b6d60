"""A vision-language model as a matcher: numbered outlines in several frames, and a question to answer with yes or no.

All frames go into one question, so a movement can be told. For every track "Is object 3 ...?" is asked, and its score
is P(yes) / (P(yes) + P(no)) of the answer's first token, all spellings of either word together. Beside that, the model
is asked which numbers are meant, and a track's score is drawn to 1 or 0 by a third: the list, which compares tracks,
tips what yes and no leave open, and does not overturn what they are sure of. A list that cannot be read has no vote.
Numbers are dealt at random, twice, and the scores averaged, since some models like some numbers. Once for each sentence
it is asked whether the thing is there at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from models.teacher.interfaces import MatchScores, ModelInfo, Question
from models.teacher.loading import load_pretrained, load_processor
from util.drawing import colour_of, outline, text_width, write
from util.errors import InputError

QWEN = "Qwen/Qwen2.5-VL-7B-Instruct"
MOST = 12  # marks in an image; more are asked about in several rounds
NUMBERINGS = 2
LIST = 1 / 3  # weight of the list against yes and no
TOKENS = 5  # that a number in a list may take, such as "object 12 and"

MARKED = (
    "These are {frames} frames of one video, in order. Objects are outlined and numbered; a number stays with its "
    'object. Is object {number} "{text}"? Answer yes or no.'
)
LISTED = (
    "These are {frames} frames of one video, in order. Objects are outlined and numbered from 1 to {count}; a number "
    'stays with its object. Which of them are "{text}"? Answer with their numbers alone, or with none.'
)
PRESENT = 'These are {frames} frames of one video, in order. Is there "{text}" in it? Answer yes or no.'


class MarksMatcher:
    """A `Matcher`; `source` is a hub id or a folder of a model that answers questions about several images."""

    def __init__(self, source: str | Path = QWEN, *, device: str | torch.device = "cpu") -> None:
        """Raises InputError where the model's words have no yes or no."""
        self.model, folder, self._info = load_pretrained(
            source, AutoModelForImageTextToText, backend="vlm_marks", device=device
        )
        self.processor = load_processor(folder, AutoProcessor)
        self.yes, self.no = (answer_tokens(self.processor.tokenizer, word) for word in ("yes", "no"))
        if not self.yes or not self.no:
            raise InputError(f"the words of {source} have no yes and no as one token each; name another model")

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def sees_motion(self) -> bool:
        return True

    def score(self, question: Question) -> MatchScores:
        """One judgement of all frames, noted in each frame that shows the track."""
        said, images, tracks, expressions = question.unjudged(), question.images, question.tracks, question.expressions
        plain = [images[frame] for frame in images]
        said.absent_E[:] = [1 - self.agrees(plain, PRESENT.format(frames=len(plain), text=p.text)) for p in expressions]
        seen_NF = question.seen_NF
        rounds_ENR = np.full((len(expressions), len(tracks), NUMBERINGS), np.nan)
        draw = np.random.default_rng(0)
        for dealt in range(NUMBERINGS):
            order = [int(n) for n in draw.permutation(np.flatnonzero(seen_NF.any(1)))]
            for start in range(0, len(order), MOST):
                chunk = order[start : start + MOST]
                pictures = [mark(image, [tracks[n].mask(frame) for n in chunk]) for frame, image in images.items()]
                for e, parsed in enumerate(expressions):
                    rounds_ENR[e, chunk, dealt] = self.judge(pictures, parsed.text, len(chunk))
        for n in range(len(tracks)):
            said.scores_ENF[:, n, seen_NF[n]] = rounds_ENR[:, n].mean(-1, keepdims=True)
        return said

    def judge(self, pictures: Sequence[np.ndarray], text: str, count: int) -> np.ndarray:
        """How well each of the objects that are numbered 1 to `count` fits the sentence, 0..1 [count]."""
        numbers = range(1, count + 1)
        asked = [MARKED.format(frames=len(pictures), number=number, text=text) for number in numbers]
        agreed = np.array([self.agrees(pictures, question) for question in asked])
        answer = self.answers(pictures, LISTED.format(frames=len(pictures), count=count, text=text), TOKENS * count)
        listed = read_numbers(answer, count)
        if listed is None:
            return agreed
        return (1 - LIST) * agreed + LIST * np.isin(numbers, list(listed))

    @torch.inference_mode()
    def agrees(self, pictures: Sequence[np.ndarray], question: str) -> float:
        """P(yes) / (P(yes) + P(no)) of the first token of the answer."""
        chances = self.model(**self._inputs(pictures, question)).logits[0, -1].double().softmax(-1)
        yes, no = float(chances[self.yes].sum()), float(chances[self.no].sum())
        return yes / (yes + no) if yes + no else 0.5

    @torch.inference_mode()
    def answers(self, pictures: Sequence[np.ndarray], question: str, tokens: int) -> str:
        """The model's most probable answer; "" where it does not come to an end within so many tokens."""
        inputs = self._inputs(pictures, question)
        ends = self._ends
        written = self.model.generate(**inputs, max_new_tokens=tokens, do_sample=False, pad_token_id=ends[0])
        answer = written[0, inputs["input_ids"].shape[1] :]
        if int(answer[-1]) not in ends:
            return ""
        return str(self.processor.tokenizer.decode(answer, skip_special_tokens=True))

    @property
    def _ends(self) -> list[int]:
        """Tokens that end an answer."""
        ends = self.model.generation_config.eos_token_id
        return [self.processor.tokenizer.eos_token_id] if ends is None else [ends] if isinstance(ends, int) else ends

    def _inputs(self, pictures: Sequence[np.ndarray], question: str) -> Any:
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": question}]
        prompt = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        return self.processor(text=[prompt], images=list(pictures), return_tensors="pt").to(self.model.device)


def read_numbers(answer: str, count: int) -> frozenset[int] | None:
    """The numbers of 1 to `count` that an answer lists, maybe none; None where it says neither or something else."""
    numbers = frozenset(int(number) for number in re.findall(r"\d+", answer))
    none = re.search(r"\bnone\b", answer, re.IGNORECASE) is not None
    if none == bool(numbers) or not numbers <= frozenset(range(1, count + 1)):
        return None
    return numbers


def answer_tokens(tokenizer: object, word: str) -> list[int]:
    """Ids of the tokens that spell `word` alone, in any case and with or without a space before it."""
    found = set()
    for spelled in (word, word.capitalize(), word.upper()):
        for text in (spelled, f" {spelled}"):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[operator]
            if len(ids) == 1 and tokenizer.decode(ids).strip().lower() == word:  # type: ignore[attr-defined]
                found.add(int(ids[0]))
    return sorted(found)


def mark(image_HW3: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """The image with every mask outlined and numbered from 1, at the point farthest from its border."""
    marked = image_HW3.copy()
    for number, mask in enumerate(masks, 1):
        outline(marked, mask, colour_of(number - 1))
    height = max(8, min(marked.shape[:2]) // 20)
    for number, mask in enumerate(masks, 1):
        if mask.any():
            depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
            y, x = np.unravel_index(int(depth.argmax()), depth.shape)
            width = text_width(str(number), height)
            left, top = max(0, int(x) - width // 2), max(0, int(y) - height // 2)
            marked[max(0, top - 2) : top + height + 2, max(0, left - 2) : left + width + 2] = 0  # a plate to read it on
            write(marked, str(number), left, top, height, (255, 255, 255))
    return marked
