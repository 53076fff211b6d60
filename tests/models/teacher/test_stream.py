"""A stream: the same answers as for the finished video, ids that stay, and memory that does not grow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from models.teacher.interfaces import Detection, ModelInfo
from models.teacher.segment.sam2 import Sam2Segmenter
from models.teacher.stream import ObjectStream
from models.teacher.sweep import SweepConfig, follow
from models.teacher.tracking import Search
from tests.models.teacher.scene import INFO, Path, Scene
from tests.models.teacher.tiny_sam2 import moving_square, tiny_network
from util import rle
from util.errors import InputError


class Finder:
    """A detector of the square of `moving_square`, or of a scene's squares, that counts how often it is asked."""

    info = ModelInfo("finder", "squares", None, "none")

    def __init__(self, scene: Scene | None = None) -> None:
        self.scene, self.frames = scene, 0

    def detect(self, image_HW3: np.ndarray, nouns: Sequence[str]) -> list[Detection]:
        self.frames += 1
        if self.scene is not None:
            return [candidate.best for candidate in self.scene.found(int(image_HW3[0, 0, 0]))]
        columns = np.flatnonzero(image_HW3[30, :, 0] == 230)
        return [Detection((float(columns[0]), 20.0, float(columns[-1] + 1), 40.0), 0.9, nouns[0])]


def numbered(scene: Scene) -> list[np.ndarray]:
    """Frames that tell their number to the finder."""
    return [np.full((*scene.size, 3), frame, np.uint8) for frame in range(scene.length)]


def test_a_stream_answers_bit_for_bit_as_the_finished_video() -> None:
    video, sweep = moving_square(20), SweepConfig(give_up=50, backward=False)
    segmenter = Sam2Segmenter(tiny_network(), INFO)
    search = Search(Finder(), ("square",), range(0, 20, 8))
    whole = follow(video, lambda t: search.candidates(t, video), segmenter, sweep)
    stream = ObjectStream(segmenter, Finder(), ["square"], every=8, sweep=sweep)
    shown = [stream.push(video[t]) for t in range(20)]
    for place, followed in enumerate(whole):
        for frame, seen in followed.seen.items():
            if seen.area:
                row = shown[frame].ids.index(place + 1)
                assert rle.encode(shown[frame].masks_NHW[row]) == seen.runs
                assert shown[frame].boxes[row] == seen.box


def test_ids_stay_are_not_used_again_and_the_lost_are_forgotten() -> None:
    scene = Scene((Path(range(30), 5, 5), Path(range(6), 40, 30), Path(range(16, 30), 40, 30, 0)), length=30)
    finder = Finder(scene)
    stream = ObjectStream(scene, finder, ["square"], every=4, sweep=SweepConfig(give_up=5))
    shown = [stream.push(frame) for frame in numbered(scene)]
    assert [s.ids for s in shown[:6]] == [(1, 2)] * 6 and [s.ids for s in shown[6:16]] == [(1,)] * 10
    assert [s.ids for s in shown[16:]] == [(1, 3)] * 14
    assert finder.frames == 8
    assert len(stream._sweep.objects) == 2 and max(len(o.seen) for o in stream._sweep.objects) <= 5
    assert len(stream._session.objects) == 2 and len(stream._frames._held) == 2  # type: ignore[union-attr]
    for frame in (0, 20):
        assert np.array_equal(shown[frame].masks_NHW[0], scene.mask(0, frame))


def test_other_words_begin_anew_at_once() -> None:
    scene = Scene((Path(range(9), 5, 5),), length=9)
    finder = Finder(scene)
    stream = ObjectStream(scene, finder, ["square"], every=20)
    frames = numbered(scene)
    assert [stream.push(frame).ids for frame in frames[:5]] == [(1,)] * 5
    stream.look_for(["box"])
    assert [stream.push(frame).ids for frame in frames[5:]] == [(2,)] * 4
    assert finder.frames == 2


def test_a_frame_with_nothing_in_it_is_an_answer() -> None:
    scene = Scene((), length=3)
    stream = ObjectStream(scene, Finder(scene), ["square"])
    shown = [stream.push(frame) for frame in numbered(scene)]
    assert [s.ids for s in shown] == [()] * 3 and shown[0].masks_NHW.shape == (0, 60, 80)


def test_what_cannot_be_streamed_is_refused() -> None:
    scene = Scene(())
    stream = ObjectStream(scene, Finder(scene), ["square"])
    stream.push(np.zeros((60, 80, 3), np.uint8))
    with pytest.raises(InputError, match="frame 1 of the stream"):
        stream.push(np.zeros((61, 80, 3), np.uint8))
    with pytest.raises(InputError, match="give_up"):
        ObjectStream(scene, Finder(scene), ["square"], sweep=SweepConfig())
    with pytest.raises(InputError, match="something to look for"):
        stream.look_for([])
