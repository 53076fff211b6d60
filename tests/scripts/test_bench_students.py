"""The student table: data sets of stated worth, trainings that differ in nothing but their data, one small table."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.masklets import read_masklets
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from engine import TrainConfig
from scripts.bench import student_data, students
from scripts.bench.student_data import ARMS, FAULTLESS, Plan, make, sentence_js, worth
from tests.micro_run import micro_dict
from util.config import from_dict
from util.scoring import true_masks
from util.types import ABSENT, IGNORE, PRESENT

PLAN = Plan(
    SyntheticConfig(seed=1, videos=6, frames=8, height=32, width=48, expressions=3, motion=0.0, no_target=0.0),
    held_out=2,
    fitted=1,
    rate=0.4,
)


def make_at(arm: str, folder: Path) -> Path:
    plan = PLAN if arm not in FAULTLESS else replace(PLAN, rate=0.0)
    return make(arm, plan, folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for arm in ARMS:
        make_at(arm, folder)
    return folder


def test_labels_are_worth_what_they_should_be(made: Path) -> None:
    found = {arm: worth(made / arm, PLAN.world) for arm in ARMS}
    assert found["labels"] == {"kept": 1, "weight": 1, "labels' J": 1, "labels' J by weight": 1, "right": 1}
    assert found["clean"]["labels' J"] > 0.99 and found["clean"]["weight"] == 1
    assert found["noisy"]["labels' J"] < 0.95 and found["noisy"]["weight"] == 1
    for arm in ("weighted", "fitted"):
        assert found[arm]["kept"] <= found["noisy"]["kept"] and 0 < found[arm]["weight"] < 1


def test_arms_show_the_same_frames(made: Path) -> None:
    true = {video.id: video for video in read_masklets(made / "labels")}
    for arm in ARMS:
        for video in read_masklets(made / arm):
            assert (video.frames[3] == true[video.id].frames[3]).all()
            said = {expression.id: expression.text for expression in true[video.id].expressions}
            assert all(said[expression.id] == expression.text for expression in video.expressions)


def test_weighing_changes_no_mask(made: Path) -> None:
    noisy = {video.id: video for video in read_masklets(made / "noisy")}
    compared = 0
    for arm in ("weighted", "fitted"):
        for video in read_masklets(made / arm):
            ours = {e.id: true_masks(video, 3)[0][n] for n, e in enumerate(video.expressions)}
            theirs = {e.id: true_masks(noisy[video.id], 3)[0][n] for n, e in enumerate(noisy[video.id].expressions)}
            assert all((mask == theirs[name]).all() for name, mask in ours.items())
            compared += len(ours)
    assert compared


def test_only_the_fitted_arm_says_that_it_was_calibrated(made: Path) -> None:
    about = {arm: json.loads((made / arm / "dataset.json").read_text()) for arm in ARMS}
    assert {arm for arm in ARMS if about[arm].get("calibration")} == {"fitted"}
    faults = {arm: {model["revision"] for model in about[arm]["models"] if model["backend"] == "scripted"}
              for arm in ("clean", "noisy", "weighted", "fitted")}  # fmt: skip
    assert faults["noisy"] == faults["weighted"] == faults["fitted"] != faults["clean"]
    assert all("0.4" in revision for revision in faults["noisy"])


def test_what_is_made_is_not_made_again(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(student_data, "label", None)
    monkeypatch.setattr(student_data, "write_masklets", None)
    assert [make_at(arm, made) for arm in ARMS] == [made / arm for arm in ARMS]


def test_ignored_frames_do_not_count() -> None:
    true = SyntheticVideos(PLAN.world)[0]
    assert true.masks is not None
    masks = true.masks

    class Wrong:
        """Nothing is seen in frame 2, and whether anything is, is not known in `unknown`."""

        def __init__(self, unknown: int) -> None:
            self.unknown = unknown

        def read(self, index: int, object_ids: Any) -> tuple[np.ndarray, np.ndarray]:
            found, _ = masks.read(index, object_ids)
            found = found & (index != 2)
            states = np.where(found.any((1, 2)), PRESENT, ABSENT)
            return found, np.where(index == self.unknown, IGNORE, states).astype(np.int8)

    assert sentence_js(replace(true, masks=Wrong(2)), true) == [1.0] * len(true.expressions)
    assert min(sentence_js(replace(true, masks=Wrong(-1)), true)) == pytest.approx(7 / 8)


def micro_study(folder: Path) -> students.Study:
    config = folder / "micro.yaml"
    config.write_text(json.dumps(micro_dict(folder, steps=5)))
    return students.Study(PLAN, config, ("steps=2",), folder / "work")


def test_trainings_differ_in_their_data_alone(tmp_path: Path) -> None:
    study = micro_study(tmp_path)
    configs = [from_dict(TrainConfig, study.training(arm, 3).config) for arm in ARMS]
    roots = {Path(config.data.sources[0].root) for config in configs}
    assert roots == {(study.data(arm) / arm).resolve() for arm in ARMS}
    same = {replace(c, data=replace(c.data, sources=()), output_dir=Path("x")).__repr__() for c in configs}
    assert len(same) == 1 and configs[0].steps == 2
    other = replace(study, plan=replace(PLAN, rate=0.1))
    assert other.training("noisy", 3).folder != study.training("noisy", 3).folder
    assert other.training("clean", 3).folder == study.training("clean", 3).folder
    assert study.training("noisy", 3).folder != study.training("noisy", 4).folder


@pytest.mark.slow
def test_a_table_from_end_to_end_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = micro_study(tmp_path)
    found = students.study_arms(study, ["labels", "noisy"], [0], 2)
    assert [row["labels"] for row in found["rows"]] == ["labels", "noisy"]
    assert all(0 <= row["J&F"] <= 1 and row["minutes"] > 0 for row in found["rows"])
    assert found["sentences asked"] > 0 and found["random object"]["J&F"] > 0
    assert len(found["curves"]["noisy"]["training"]) == 2

    def refuse(*words: object, **settings: object) -> None:
        raise AssertionError(f"started {words}")

    monkeypatch.setattr(subprocess, "run", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert students.study_arms(study, ["labels", "noisy"], [0], 1) == found
