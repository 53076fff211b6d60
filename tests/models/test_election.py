"""Several keys, and the votes of all frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from torch import Tensor, nn

from models.election import Candidate, FirstPass, next_key, votes
from models.key_frame import InferenceConfig, segment_video
from models.propagation import Key
from models.soft_masks import SoftMasks
from tests.fakes import FakeSegmenter, Squares, agree, moving
from util import rle
from util.errors import InputError
from util.types import TextFeatures, VideoFeatures

CONFIG = InferenceConfig(short_side=64, max_side=96, window=3, keys=3)
FIRST = FirstPass(np.array([[0.9, 0.8, 0.7, 0.6, 0.5]]), np.array([[0.9, 0.9, 0.9, 0.9, 0.1]]))


def candidate(*agreement: float) -> Candidate:
    return Candidate(Key(0), [], np.ones(len(agreement)), np.array(agreement))


def lone_voice(frames: int = 9, best: int = 4) -> Squares:
    """Every frame shows a red square standing still, brightest but for one frame, in which another one outshines it."""
    still, other = ("red", 44, 72, 0.8), ("red", 0, 0, 0.5)
    return Squares([[still, ("red", 0, 0, 0.95) if t == best else other] for t in range(frames)])


def test_the_next_key_is_the_best_frame_that_nobody_explains() -> None:
    assert next_key(FIRST, 0, 0.5, [candidate(1, 0.4, 0, 0, 0)]) == Key(1)
    assert next_key(FIRST, 0, 0.5, [candidate(1, 0.4, 0, 0, 0), candidate(0, 1, 0.5, 0, 0)]) == Key(3)
    # the last frame sees nothing, so that there is nothing to explain
    assert next_key(FIRST, 0, 0.5, [candidate(1, 1, 1, 0.5, 0)]) is None


def test_votes_are_weighed_by_score_and_only_of_frames_that_see_something() -> None:
    assert votes(FIRST, 0, 0.5, candidate(1, 0, 0.5, 0, 1)) == pytest.approx(0.9 + 0.35)
    assert votes(FIRST, 0, 0.05, candidate(0, 0, 0, 0, 1)) == pytest.approx(0.5)


def test_one_sure_frame_is_outvoted_by_all_others() -> None:
    video = lone_voice()
    alone = segment_video(FakeSegmenter(), video, ["red"], replace(CONFIG, keys=1))
    voted = segment_video(FakeSegmenter(), video, ["red"], CONFIG)
    assert alone.key_E.tolist() == [4] and voted.key_E.tolist() == [0]
    truth = {place: np.stack([video.truth(t, place) for t in range(9)]) for place in (0, 1)}
    for result, place in ((alone, 1), (voted, 0)):
        assert agree(np.stack([rle.decode(mask) for mask in result.masks[0]]), truth[place])
    assert (voted.presence_ET > 0.5).all()


class Judge(FakeSegmenter):
    """Chooses the track that is where it is told, whatever frames say; `shown` are the tracks it was asked about."""

    def __init__(self, row: int, column: int) -> None:
        super().__init__()
        self.choice = nn.Identity()
        self.corner = row, column
        self.shown: list[tuple[int, ...]] = []

    def choose(self, video: VideoFeatures, text: TextFeatures, masks_BKTHW: Tensor) -> Tensor:
        self.shown.append(tuple(masks_BKTHW.shape))
        assert masks_BKTHW.shape[2] == video.times_BT.shape[1] and text.sentence_BEC.shape[1] == 1
        row, column = self.corner
        return masks_BKTHW[0, None, None, :, :, row + 8, column + 8].mean(-1)


def test_a_network_that_chooses_among_tracks_decides_in_every_window() -> None:
    """The tracks are shown as they are in each window's frames, and what is chosen is tracked from its key."""
    video = lone_voice()
    for corner, key in (((0, 0), 4), ((44, 72), 0)):
        judge = Judge(*corner)
        result = segment_video(judge, video, ["red"], CONFIG)
        assert result.key_E.tolist() == [key]
        assert len(judge.shown) == 3 and {shape[:3] for shape in judge.shown} == {(1, 2, 3)}
        place = 1 if key == 4 else 0
        truth = np.stack([video.truth(t, place) for t in range(9)])
        assert agree(np.stack([rle.decode(mask) for mask in result.masks[0]]), truth)


def test_a_video_of_one_mind_is_tracked_once() -> None:
    video = Squares(moving(8, best=3))
    several, one = FakeSegmenter(), FakeSegmenter()
    found = segment_video(several, video, ["red"], CONFIG)
    expected = segment_video(one, video, ["red"], replace(CONFIG, keys=1))
    assert several.tracked == one.tracked and found.masks == expected.masks


def test_no_more_keys_are_tried_than_asked_for() -> None:
    corners = [(0, 0), (0, 76), (44, 0), (44, 76), (22, 38)]
    video = Squares([[("red", *corners[t], 0.5 + t / 20)] for t in range(5)])  # five frames of five minds
    tracked = []
    for keys in (1, 2, 4):
        network = FakeSegmenter()
        segment_video(network, video, ["red"], replace(CONFIG, keys=keys, patience=9))
        tracked.append(len(network.tracked))
    assert tracked == [4, 8, 16]


def test_a_given_key_stands_for_election_by_itself() -> None:
    video = lone_voice()
    result = segment_video(FakeSegmenter(), video, ["red", "red"], CONFIG, keys={1: (4, None)})
    assert result.key_E.tolist() == [0, 4]


def test_sentences_are_elected_apart() -> None:
    video = lone_voice()
    rows = [[*row, ("blue", 24, 40, 0.9)] for row in video.rows]
    together = segment_video(FakeSegmenter(), Squares(rows), ["blue", "red", "green"], CONFIG)
    assert together.key_E.tolist() == [0, 0, -1]
    alone = segment_video(FakeSegmenter(), Squares(rows), ["red"], CONFIG)
    assert together.masks[1] == alone.masks[0]


def test_soft_masks_are_those_of_the_elected_track() -> None:
    video, soft = lone_voice(), SoftMasks()
    result = segment_video(FakeSegmenter(), video, ["red"], CONFIG, soft=soft)
    for t in range(len(video)):
        assert agree(soft.probabilities(t, [0])[0] > 0.5, rle.decode(result.masks[0][t]))


def test_fewer_than_one_key_is_refused() -> None:
    with pytest.raises(InputError, match="keys is 0"):
        segment_video(FakeSegmenter(), lone_voice(), ["red"], replace(CONFIG, keys=0))
