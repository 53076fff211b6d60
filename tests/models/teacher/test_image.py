"""One image: things once each, the JSON of Grounded SAM 2 with our scores, and files that say so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.teacher.detect.florence_answers import Region
from models.teacher.image import (
    Thing,
    describe_image,
    made_by,
    read_image,
    segment_image,
    segment_regions,
    write_image,
)
from models.teacher.interfaces import Detection, ModelInfo, ObjectFrame, Prompt
from util import rle
from util.errors import InputError
from util.types import FrameSource

IMAGE = np.random.RandomState(0).randint(0, 255, (60, 80, 3), dtype=np.uint8)
INFO = ModelInfo("told", "test", None, "none")


class Told:
    """A detector that finds what it was told to."""

    info = INFO

    def __init__(self, found: Sequence[Detection]) -> None:
        self.found = list(found)

    def detect(self, image_HW3: np.ndarray, nouns: Sequence[str]) -> list[Detection]:
        return [detection for detection in self.found if detection.noun in nouns]


class Boxes:
    """A segmenter whose masks are its boxes; it holds at most one object at a time, as a large image needs."""

    info = INFO

    def __init__(self, predicted_iou: float = 0.75) -> None:
        self.predicted_iou = predicted_iou
        self.held: set[int] = set()
        self.closed = 0

    def open(self, frames: FrameSource) -> Boxes:
        assert len(frames) == 1
        self.size = frames.size
        return self

    def add(self, object_id: int, prompt: Prompt) -> ObjectFrame:
        assert prompt.box is not None and not self.held
        self.held.add(object_id)
        mask_HW = np.zeros(self.size, bool)
        left, top, right, bottom = (round(value) for value in prompt.box)
        mask_HW[top:bottom, left:right] = True
        return ObjectFrame(mask_HW, 1.0, self.predicted_iou, 1.0)

    def step(self, object_id: int, frame: int, *, reverse: bool = False) -> ObjectFrame:
        raise AssertionError("an image has no next frame")

    def remove(self, object_id: int) -> None:
        self.held.remove(object_id)

    def close(self) -> None:
        self.closed += 1


DOG = Detection((10.0, 10.0, 40.0, 50.0), 0.6, "dog", "dog")
ANIMAL = Detection((10.0, 11.0, 40.0, 50.0), 0.5, "animal", "animal")
CAR = Detection((30.0, 20.0, 80.0, 60.0), 0.9, "car", "red car", (("red", 0.4), ("car", 0.9)))


def test_each_thing_is_cut_out_once_with_both_scores() -> None:
    segmenter = Boxes()
    things = segment_image(IMAGE, Told([DOG, ANIMAL, CAR]), ["dog", "animal", "car"], segmenter)
    assert [(thing.name, thing.score, thing.mask_score) for thing in things] == [("car", 0.9, 0.75), ("dog", 0.6, 0.75)]
    assert things[1].noun_scores == {"dog": 0.6, "animal": 0.5} and things[0].phrase == "red car"
    assert things[1].mask_HW.sum() == 30 * 40 and segmenter.closed == 1


@pytest.mark.parametrize("found", [[], [DOG], [DOG, CAR]], ids=["none", "one", "two"])
def test_the_json_reads_back_with_scores_that_are_numbers(found: list[Detection], tmp_path: Path) -> None:
    things = segment_image(IMAGE, Told(found), ["dog", "car"], Boxes())
    described = describe_image("a/b.jpg", (60, 80), things, made_by(INFO, INFO, threshold=0.4))
    paths = write_image(tmp_path, IMAGE, described, things)
    assert [path.name for path in paths] == ["annotations.json", "boxes.png", "overlay.png"]
    again = read_image(paths[0])
    assert again == json.loads(json.dumps(described))
    assert (again["img_width"], again["img_height"], again["box_format"]) == (80, 60, "xyxy")
    assert again["model"]["threshold"] == 0.4 and again["model"]["detector"]["backend"] == "told"
    assert len(again["annotations"]) == len(found)
    for annotation, thing in zip(again["annotations"], things, strict=True):
        assert annotation["class_name"] == thing.name and annotation["bbox"] == list(thing.box)
        assert annotation["score"] == thing.score and annotation["mask_score"] == 0.75
        assert annotation["token_scores"] == ([["red", 0.4], ["car", 0.9]] if thing.name == "car" else None)
        assert (rle.decode(annotation["segmentation"]) == thing.mask_HW).all()
    for path in paths[1:]:
        picture = cv2.imread(str(path))[..., ::-1]
        assert picture.shape == IMAGE.shape and (picture == IMAGE).all() == (not found)


def test_what_a_model_does_not_score_is_null() -> None:
    (thing,) = segment_regions(IMAGE, [Region("dog", DOG.box)], Boxes(float("nan")))
    text = json.dumps(describe_image("x", (60, 80), [thing], {}), allow_nan=False)
    assert json.loads(text)["annotations"][0]["score"] is None
    assert json.loads(text)["annotations"][0]["mask_score"] is None


def test_regions_keep_their_own_masks_and_names() -> None:
    triangle_P2 = np.array([[10.0, 10.0], [39.0, 10.0], [10.0, 49.0]])
    things = segment_regions(IMAGE, [Region("dog", DOG.box, (triangle_P2,)), Region("", CAR.box)], Boxes())
    assert [thing.name for thing in things] == ["dog", "region_1"]
    assert things[0].drawn_HW is not None and things[0].drawn_HW.sum() < things[0].mask_HW.sum()
    described = describe_image("x", (60, 80), things, {}, caption="a dog")
    assert described["caption"] == "a dog"
    assert [("drawn_segmentation" in found) for found in described["annotations"]] == [True, False]


def test_grounded_sam_2s_list_of_one_score_is_read(tmp_path: Path) -> None:
    thing = Thing("dog", DOG.box, 0.6, np.ones((60, 80), bool), 0.7)
    described = describe_image("x", (60, 80), [thing], {})
    described["annotations"][0]["score"] = [0.97]
    (tmp_path / "theirs.json").write_text(json.dumps(described))
    assert read_image(tmp_path / "theirs.json")["annotations"][0]["score"] == 0.97


@pytest.mark.parametrize("text", ["", "[]", '{"annotations": [{}]}', '{"annotations": [{"score": [], "x": 1}]}'])
def test_anything_else_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(InputError, match="annotations"):
        read_image(tmp_path / "bad.json")
