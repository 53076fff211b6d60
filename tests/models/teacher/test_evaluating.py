"""Masklets beside labels: perfect models score 1, and each fault alone moves its own rung of the ladder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.mevis import write_mevis
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from main import main
from models.teacher.evaluating import Evaluation, evaluate
from models.teacher.interfaces import Detection, MatchScores, ObjectFrame, Prompt, Question
from models.teacher.ladder import RUNGS, ObjectTally, place
from models.teacher.masklet_writer import Provenance, export
from models.teacher.parser import RuleParser
from models.teacher.pipeline import Backends, Teacher, TeacherConfig
from models.teacher.scripted import Faults, ScriptedDetector, ScriptedMatcher, ScriptedSegmenter, Truth
from models.teacher.stages import Stopwatch
from tests.trees import copy
from util.errors import InputError
from util.types import FrameSource, ReferringVideo

WORLD = SyntheticConfig(seed=3, videos=2, frames=8, height=48, width=64, no_target=0.0)
SCRIPTED = ["--detector", "scripted", "--segmenter", "scripted", "--matcher", "scripted", "--device", "cpu"]
SENTENCES = [RuleParser().parse(e.text) for video in SyntheticVideos(WORLD) for e in video.expressions]


class Blind(ScriptedDetector):
    """Never sees the objects that the first sentence of a video means."""

    def detect(self, image_HW3: np.ndarray, nouns: Sequence[str]) -> list[Detection]:
        video, at = self._truth.locate(image_HW3)
        first = next(iter(video.referents.values()))
        hidden = {tuple(video.boxes_TN4[at, row]) for row in first}
        return [found for found in super().detect(image_HW3, nouns) if found.box not in hidden]


class Changed(ScriptedSegmenter):
    """A segmenter whose masks are all changed: `kept` is the share of their pixels that is left, from the top on."""

    def __init__(self, truth: Truth, kept: float, *, first: bool) -> None:
        super().__init__(truth)
        self.kept, self.first = kept, first

    def open(self, frames: FrameSource):
        session, kept, first = super().open(frames), self.kept, self.first
        add, step = session.add, session.step

        def cut(seen: ObjectFrame) -> ObjectFrame:
            mask = np.zeros_like(seen.mask_HW)
            y, x = (side[: round(kept * seen.mask_HW.sum())] for side in np.nonzero(seen.mask_HW))
            mask[y, x] = True
            return replace(seen, mask_HW=mask)

        def begun(object_id: int, prompt: Prompt) -> ObjectFrame:
            return cut(add(object_id, prompt)) if first else add(object_id, prompt)

        session.add = begun
        session.step = lambda *what, **how: cut(step(*what, **how))
        return session


class Doubting(ScriptedMatcher):
    """Fits no track to any sentence."""

    def score(self, question: Question) -> MatchScores:
        said = super().score(question)
        return MatchScores(said.scores_ENF * 0.4, said.absent_E * 0)


def taught(folder: Path, config: SyntheticConfig = WORLD, **changed: object) -> Evaluation:
    """The world taught with scripted models, some of them changed, and compared with its truth."""
    videos = SyntheticVideos(config)
    truth = Truth(videos)
    models = {"detector": ScriptedDetector(truth), "segmenter": ScriptedSegmenter(truth)}
    models |= {name: make(truth) for name, make in changed.items() if name != "matcher"}
    matcher = changed.get("matcher", ScriptedMatcher)(truth)
    backends = Backends(RuleParser(), models["detector"], models["segmenter"], {"scripted": matcher})
    teacher = Teacher(backends, TeacherConfig(), folder / "work", dataset="world")
    answers = [teacher.teach(videos[number], Stopwatch()) for number in range(len(videos))]
    export(answers, folder / "set", "train", Provenance(backends.roles(), source="world"))
    return evaluate(folder / "set", videos, folder / "work")


def rungs(found: Evaluation) -> set[str]:
    return {judged.rung for judged in found.sentences}


def test_perfect_models_score_one(tmp_path: Path) -> None:
    found = taught(tmp_path)
    numbers = found.to_dict()
    assert numbers["sentences"] == len(SENTENCES) == numbers["ladder"]["correct"]
    assert found.coverage == 1 and numbers["all"] == numbers["masklets"]
    assert numbers["all"] == pytest.approx({"J&F": 1, "J": 1, "F": 1, "set-F1": 1, "presence IoU": 1})
    assert numbers["without a masklet"] == {}


def test_what_means_nothing_is_no_loss(tmp_path: Path) -> None:
    found = taught(tmp_path, replace(WORLD, no_target=0.6))
    assert rungs(found) == {"correct", "rightly none"} and found.coverage == 1
    assert found.to_dict()["all"]["J&F"] == 1 and found.to_dict()["without a masklet"].keys() == {"no_target"}


@pytest.mark.parametrize(
    ("changed", "rung"),
    [
        ({"detector": Blind}, "not detected"),
        ({"segmenter": lambda truth: Changed(truth, 0.0, first=False)}, "lost"),
        ({"matcher": Doubting}, "abstained"),
        ({"matcher": lambda truth: ScriptedMatcher(truth, Faults(wrong_matches=1))}, "wrong match"),
        ({"segmenter": lambda truth: Changed(truth, 0.6, first=True)}, "poor mask"),
    ],
)
def test_a_fault_moves_its_own_rung(tmp_path: Path, changed: dict[str, object], rung: str) -> None:
    found = taught(tmp_path, **changed)
    assert rung in rungs(found) <= {rung, "correct"}
    numbers = found.to_dict()
    assert numbers["all"]["J&F"] < 1 and sum(numbers["ladder"].values()) == len(SENTENCES)
    assert (found.coverage == 1) == (rung in ("wrong match", "poor mask"))


def test_a_masklet_of_nothing_is_a_false_positive(tmp_path: Path) -> None:
    believing = {"matcher": lambda truth: ScriptedMatcher(truth, Faults(wrong_matches=1))}
    found = taught(tmp_path, replace(WORLD, no_target=0.6), **believing)
    counts = Counter(judged.rung for judged in found.sentences)
    assert counts["false positive"] and not counts["rightly none"]
    assert all(j.score.j.mean == 0 == j.set_f1 for j in found.sentences if j.rung == "false positive")


def test_the_first_rung_that_holds_is_the_only_one() -> None:
    square, other, nothing = np.zeros((3, 4, 4), bool)
    square[:2, :2], other[2:, 2:] = True, True
    far = np.array([[0.0, 0, 1, 4]])

    def rung(told: list[np.ndarray], tracks: list[np.ndarray], boxes: np.ndarray, j: float) -> str:
        tally = ObjectTally((7,), tuple(range(len(told))), len(tracks))
        tally.add(square[None], np.array([True]), told, tracks, boxes)
        return place(tally.result(), (7,), range(len(told)), j).rung

    near = np.array([[0.0, 0, 2, 2]])
    expected = ("not detected", "lost", "abstained", "wrong match", "poor mask", "correct")
    said = (
        rung([], [], far, 0.0), rung([], [other], near, 0.0), rung([], [square], near, 0.0),
        rung([other], [square], near, 0.0), rung([square], [square], near, 0.6), rung([square], [square], near, 0.7),
    )  # fmt: skip
    assert said == expected == RUNGS[:6]
    assert rung([square], [square, nothing], far, 1.0) == "not detected"
    unseen = ObjectTally((7,), (), 1)
    unseen.add(square[None], np.array([False]), [], [square], far)  # in a frame that is not labelled
    assert not unseen.result().missed_N.any()


def test_sets_are_compared_one_to_one() -> None:
    masks = np.eye(3, dtype=bool)[:, None]
    tally = ObjectTally((1, 2), (5, 6, 8), None)
    tally.add(masks[:2], np.array([True, True]), [masks[0], masks[0], masks[2]], [], None)
    objects = tally.result()
    assert place(objects, (1, 2), (5, 6), 1.0).set_f1 == 0.5 and place(objects, (1,), (5,), 1.0).set_f1 == 1
    assert place(objects, (1, 2), (), 1.0).set_f1 == 0 and place(objects, (), (), 1.0).set_f1 == 1


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("command")
    write_mevis(SyntheticVideos(WORLD), folder / "labelled", "train")
    assert main(["teach", "run", str(folder / "labelled"), "--out", str(folder / "set"), *SCRIPTED]) == 0
    return folder


def test_the_command_compares_folders(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["teach", "eval", str(command / "set"), "--gt", str(command / "labelled")]
    assert main([*words, "--out", str(command / "found.json")]) == 0
    shown = capsys.readouterr().out
    assert "coverage 1.000" in shown and "not detected" in shown
    assert json.loads((command / "found.json").read_text())["all"]["set-F1"] == 1


def test_without_the_stages_the_ladder_is_shorter(command: Path, tmp_path: Path) -> None:
    found = evaluate(copy(command / "set", tmp_path / "set"), SyntheticVideos(WORLD))
    assert "not detected" not in found.to_dict()["ladder"] and "--work" in found.page()


def test_labels_of_something_else_are_refused(command: Path, tmp_path: Path) -> None:
    videos = SyntheticVideos(WORLD)
    renamed: list[ReferringVideo] = [replace(videos[0], id="another")]
    with pytest.raises(InputError, match="none of the labelled"):
        evaluate(command / "set", renamed)
    first = videos[0].expressions[0]
    other = replace(videos[0], expressions=(replace(first, text="something else"), *videos[0].expressions[1:]))
    with pytest.raises(InputError, match=r"and .something else. in the labels"):
        evaluate(command / "set", [other])
    assert "another" in evaluate(command / "set", [videos[0], *renamed]).unasked
    with pytest.raises(InputError, match="not those"):
        stages = copy(command / "set.work", tmp_path / "work")
        for path in (stages / "detect").rglob("*.json"):
            path.unlink()
        evaluate(command / "set", [videos[0]], stages)
