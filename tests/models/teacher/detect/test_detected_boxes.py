"""Boxes after a detector: overlap, suppression, nouns that share a thing, tiles, and detection on tiles."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou as torchvision_iou
from torchvision.ops import nms as torchvision_nms

from models.teacher.detect.boxes import box_iou, clip_box, merge_nouns, suppress, tiles
from models.teacher.detect.sliced import SlicedDetector
from models.teacher.interfaces import Detection, ModelInfo
from util.types import Box


def random_detections(seed: int, count: int = 60) -> list[Detection]:
    """Overlapping boxes in 100 x 100 pixels, of two nouns; scores differ."""
    random = np.random.default_rng(seed)
    corner_N2, size_N2 = random.uniform(0, 60, (count, 2)), random.uniform(10, 40, (count, 2))
    boxes_N4 = np.concatenate([corner_N2, corner_N2 + size_N2], axis=1)
    scores = random.permutation(count) / count
    return [
        Detection(tuple(map(float, box)), float(score), "dog" if index % 2 else "cat")
        for index, (box, score) in enumerate(zip(boxes_N4, scores, strict=True))
    ]


def test_overlap_is_torchvisions_and_empty_boxes_overlap_nothing() -> None:
    boxes_N4 = np.asarray([found.box for found in random_detections(0)])
    expected = torchvision_iou(torch.from_numpy(boxes_N4), torch.from_numpy(boxes_N4)).numpy()
    np.testing.assert_allclose(box_iou(boxes_N4, boxes_N4), expected, atol=1e-12)
    empty = np.asarray([[5.0, 5.0, 5.0, 9.0]])
    assert box_iou(empty, empty).tolist() == [[0.0]]


@pytest.mark.parametrize("iou", [0.3, 0.7])
def test_suppression_within_a_noun_is_torchvisions(iou: float) -> None:
    found = random_detections(1)
    kept = suppress(found, iou)
    expected = set()
    for noun in ("dog", "cat"):
        of_noun = [detection for detection in found if detection.noun == noun]
        boxes = torch.tensor([detection.box for detection in of_noun])
        scores = torch.tensor([detection.score for detection in of_noun])
        expected |= {of_noun[index] for index in torchvision_nms(boxes, scores, iou).tolist()}
    assert set(kept) == expected and len(kept) < len(found)
    assert [detection.score for detection in kept] == sorted((d.score for d in kept), reverse=True)
    assert suppress([], iou) == []


def test_a_thing_found_under_two_nouns_is_one_thing_with_both_scores() -> None:
    dog = Detection((10.0, 10.0, 50.0, 50.0), 0.6, "dog")
    animal = Detection((11.0, 10.0, 50.0, 50.0), 0.8, "animal")
    again = Detection((10.0, 11.0, 50.0, 50.0), 0.3, "dog")
    other = Detection((60.0, 10.0, 90.0, 50.0), 0.7, "dog")
    merged = merge_nouns([dog, again, animal, other], 0.8)
    assert [candidate.best for candidate in merged] == [animal, other]
    assert merged[0].noun_scores == {"animal": 0.8, "dog": 0.6}


def test_clipping_keeps_what_is_inside() -> None:
    assert clip_box((-5, 2, 30, 99), 20, 25) == (0.0, 2.0, 25.0, 20.0)
    assert clip_box((30, 2, 40, 9), 20, 25) is None
    assert clip_box((24.5, 2, 40, 9), 20, 25) is None
    assert clip_box((float("nan"), 0, 1, 1), 20, 25) is None


@pytest.mark.parametrize(("height", "width"), [(100, 100), (101, 250), (480, 480), (1080, 1920), (50, 1000)])
def test_tiles_cover_the_frame_and_share_their_overlap(height: int, width: int) -> None:
    size, overlap = 100, 0.2
    covered_HW = np.zeros((height, width), int)
    for left, top, right, bottom in (pieces := tiles(height, width, size, overlap)):
        assert (right - left, bottom - top) == (min(size, width), min(size, height))
        covered_HW[top:bottom, left:right] += 1
    assert covered_HW.min() == 1
    rows = sorted({top for _, top, _, _ in pieces})
    assert all(second - first <= size * (1 - overlap) for first, second in pairwise(rows))


class Blobs:
    """A detector that sees things of `least` pixels or more, as the box of all pixels of their colour.

    A piece of a thing is a thing to it, as to a real one.
    """

    info = ModelInfo("blobs", "test", None, "none")

    def __init__(self, least: float) -> None:
        self.least = least

    def detect(self, image_HW3: np.ndarray, nouns: Sequence[str]) -> list[Detection]:
        found = []
        for value in sorted(set(image_HW3[..., 0].ravel().tolist()) - {0}):
            rows, columns = np.nonzero(image_HW3[..., 0] == value)
            box: Box = (columns.min(), rows.min(), columns.max() + 1.0, rows.max() + 1.0)
            # what a frame is shrunk to before it is seen decides how large a thing must be
            if (box[2] - box[0]) / max(image_HW3.shape[:2]) >= self.least:
                found.append(Detection(tuple(map(float, box)), 0.5 + value / 1000, nouns[0]))
        return found


def test_tiles_find_small_things_once_and_report_no_pieces() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    things = {1: (10, 20, 22, 34), 2: (95, 90, 108, 104), 3: (60, 10, 290, 80), 4: (285, 185, 300, 200)}
    for value, (left, top, right, bottom) in things.items():
        image[top:bottom, left:right] = value
    detector = Blobs(least=0.1)
    assert {d.box for d in detector.detect(image, ["thing"])} == {things[3]}
    found = SlicedDetector(detector, size=100, overlap=0.25).detect(image, ["thing"])
    assert sorted(d.box for d in found) == sorted(things.values())


def test_a_frame_of_one_tile_is_seen_once() -> None:
    image = np.zeros((90, 100, 3), np.uint8)
    image[10:40, 10:40] = 7
    calls = []

    class Counting(Blobs):
        def detect(self, image_HW3: np.ndarray, nouns: Sequence[str]) -> list[Detection]:
            calls.append(image_HW3.shape)
            return super().detect(image_HW3, nouns)

    assert len(SlicedDetector(Counting(0.1), size=100).detect(image, ["thing"])) == 1
    assert calls == [image.shape]
