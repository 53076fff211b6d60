"""Streams: equal to the whole-video engine where the future does not matter, bounded, and able to change their mind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.key_frame import InferenceConfig, segment_video
from models.session import VideoSession
from tests.fakes import FPS, SIZE, FakeSegmenter, Squares, agree, moving
from util import rle
from util.errors import InputError

CONFIG = InferenceConfig(short_side=64, max_side=96, window=1)


def stream(session: VideoSession, video: Squares) -> dict[int, np.ndarray]:
    """Masks [T, H, W] of each sentence, by id."""
    steps = [session.step(video[t]) for t in range(len(video))]
    return {id_: np.stack([masks[id_] for masks in steps]) for id_ in steps[0]}


def both(rows: list, others: list) -> list:
    return [[*a, *b] for a, b in zip(rows, others, strict=True)]


@pytest.mark.parametrize("window, spread", [(1, 1), (3, 1), (3, 2)])
def test_stream_is_the_whole_video_where_the_key_is_its_first_frame(window: int, spread: int) -> None:
    """A look-alike, an absence beyond patience, a return: all without a look at the future."""
    referent = moving(9, best=0, top=4)
    rows = referent[:4] + [[]] * 8 + referent[4:]
    twin = [[]] * 3 + [[("red", 44, 72, 0.8)]] * 2 + [[]] * 12
    video = Squares(both(rows, twin))
    whole = segment_video(FakeSegmenter(), video, ["red", "blue"], replace(CONFIG, patience=4))
    session = VideoSession(FakeSegmenter(), replace(CONFIG, patience=4, window=window, spread=spread), fps=FPS)
    ids = [session.add_sentence("red"), session.add_sentence("blue")]
    masks = stream(session, video)
    assert whole.key_E.tolist() == [0, -1]
    for id_, expected in zip(ids, whole.masks, strict=True):
        assert [rle.encode(mask) for mask in masks[id_]] == expected
    assert masks[ids[0]].any((1, 2)).tolist() == [True] * 4 + [False] * 8 + [True] * 5


def test_no_frame_changes_an_earlier_mask() -> None:
    video, other = Squares(moving(8)), Squares(moving(5) + moving(3, top=0, best=1))
    runs = []
    for source in (video, other):
        session = VideoSession(FakeSegmenter(), CONFIG)
        session.add_sentence("red")
        runs.append([session.step(source[t])[1] for t in range(5)])
    assert np.array_equal(runs[0], runs[1])


def test_referent_is_tracked_from_where_it_is_first_seen() -> None:
    video = Squares([[], [], *moving(5)])
    session = VideoSession(FakeSegmenter(), CONFIG)
    id_ = session.add_sentence("red")
    origins = []
    for t in range(7):
        assert agree(session.step(video[t])[id_], video.truth(t))
        origins.append(session.outcomes[id_].origin)
    assert origins == ["absent", "absent", "found", "tracked", "tracked", "tracked", "tracked"]


@pytest.mark.parametrize("margin, moved", [(0.1, True), (0.5, False)])
def test_clearly_better_frame_re_keys(margin: float, moved: bool) -> None:
    """The object seen first is not the one meant: a brighter one of the colour enters, by 0.3 better than the key."""
    video = Squares(both([[("red", 4, 8, 0.6)]] * 6, [[]] * 3 + [[("red", 44, 72, 0.9)]] * 3))
    session = VideoSession(FakeSegmenter(), replace(CONFIG, rekey_margin=margin))
    id_ = session.add_sentence("red")
    masks = stream(session, video)[id_]
    for t in range(6):
        assert agree(masks[t], video.truth(t, 1 if moved and t >= 3 else 0))
    assert session.outcomes[id_].origin == "tracked"


def test_better_frame_that_agrees_goes_on_tracking() -> None:
    video = Squares(moving(4, best=2))
    session = VideoSession(FakeSegmenter(), CONFIG)
    id_ = session.add_sentence("red")
    origins = [session.step(video[t]) and session.outcomes[id_].origin for t in range(4)]
    assert origins == ["found", "tracked", "tracked", "tracked"]


def test_sentences_come_and_go() -> None:
    red, green = moving(9, best=0, top=0), moving(9, colour="green", best=4, top=40)
    video = Squares(both(red, green))
    session = VideoSession(FakeSegmenter(), CONFIG, fps=FPS)
    first = session.add_sentence("red")
    for t in range(4):
        assert list(session.step(video[t])) == [first]
    second = session.add_sentence("green")
    late = VideoSession(FakeSegmenter(), CONFIG, fps=FPS)
    alone = late.add_sentence("green")
    for t in range(4, 7):
        masks = session.step(video[t])
        assert agree(masks[first], video.truth(t, 0))
        assert np.array_equal(masks[second], late.step(video[t])[alone]) and agree(masks[second], video.truth(t, 1))
    session.remove_sentence(first)
    assert list(session.step(video[7])) == [second] == list(session.outcomes)
    assert session.sentences == {second: "green"}
    third = session.add_sentence("red")
    assert third not in (first, second)
    with pytest.raises(InputError, match="no sentence has the id"):
        session.remove_sentence(first)


def test_stream_without_sentences_only_counts_frames() -> None:
    network = FakeSegmenter()
    session = VideoSession(network, CONFIG)
    assert session.step(Squares(moving(1))[0]) == {} and session.frames_seen == 1 and not network.encoded


def test_every_frame_is_encoded_once_and_the_past_is_bounded() -> None:
    video, network = Squares(moving(40)), FakeSegmenter()
    session = VideoSession(network, replace(CONFIG, window=3, spread=2), fps=FPS)
    id_ = session.add_sentence("red")
    stream(session, video)
    assert network.encoded == [[t] for t in range(40)]
    state = session._states[id_]
    assert [round(float(f.times_BT) * FPS) for f in state.recent] == [35, 36, 37, 38, 39]
    assert state.reference is not None and state.reference.frame == 39


def test_window_of_a_stream_ends_with_the_present_frame() -> None:
    class Recording(FakeSegmenter):
        def decode(self, features, tracking=None):
            if tracking is None:
                windows.append([round(float(time) * FPS) for time in features.times_BT[0]])
            return super().decode(features, tracking)

    windows: list[list[int]] = []
    session = VideoSession(Recording(), replace(CONFIG, window=3, spread=2), fps=FPS)
    session.add_sentence("red")
    stream(session, Squares(moving(7)))
    assert windows == [[0], [1], [0, 2], [1, 3], [0, 2, 4], [1, 3, 5], [2, 4, 6]]


def test_stream_without_a_tracking_stream_looks_anew_each_time() -> None:
    video = Squares(moving(5))
    network = FakeSegmenter(tracking="none")
    session = VideoSession(network, CONFIG)
    id_ = session.add_sentence("red")
    assert agree(stream(session, video)[id_], np.stack([video.truth(t) for t in range(5)]))
    assert network.tracked == []


def test_times_are_given_or_counted_and_must_rise() -> None:
    session = VideoSession(FakeSegmenter(), CONFIG, fps=10)
    session.add_sentence("red")
    frame = Squares(moving(1))[0]
    for time, told in ((None, 0.0), (0.5, 0.5), (None, 0.6)):
        session.step(frame, time)
        assert float(session._states[1].recent[-1].times_BT) == pytest.approx(told)
    with pytest.raises(InputError, match="rising times"):
        session.step(frame, 0.6)


def test_bad_input_is_refused_and_leaves_the_stream_usable() -> None:
    video = Squares(moving(3))
    session = VideoSession(FakeSegmenter(), CONFIG)
    id_ = session.add_sentence("red")
    session.step(video[0])
    for frame, said in (
        (np.zeros((32, 32, 3), np.uint8), "one size"),
        (np.zeros(SIZE, np.uint8), "must be uint8"),
        (video[1].astype(np.float32), "must be uint8"),
    ):
        with pytest.raises(InputError, match=said):
            session.step(frame)
    with pytest.raises(InputError, match="is empty"):
        session.add_sentence("  ")
    assert agree(session.step(video[1])[id_], video.truth(1))
    with pytest.raises(InputError, match="above 0"):
        VideoSession(FakeSegmenter(), CONFIG, fps=0)
    with pytest.raises(InputError, match="clip mode"):
        VideoSession(FakeSegmenter(), replace(CONFIG, mode="clip"))
