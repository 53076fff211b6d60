"""Following through one video by hand and by words, and boxes that become points or masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from models.teacher.interfaces import Detection, ModelInfo, Prompt
from models.teacher.segment.prompted_by import PromptedBy
from models.teacher.segment.prompts import points_of
from models.teacher.segment.sam2 import Sam2Segmenter
from models.teacher.sweep import SweepConfig
from models.teacher.tracking import Search, track_video
from models.teacher.tracks import MergeConfig
from tests.models.teacher.scene import INFO, Path, Scene
from tests.models.teacher.tiny_sam2 import moving_square, tiny_network
from util.errors import InputError

SCENE = Scene((Path(range(24), 5, 5), Path(range(24), 50, 30, -1)))
BOX = Prompt(2, box=(6.0, 20.0, 30.0, 40.0))


class Finder:
    """A detector that finds the scene's squares, and remembers how often it was asked."""

    info = ModelInfo("finder", "squares", None, "none")

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def detect(self, image_HW3: np.ndarray, nouns: Sequence[str]) -> list[Detection]:
        self.asked.append(tuple(nouns))
        frame = 5  # the frames are black: the test looks there only
        return [candidate.best for candidate in SCENE.found(frame) for _ in range(2)]


def test_words_are_looked_for_in_the_chosen_frames_only_and_each_thing_is_once() -> None:
    finder = Finder()
    search = Search(finder, ("square", "dog"), {5})
    tracks = track_video(SCENE.video, SCENE, search=search, sweep=SweepConfig(), merge=MergeConfig())
    assert finder.asked == [("square", "dog")]
    assert len(tracks) == 2 and tracks.tracked_NT.all() and tracks.key_frames == (5,)
    for row in range(2):
        assert all(np.array_equal(tracks.mask(row, t), SCENE.mask(row, t)) for t in range(24))


def test_without_going_back_the_frames_before_are_not_tracked() -> None:
    prompt = Prompt(9, box=SCENE.box(1, 9))
    sweep = SweepConfig(backward=False)
    tracks = track_video(SCENE.video, SCENE, prompts=[prompt], sweep=sweep, merge=MergeConfig())
    assert tracks.tracked_NT[0].tolist() == [False] * 9 + [True] * 15
    assert [p.kind for p in tracks.tracks[0].prompts] == ["box"]


@pytest.mark.parametrize("frames", [{24}, {-1}])
def test_frames_outside_the_video_are_named(frames: set[int]) -> None:
    search = Search(Finder(), ("square",), frames)
    with pytest.raises(InputError, match="whose frames are 0 to 23"):
        track_video(SCENE.video, SCENE, search=search, sweep=SweepConfig(), merge=MergeConfig())
    with pytest.raises(InputError, match="nothing to follow"):
        track_video(SCENE.video, SCENE, sweep=SweepConfig(), merge=MergeConfig())


@pytest.mark.parametrize("kind", ["point", "mask"])
def test_a_box_becomes_what_its_mask_says(kind: str) -> None:
    plain = Sam2Segmenter(tiny_network(), INFO)
    video = moving_square(6)
    told = PromptedBy(plain, kind).open(video)  # type: ignore[arg-type]
    boxed = plain.open(video).add(1, BOX)
    if kind == "mask":
        prompt = Prompt(2, mask_HW=boxed.mask_HW)
    else:
        prompt = Prompt(2, points=points_of(boxed.mask_HW, f"2/{BOX.box}"))
    by_hand = plain.open(video)
    first, same = told.add(1, BOX), by_hand.add(1, prompt)
    assert np.array_equal(first.pointer_D, same.pointer_D) and np.array_equal(first.mask_HW, same.mask_HW)
    assert not np.array_equal(first.pointer_D, boxed.pointer_D)
    assert np.isfinite(first.predicted_iou)
    for frame in (3, 4):
        assert np.array_equal(told.step(1, frame).mask_HW, by_hand.step(1, frame).mask_HW)
    passed = told.add(2, Prompt(4, points=((20.0, 30.0, 1),)))
    assert np.array_equal(passed.pointer_D, by_hand.add(2, Prompt(4, points=((20.0, 30.0, 1),))).pointer_D)
    told.remove(2), told.close()
