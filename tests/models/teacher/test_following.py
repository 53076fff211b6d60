"""Following: one id for each thing from its birth on, whatever the detector misses, repeats or finds late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from datasets.tracks import Tracks
from models.teacher.detect.boxes import Candidate
from models.teacher.interfaces import Detection, Prompt
from models.teacher.key_frames import KeyFrameConfig, find_key_frames
from models.teacher.overlap import assign, frame_ious, iou_bounds
from models.teacher.sweep import Candidates, SweepConfig, follow
from models.teacher.tracks import MergeConfig, to_tracks
from tests.models.teacher.scene import INFO, Path, Scene
from util.errors import InputError
from util.types import ABSENT, IGNORE, PRESENT

ALL = range(24)
CROSSING = (Path(ALL, 5, 5), Path(ALL, 50, 30, -1))


def tracked(
    scene: Scene, found: Candidates, config: SweepConfig | None = None, prompts: Sequence[Prompt] = ()
) -> Tracks:
    objects = follow(scene.video.frames, found, scene, config or SweepConfig(), prompts=prompts)
    return to_tracks(
        objects, scene.video, MergeConfig(), dataset="d", split="s", generator={}, segmenter=repr(INFO),
        key_frames=range(0, scene.length, 4),
    ).check("scene")  # fmt: skip


def every(stride: int, found: Callable[[int], list[Candidate]]) -> Candidates:
    return lambda frame: found(frame) if frame % stride == 0 else []


def assert_shows(tracks: Tracks, row: int, scene: Scene, number: int) -> None:
    for frame in range(scene.length):
        np.testing.assert_array_equal(tracks.mask(row, frame), scene.mask(number, frame))


def test_each_thing_is_one_track_over_the_whole_video() -> None:
    scene = Scene((*CROSSING, Path(range(9, 24), 20, 45)))
    tracks = tracked(scene, every(4, scene.found))
    assert len(tracks) == 3
    for number in range(3):
        assert_shows(tracks, number, scene, number)
    assert tracks.states_NT()[2].tolist() == [ABSENT] * 9 + [PRESENT] * 15
    assert tracks.tracked_NT.all()
    assert tracks.support_N().tolist() == [1, 1, 1]
    assert tracks.pointers_NTD is not None
    assert (tracks.pointers_NTD.argmax(-1) == np.arange(3)[:, None]).all()
    assert scene.steps == 3 * 23  # each object is asked about once in each frame


def test_a_thing_found_late_is_traced_to_its_birth() -> None:
    scene = Scene(CROSSING)
    tracks = tracked(scene, lambda frame: scene.found(frame) if frame == 20 else [])
    assert [track.prompts[0].frame for track in tracks.tracks] == [20, 20]
    assert_shows(tracks, 0, scene, 0)
    assert_shows(tracks, 1, scene, 1)


def test_a_track_that_the_detector_misses_is_followed_on_under_its_id() -> None:
    scene = Scene(CROSSING)
    tracks = tracked(scene, every(4, lambda frame: scene.found(frame, missed={0} if 0 < frame < 20 else set())))
    assert len(tracks) == 2
    assert_shows(tracks, 0, scene, 0)
    assert tracks.support_N()[0] == 2 / 6


def test_exit_and_return_are_one_track() -> None:
    seen = [frame for frame in ALL if not 6 <= frame < 15]
    scene = Scene((Path(seen, 5, 5), CROSSING[1]))
    tracks = tracked(scene, every(4, scene.found))
    assert len(tracks) == 2
    assert tracks.states_NT()[0].tolist() == [PRESENT] * 6 + [ABSENT] * 9 + [PRESENT] * 9


def test_giving_up_is_not_absence_and_what_returns_is_begun_again() -> None:
    seen = [frame for frame in ALL if not 6 <= frame < 15]
    scene = Scene((Path(seen, 5, 5),))
    tracks = tracked(scene, every(4, scene.found), SweepConfig(give_up=3))
    assert len(tracks) == 2
    assert tracks.states_NT()[0].tolist() == [PRESENT] * 6 + [ABSENT] * 3 + [IGNORE] * 15
    assert tracks.states_NT()[1].tolist() == [IGNORE] * 12 + [ABSENT] * 3 + [PRESENT] * 9


def test_one_detection_confirms_one_track() -> None:
    scene = Scene(CROSSING)
    tracks = tracked(scene, every(4, lambda frame: scene.found(frame, twice=True)))
    assert len(tracks) == 2
    assert [len(track.votes) for track in tracks.tracks] == [6, 6]


def test_a_part_of_the_same_noun_begins_nothing_and_one_of_another_noun_does() -> None:
    scene = Scene((Path(ALL, 5, 5), Path(ALL, 8, 8, side=6)))
    whole, part = scene.found(0)
    assert len(tracked(scene, lambda frame: [whole, part] if frame == 0 else [])) == 1
    assert len(tracked(scene, lambda frame: {0: [whole], 4: scene.found(4)[1:]}.get(frame, []))) == 1
    hat = replace(part, best=replace(part.best, noun="hat"), noun_scores={"hat": 0.8})
    tracks = tracked(scene, lambda frame: [whole, hat] if frame == 0 else [])
    assert len(tracks) == 2
    assert_shows(tracks, 1, scene, 1)


def test_caps_take_the_most_certain_first() -> None:
    scene = Scene(tuple(Path(ALL, 2, 2 + 14 * n) for n in range(4)))
    assert len(tracked(scene, every(4, scene.found), SweepConfig(most=3))) == 3
    tracks = tracked(scene, every(4, scene.found), SweepConfig(per_noun=2))
    assert [track.prompts[0].det_score for track in tracks.tracks] == [0.9, 0.89]
    assert len(tracked(scene, every(4, scene.found), SweepConfig(begin=0.895))) == 1


def test_what_turns_out_to_be_one_thing_is_merged_and_keeps_the_older_id() -> None:
    """The track of one square goes over to another for three frames; the square itself is found again meanwhile."""
    scene = Scene(CROSSING, drifts={(0, 20): 1})
    alone = tracked(scene, lambda frame: scene.found(frame, missed={1}) if frame == 0 else [])
    scene = Scene(CROSSING, drifts={(0, 20): 1})
    tracks = tracked(scene, lambda frame: scene.found(frame) if frame in (0, 20) else [])
    assert len(tracks) == 2
    assert tracks.tracks[0].track_id == alone.tracks[0].track_id
    assert len(tracks.tracks[0].merged_from) == 1
    assert tracks.states_NT()[0].tolist() == [PRESENT] * 20 + [IGNORE] * 4  # its members disagree
    assert tracks.states_NT()[1].tolist() == [PRESENT] * 24


def test_prompts_given_by_hand_begin_objects_in_any_frame() -> None:
    scene = Scene(CROSSING)
    hand = [Prompt(7, mask_HW=scene.mask(1, 7)), Prompt(3, box=scene.box(0, 3))]
    tracks = tracked(scene, lambda frame: [], prompts=hand)
    assert [track.source for track in tracks.tracks] == ["file", "file"]
    assert_shows(tracks, 0, scene, 0)
    assert_shows(tracks, 1, scene, 1)


def test_nothing_found_is_a_video_without_tracks() -> None:
    tracks = tracked(Scene(CROSSING), lambda frame: [])
    assert len(tracks) == 0
    assert tracks.states_NT().shape == (0, 24)


def test_order_of_detections_of_equal_score_decides_no_mask() -> None:
    scene = Scene(CROSSING)
    one = tracked(scene, every(4, scene.found))
    other = tracked(scene, every(4, lambda frame: scene.found(frame)[::-1]))
    assert {track.track_id for track in one.tracks} == {track.track_id for track in other.tracks}


def test_bounds_of_the_iou_hold() -> None:
    random = np.random.default_rng(0)
    scene = Scene(tuple(Path(ALL, int(x), int(y), int(s)) for x, y, s in random.integers(0, 25, (6, 3)) * [1, 1, 0.1]))
    tracks = tracked(scene, lambda frame: scene.found(frame) if frame == 0 else [], SweepConfig(part=1))
    assert len(tracks) > 2
    for n in range(len(tracks)):
        for m in range(n):
            bounds = iou_bounds(tracks.boxes_NT4, tracks.area_NT, n, m)
            assert (bounds >= frame_ious(tracks.masks[n], tracks.masks[m]) - 1e-9).all()


def test_assignment_is_one_to_one_and_best_in_total() -> None:
    values = np.array([[0.9, 0.8, 0.0], [0.85, 0.1, 0.0]])
    assert assign(values, 0.5) == [(0, 1), (1, 0)]  # the greedy choice, 0.9, would leave the other one out
    assert assign(values, 0.95) == []
    assert assign(np.zeros((0, 3)), 0.5) == []


def test_key_frames_come_at_a_stride_and_where_something_enters() -> None:
    random = np.random.default_rng(0)
    still = random.integers(100, 110, (20, 48, 64, 3)).astype(np.uint8)  # a noisy camera
    assert find_key_frames(still, KeyFrameConfig(stride=8)) == (0, 8, 16, 19)
    entered = still.copy()
    entered[5:, 10:30, 10:30] = 250
    assert find_key_frames(entered, KeyFrameConfig(stride=8)) == (0, 5, 13, 19)
    moved = np.stack([np.roll(entered[-1], t // 4, axis=1) for t in range(20)])  # up to a block: nothing is new
    assert find_key_frames(moved, KeyFrameConfig(stride=8)) == (0, 8, 16, 19)
    assert find_key_frames(still[:1], KeyFrameConfig()) == (0,)
    with pytest.raises(InputError):
        KeyFrameConfig(stride=0)


def test_candidates_keep_their_nouns() -> None:
    scene = Scene(CROSSING)
    box = scene.box(0, 0)
    assert box is not None
    both = Candidate(Detection(box, 0.9, "dog", "dog"), {"dog": 0.9, "animal": 0.7})
    tracks = tracked(scene, lambda frame: [both] if frame == 0 else [])
    assert tracks.tracks[0].noun_scores == {"dog": 0.9, "animal": 0.7}
