"""The cloud plug-in against a fake service: what is sent, what comes back, and that nothing happens unasked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from models.teacher.detect.cloud import PATHS, TOKEN, CloudDetector
from util.errors import InputError

IMAGE = np.random.RandomState(0).randint(0, 255, (60, 80, 3), dtype=np.uint8)


class Fake:
    """Answers from a list by noun, and remembers what it was sent."""

    def __init__(self, answers: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self.answers = answers
        self.images: list[np.ndarray] = []
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    def ask(self, path: str, body: Mapping[str, Any], image: Path) -> Sequence[Mapping[str, Any]]:
        self.images.append(cv2.imread(str(image))[..., ::-1])
        self.asked.append((path, body))
        return self.answers.get(body["prompt"]["text"], [])


@pytest.mark.parametrize("model", PATHS)
def test_each_noun_is_asked_with_the_image(model: str) -> None:
    things = [
        {"bbox": [-4, 10, 30, 50], "score": 0.4, "category": "dog"},
        {"bbox": [40, 10, 90, 50], "score": 0.7, "category": "something else"},
        {"bbox": [200, 10, 300, 50], "score": 0.9, "category": "dog"},
    ]
    service = Fake({"dog.": things})
    found = CloudDetector(model, service=service).detect(IMAGE, ["Dog", "cat"])
    assert [(one.box, one.score, one.noun, one.phrase) for one in found] == [
        ((40.0, 10.0, 80.0, 50.0), 0.7, "Dog", "something else"),
        ((0.0, 10.0, 30.0, 50.0), 0.4, "Dog", "dog"),
    ]
    assert len(service.images) == 2 and all((image == IMAGE).all() for image in service.images)
    assert [(path, body["model"], body["prompt"]["text"]) for path, body in service.asked] == [
        (PATHS[model], model, "dog."),
        (PATHS[model], model, "cat."),
    ]


def test_nothing_is_sent_unasked() -> None:
    service = Fake({})
    detector = CloudDetector("DINO-X-1.0", service=service)
    assert detector.detect(IMAGE, []) == [] and service.images == [] and service.asked == []
    assert detector.detect(IMAGE, ["dog"]) == []


def test_it_says_what_leaves_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    info = CloudDetector("DINO-X-1.0", service=Fake({})).info
    assert "every image" in capsys.readouterr().err
    assert "closed" in info.licence and info.model_id == "DINO-X-1.0"


def test_no_token_and_no_such_model_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    with pytest.raises(InputError, match=TOKEN):
        CloudDetector("DINO-X-1.0")
    with pytest.raises(InputError, match="no cloud model"):
        CloudDetector("DINO-Y")
