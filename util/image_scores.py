"""Scores of sentences about single frames: A2D- and JHMDB-Sentences (masks), RefCOCO/+/g (boxes and masks).

Every pair of a sentence and a frame in which its answer is known is one image with one true mask; the prediction is a
list of detections, several of which may come from one network's queries. Source: ReferFormer's A2D evaluation with
pycocotools, and its RefCOCO evaluation. All numbers are 0..1.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from util import rle
from util.boxes import giou, masks_to_boxes
from util.errors import InputError
from util.scoring import Overlap, true_masks
from util.types import Box, Expression, ReferringVideo

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Detection:
    """One candidate for a sentence in a frame: score 0..1, run-length mask, xyxy box in pixels (None: the mask's)."""

    score: float
    mask: rle.RLE
    box: Box | None = None


@dataclass(frozen=True)
class ImageScore:
    """How well one sentence was answered in one frame, with the masks that COCO's evaluation needs.

    pixels  of the best detection's mask and the true one; box_giou  generalised IoU of their boxes
    """

    image: str
    video: str
    expression: str
    text: str
    type: str | None
    pixels: Overlap
    box_giou: float
    area: float
    truth: rle.RLE
    detections: tuple[Detection, ...]

    @property
    def iou(self) -> float:
        return self.pixels.iou


def asked_frames(video: ReferringVideo) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(index, truth bool [E, H, W], known bool [E]) of the frames in which some sentence's answer is known."""
    indices = range(len(video.frames)) if video.labelled is None else video.labelled
    found = ((index, *true_masks(video, index)) for index in indices)
    return [(index, truth, known) for index, truth, known in found if known.any()]


def score_images(
    detect: Callable[[int, list[int]], Sequence[Sequence[Detection]]],
    video: ReferringVideo,
    image_id: Callable[[ReferringVideo, Expression, int], str],
) -> list[ImageScore]:
    """Scores of all sentences of a video in the frames in which they are known.

    `detect(frame, sentences)` gives the detections of those sentences (by index) in frame `frame`; `image_id` the name
    of the image. Raises InputError when the truth is not there, or a mask has another size.
    """
    scores = []
    for index, truth_EHW, known_E in asked_frames(video):
        asked = np.flatnonzero(known_E).tolist()
        for e, detections in zip(asked, detect(index, asked), strict=True):
            image = image_id(video, video.expressions[e], index)
            scores.append(_score(image, video, video.expressions[e], truth_EHW[e], tuple(detections)))
    return scores


def _score(
    image: str, video: ReferringVideo, expression: Expression, truth: np.ndarray, detections: tuple[Detection, ...]
) -> ImageScore:
    best = best_of(detections)
    mask = np.zeros_like(truth) if best is None else rle.decode(best.mask)
    if mask.shape != truth.shape:
        raise InputError(f"image {image}: the predicted mask is {mask.shape} and the true one {truth.shape}; fix it")
    counts = (np.count_nonzero(mask & truth), np.count_nonzero(mask), np.count_nonzero(truth))
    predicted = _box(mask) if best is None or best.box is None else torch.tensor(best.box)
    given = [video.boxes[i] for i in expression.object_ids or () if video.boxes is not None and i in video.boxes]
    wanted = torch.tensor(given[0]) if given else _box(truth)
    return ImageScore(
        image, video.id, expression.id, expression.text, expression.type, Overlap(*map(int, counts)),
        float(giou(predicted, wanted)), counts[2] / truth.size, rle.encode(truth), detections,
    )  # fmt: skip


def best_of(detections: Sequence[Detection]) -> Detection | None:
    """The detection with the highest score, the last of equals (as a stable sort has it); None when there are none."""
    return max(reversed(detections), key=lambda detection: detection.score, default=None)


def summarise_images(scores: Sequence[ImageScore], kind: Literal["masks", "boxes"]) -> dict[str, Any]:
    """Numbers over all images.

    masks  `mAP published` over all detections and `mAP corrected` over the best of each image (spec D2), with `AP50`
           and `AP75` of both; `P@0.5` to `P@0.9`: images whose IoU is above it
    boxes  `P@0.5`: images whose box's generalised IoU is at least 0.5, as published, and `P@0.5 IoU` of the masks
    Both have `overall IoU` (sum of intersections / sum of unions) and `mean IoU`. Raises InputError without images.
    """
    if not scores:
        raise InputError("nothing was scored; check the split's name and --limit")
    ious = np.array([score.iou for score in scores])
    union = sum(score.pixels.predicted + score.pixels.true - score.pixels.both for score in scores)
    shared = {
        "overall IoU": sum(score.pixels.both for score in scores) / union if union else 1.0,
        "mean IoU": float(ious.mean()),
        "images": len(scores),
        "videos": len({score.video for score in scores}),
    }
    if kind == "boxes":
        boxes = np.array([score.box_giou for score in scores])
        return {"P@0.5": float((boxes >= 0.5).mean()), "P@0.5 masks": float((ious > 0.5).mean()), **shared}
    precision = {f"P@{bound}": float((ious > bound).mean()) for bound in THRESHOLDS}
    return {**_both_maps(scores), **precision, **shared}


def _both_maps(scores: Sequence[ImageScore]) -> dict[str, float | None]:
    best = [[one] if (one := best_of(score.detections)) else [] for score in scores]
    found: dict[str, float | None] = {}
    for name, detections in (("published", [score.detections for score in scores]), ("corrected", best)):
        numbers = coco_map([score.truth for score in scores], detections)
        found |= {f"{number} {name}": value for number, value in numbers.items()}
    return found


def coco_map(truths: Sequence[rle.RLE], detections: Sequence[Sequence[Detection]]) -> dict[str, float | None]:
    """COCO's mask AP over images with one true mask each: `mAP` (.5:.95), `AP50`, `AP75`, `mAP small`, `medium`,
    `large` (None where no object has that size). Raises InputError where pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise InputError("COCO's mAP needs pycocotools; install it with: pip install pycocotools") from None
    truth, found = COCO(), COCO()
    images = [{"id": n, "height": mask["size"][0], "width": mask["size"][1]} for n, mask in enumerate(truths, 1)]
    annotations = [_annotation(n, n, mask) for n, mask in enumerate(truths, 1)]
    pairs = ((n, detection) for n, listed in enumerate(detections, 1) for detection in listed)
    results = [
        _annotation(place, n, detection.mask) | {"score": detection.score}
        for place, (n, detection) in enumerate(pairs, 1)
    ]
    for coco, listed in ((truth, annotations), (found, results)):
        coco.dataset = {"images": images, "annotations": listed, "categories": [{"id": 1, "name": "referent"}]}
        with redirect_stdout(io.StringIO()):
            coco.createIndex()
    evaluation = COCOeval(truth, found, "segm")
    evaluation.params.useCats = 0
    with redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("mAP", "AP50", "AP75", "mAP small", "mAP medium", "mAP large")
    return {name: float(x) if x >= 0 else None for name, x in zip(names, evaluation.stats[:6], strict=True)}


def _annotation(number: int, image: int, mask: rle.RLE) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "segmentation": mask,
            "area": rle.area(mask), "bbox": _box(rle.decode(mask)).tolist()}  # fmt: skip


def _box(mask: np.ndarray) -> torch.Tensor:
    return masks_to_boxes(torch.from_numpy(np.ascontiguousarray(mask)))


def detections_by_image(content: Any, where: str) -> dict[str, list[Detection]]:
    """COCO's results format: a list of {image_id, segmentation, score} and optionally `bbox` (x, y, width, height).

    Raises InputError, naming `where`, for anything else.
    """
    found: dict[str, list[Detection]] = {}
    for number, entry in enumerate(content if isinstance(content, list) else [content]):
        try:
            mask, score = entry["segmentation"], float(entry["score"])
            rle.area(mask)
            x, y, width, height = map(float, entry.get("bbox", (0, 0, 0, 0)))
        except (InputError, TypeError, KeyError, ValueError, AttributeError) as error:
            raise InputError(
                f"{where}: entry {number} is not a detection ({error}); expected image_id, segmentation and score"
            ) from None
        box = (x, y, x + width, y + height) if "bbox" in entry else None
        found.setdefault(str(entry.get("image_id")), []).append(Detection(score, mask, box))
    return found


def coco_results(scores: Iterable[ImageScore]) -> list[dict[str, Any]]:
    """All detections in COCO's results format, which `detections_by_image` reads."""
    return [
        {"image_id": score.image, "category_id": 1, "segmentation": detection.mask, "score": detection.score}
        | ({} if detection.box is None else {"bbox": _xywh(detection.box)})
        for score in scores for detection in score.detections
    ]  # fmt: skip


def _xywh(box: Box) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]
