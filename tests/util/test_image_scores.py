"""Scores of single frames: the official A2D numbers, best of equals, boxes, COCO's results format."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from util import rle
from util.errors import InputError
from util.image_scores import Detection, best_of, coco_results, detections_by_image, score_images, summarise_images
from util.types import PRESENT, Expression, ReferringVideo


class Video:
    """A still video of one object, labelled in frame 1 of 3."""

    fps = 1.0

    def __init__(self, truth: np.ndarray) -> None:
        self.truth, self.size = truth, truth.shape

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> np.ndarray:
        return np.zeros((*self.size, 3), np.uint8)

    def read(self, index: int, object_ids: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        assert index == 1, "only the labelled frame may be read"
        return self.truth[None].repeat(len(object_ids), 0), np.full(len(object_ids), PRESENT, np.int8)


def video(truth: np.ndarray, name: str = "v") -> ReferringVideo:
    source = Video(truth)
    return ReferringVideo(name, source, ("1", "2", "3"), (Expression("7", "it", (1,)),), source, (1,))


def square(left: int, width: int = 4) -> np.ndarray:
    mask = np.zeros((12, 40), bool)
    mask[2:6, left : left + width] = True
    return mask


def named(video: ReferringVideo, expression: Expression, index: int) -> str:
    return f"v_{video.id}_f_{index + 1}_i_{expression.id}"


def test_numbers_of_the_official_evaluator(oracles: Path) -> None:
    folder = oracles / "metrics" / "a2d_style"
    truth = json.loads((folder / "gt_coco.json").read_text())
    expected = json.loads((folder / "expected.json").read_text())["expected"]
    found = detections_by_image(json.loads((folder / "predictions.json").read_text()), "predictions.json")
    scores = [
        score
        for entry in truth["annotations"]
        for score in score_images(
            lambda frame, asked, image=entry["image_id"]: [found[image]],
            video(rle.decode(entry["segmentation"])),
            lambda *_, image=entry["image_id"]: image,
        )
    ]
    summary = summarise_images(scores, "masks")
    pairs = {"mAP published": "mAP 0.5:0.95", "AP50 published": "AP 0.5", "AP75 published": "AP 0.75",
             "mAP medium published": "AP 0.5:0.95 M", "mAP large published": "AP 0.5:0.95 L",
             "overall IoU": "overall_iou", "images": "n_images"}  # fmt: skip
    for ours, theirs in (pairs | {f"P@0.{n}": f"P@0.{n}" for n in range(5, 10)}).items():
        assert summary[ours] == pytest.approx(expected[theirs], abs=1e-9), ours
    assert summary["mean IoU"] == pytest.approx(expected["mean_iou"], abs=1e-6)  # theirs is float32 with an epsilon
    assert summary["mAP small published"] is None
    assert summary["mAP corrected"] < summary["mAP published"]


def test_the_best_detection_is_scored_and_bounds_are_strict() -> None:
    detections = [Detection(0.9, rle.encode(square(20))), Detection(0.9, rle.encode(square(4, 8)))]
    assert best_of(detections) is detections[1]  # the last of equals
    (score,) = score_images(lambda frame, asked: [detections], video(square(4)), named)
    assert (score.image, score.iou) == ("v_v_f_2_i_7", 0.5)
    summary = summarise_images([score], "masks")
    assert summary["P@0.5"] == 0  # 0.5 is not above 0.5
    assert summarise_images([score], "boxes")["P@0.5"] == 1  # but for boxes it is enough


def test_given_boxes_go_before_the_masks() -> None:
    box = (4.0, 2.0, 8.0, 6.0)
    detection = Detection(0.5, rle.encode(square(30)), box)
    (score,) = score_images(lambda frame, asked: [[detection]], video(square(4)), named)
    assert score.box_giou == pytest.approx(1)
    assert score.iou == 0
    annotated = replace(video(square(4)), boxes={1: (4.0, 2.0, 12.0, 6.0)})  # twice as wide as the mask
    (score,) = score_images(lambda frame, asked: [[detection]], annotated, named)
    assert score.box_giou == pytest.approx(0.5)


def test_nothing_found_is_empty_and_nothing_to_find_is_right() -> None:
    (lost,) = score_images(lambda frame, asked: [[]], video(square(4)), named)
    (right,) = score_images(lambda frame, asked: [[]], video(np.zeros((12, 40), bool)), named)
    assert (lost.iou, right.iou) == (0, 1)
    assert summarise_images([lost, right], "masks")["mean IoU"] == 0.5


def test_results_are_written_as_they_are_read() -> None:
    detection = Detection(0.25, rle.encode(square(4)), (4.0, 2.0, 8.0, 6.0))
    (score,) = score_images(lambda frame, asked: [[detection]], video(square(4)), named)
    assert detections_by_image(coco_results([score]), "x") == {"v_v_f_2_i_7": [detection]}
    for content in ({}, [1], [{"image_id": 1, "score": "high"}], [{"score": 1, "segmentation": {"size": [2, 2]}}]):
        with pytest.raises(InputError, match=r"results\.json: entry 0"):
            detections_by_image(content, "results.json")
    with pytest.raises(InputError, match="v_v_f_2_i_7"):
        wrong = [[Detection(1, rle.encode(np.zeros((3, 3))))]]
        score_images(lambda frame, asked: wrong, video(square(4)), named)
