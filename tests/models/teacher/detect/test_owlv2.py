"""OWLv2: transformers' own boxes and probabilities, each noun by itself, boxes of images that are not square."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Owlv2ForObjectDetection, Owlv2Processor

from models.teacher.detect.owlv2 import Owlv2
from tests.models.teacher.tiny_models import save_owlv2
from util.errors import InputError

IMAGE = np.random.RandomState(0).randint(0, 255, (60, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_owlv2(tmp_path_factory.mktemp("owlv2"))


@pytest.fixture(scope="module")
def detector(folder: Path) -> Owlv2:
    return Owlv2(folder, threshold=0.0, iou=1.0)


def test_boxes_and_probabilities_are_transformers_own(folder: Path, detector: Owlv2) -> None:
    model, processor = Owlv2ForObjectDetection.from_pretrained(folder).eval(), Owlv2Processor.from_pretrained(folder)
    inputs = processor(images=IMAGE, text=[["a photo of a dog"]], return_tensors="pt")
    with torch.inference_mode():
        (expected,) = processor.post_process_grounded_object_detection(
            model(**inputs), threshold=0.0, target_sizes=[IMAGE.shape[:2]]
        )
    found = detector.detect(IMAGE, ["dog"])
    by_score = {round(found.score, 6): found.box for found in found}
    compared = 0
    for score, box in zip(expected["scores"].tolist(), expected["boxes"].numpy(), strict=True):
        inside = np.clip(box, 0, [80, 60, 80, 60])
        if (inside[2:] - inside[:2] >= 1).all():
            np.testing.assert_allclose(by_score[round(score, 6)], inside, rtol=1e-4, atol=1e-4)
            compared += 1
    assert compared == len(found) > 2


def test_nouns_together_are_nouns_alone(detector: Owlv2) -> None:
    nouns = ["dog", "red car", "man"]
    together = detector.detect(IMAGE, nouns)
    for noun in nouns:
        ours = [found for found in together if found.noun == noun]
        alone = detector.detect(IMAGE, [noun])
        assert len(ours) == len(alone) > 0
        for one, other in zip(ours, alone, strict=True):
            np.testing.assert_allclose([*one.box, one.score], [*other.box, other.score], rtol=1e-4, atol=1e-4)
    assert detector.detect(IMAGE, []) == []


def test_thresholds_and_refusals(folder: Path, detector: Owlv2) -> None:
    scores = sorted(found.score for found in detector.detect(IMAGE, ["dog"]))
    some = Owlv2(folder, threshold=scores[3], iou=1.0).detect(IMAGE, ["dog"])
    assert [found.score for found in some] == pytest.approx(scores[:3:-1])
    with pytest.raises(InputError, match="shorten"):
        detector.detect(IMAGE, ["extraordinarily long name of a thing"])
