"""`main.py teach image` and `teach florence`, end to end with tiny models on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import main
from models.teacher.detect.florence import TASKS as KNOWN
from models.teacher.detect.florence import Florence2
from scripts.teaching.florence import CAPTIONS, TASKS
from tests.models.teacher.tiny_models import save_florence, save_grounding_dino, save_owlv2
from tests.models.teacher.tiny_sam2 import tiny_sam2


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    tiny_sam2().save_pretrained(root / "sam2")
    save_grounding_dino(root / "grounding_dino")
    save_grounding_dino(root / "mm_grounding_dino", mm=True)
    save_owlv2(root / "owlv2")
    save_florence(root / "florence2")
    picture = np.random.RandomState(0).randint(0, 255, (60, 80, 3), dtype=np.uint8)
    cv2.imwrite(str(root / "picture.png"), picture)
    return root


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights never stop writing."""
    assert Florence2.__init__.__kwdefaults__ is not None
    monkeypatch.setitem(Florence2.__init__.__kwdefaults__, "max_tokens", 2)


def teach(models: Path, out: Path, job: str, *words: str) -> dict:
    """Run the job on the picture; returns its JSON."""
    segmenter = f"sam2={models / 'sam2'}"
    arguments = [job, str(models / "picture.png"), "--segmenter", segmenter, "--device", "cpu", "--out", str(out)]
    assert main.main(["teach", *arguments, *words]) == 0
    return dict(json.loads((out / "annotations.json").read_text()))


@pytest.mark.parametrize("detector", ["grounding_dino", "mm_grounding_dino", "owlv2", "florence2"])
def test_every_detector_finds_and_cuts_out(detector: str, models: Path, tmp_path: Path) -> None:
    described = teach(
        models, tmp_path, "image", "--text", "dog. red car.", "--threshold", "0.001",
        "--detector", f"{detector}={models / detector}",
    )  # fmt: skip
    assert described["model"]["detector"]["backend"] == detector
    assert {found["class_name"] for found in described["annotations"]} <= {"dog", "red car"}
    assert detector == "florence2" or described["annotations"]  # random Florence-2 names nothing
    assert (tmp_path / "overlay.png").is_file() and (tmp_path / "boxes.png").is_file()


def test_tiles_find_more(models: Path, tmp_path: Path) -> None:
    words = ["--text", "dog.", "--threshold", "0.02", "--detector", f"grounding_dino={models / 'grounding_dino'}"]
    whole = teach(models, tmp_path / "whole", "image", *words)
    sliced = teach(models, tmp_path / "sliced", "image", *words, "--slice", "40")
    assert len(sliced["annotations"]) > len(whole["annotations"]) and sliced["model"]["slice"] == 40


def test_florence_names_and_cuts_out(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["a dog", "a dog<loc_100><loc_100><loc_600><loc_900>"])

    def generate(self: object, **_: object) -> object:
        return florence.processor.tokenizer(next(answers), return_tensors="pt").input_ids

    florence = Florence2(models / "florence2")
    monkeypatch.setattr(type(florence.model), "generate", generate)
    described = teach(models, tmp_path, "florence", "--florence", str(models / "florence2"))
    assert described["caption"] == "a dog" and "caption: a dog" in capsys.readouterr().out
    (found,) = described["annotations"]
    assert found["class_name"] == "a dog" and found["score"] is None and isinstance(found["mask_score"], float)


def test_a_caption_needs_no_segmenter(models: Path, tmp_path: Path) -> None:
    described = teach(
        models, tmp_path, "florence", "--florence", str(models / "florence2"), "--task", "caption",
        "--segmenter", "sam2=nowhere",
    )  # fmt: skip
    assert described["annotations"] == [] and described["model"]["segmenter"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["image", "--text", " . "], "names nothing"),
        (["image", "--text", "dog", "--slice", "8"], "32 pixels"),
        (["image", "--text", "dog", "--detector", "magic"], "no backend 'magic'"),
        (["florence", "--task", "region_to_ocr", "--region", "1,2,3"], "is no box"),
        (["florence", "--task", "region_to_ocr", "--region", "5,2,3,9"], "is empty"),
    ],
)
def test_mistakes_are_explained(
    words: list[str], message: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["teach", words[0], str(models / "picture.png"), *words[1:]]) == 2
    assert message in capsys.readouterr().err


def test_the_tasks_that_help_lists_are_the_models() -> None:
    assert set(TASKS) == set(KNOWN) and set(CAPTIONS) < set(KNOWN)
