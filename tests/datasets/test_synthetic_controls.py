"""Copies of videos: what is kept of the original, what changes, and that the verifier has said so of each sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic_cases import CONFIG, case_of, world

from datasets.synthetic import SyntheticConfig
from datasets.synthetic.baselines import guesses
from datasets.synthetic.controls import ControlledVideos, changed
from datasets.synthetic.observed import observe
from datasets.synthetic.program import Look, Moves, Program
from datasets.synthetic.verifier import Verifier
from datasets.synthetic.world import counterpart
from util.expected import expected_scores

SMALL = SyntheticConfig(seed=4, videos=12, frames=8, height=48, width=80)
CIRCLE = Look("shape", "circle")
SPLITS = ("twins", "late", "swap")


def frames_of(video) -> np.ndarray:
    return np.stack([video.frames[t] for t in range(len(video.frames))])


def masks_of(case) -> np.ndarray:
    assert case.video.masks is not None
    return np.stack([case.video.masks.read(t, case.ids)[0] for t in range(len(case.video.frames))])


def test_without_a_control_videos_are_as_they_are() -> None:
    config = replace(SMALL, split="twins")
    plain, controlled = ControlledVideos(config).source, ControlledVideos(config)
    assert len(plain) == len(controlled)
    assert controlled[3].expressions == plain[3].expressions
    assert controlled[3].id == plain[3].id
    assert (frames_of(controlled[3]) == frames_of(plain[3])).all()


def test_backwards_left_is_right() -> None:
    """In the world made by hand the circle that moves left is 1, and backwards 2; the square stays what it is."""
    programs = Program((CIRCLE, Moves("left"))), Program((Look("shape", "square"),)), Program((Moves("still"),))
    case = case_of(world(), *programs)
    assert [sentence.object_ids for sentence in case.sentences] == [(1,), (3,), (3,)]
    ((here, there),) = changed(case.sentences, Verifier(case.observed.reversed()))
    assert (here.object_ids, there.object_ids, there.text) == ((1,), (2,), "sentence 0")


def test_in_the_counterpart_the_circles_change_parts() -> None:
    case = case_of(world(), Program((CIRCLE, Moves("right"))), Program((Look("shape", "square"),)))
    ((here, there),) = changed(case.sentences, Verifier(observe(counterpart(world()))))
    assert (here.object_ids, there.object_ids, there.family) == ((2,), (1,), "motion")


def test_a_sentence_that_means_nothing_in_one_of_two_videos_is_not_kept() -> None:
    case = case_of(world(), Program((CIRCLE, Moves("left"))), Program((CIRCLE, Moves("up"))))
    assert [sentence.object_ids for sentence in case.sentences] == [(1,), ()]
    alone = replace(world(), things=world().things[:1])
    assert changed(case.sentences, Verifier(observe(alone).reversed())) == []


@pytest.mark.parametrize("split", SPLITS)
def test_reversed_copies_are_backwards_and_every_answer_differs(split) -> None:
    config = replace(SMALL, split=split)
    plain, back = ControlledVideos(config), ControlledVideos(config, "reversed")
    assert (frames_of(back[0]) == frames_of(plain[0])[::-1]).all()
    asked = 0
    for number in range(len(back)):
        case, original = back.case(number), plain.case(number)
        assert (masks_of(case) == masks_of(original)[::-1]).all()
        assert len(case.sentences) <= SMALL.expressions
        forwards = Verifier(original.observed)
        for sentence, expression, alike in zip(case.sentences, case.video.expressions, case.alike, strict=True):
            assert alike == (forwards.referents(sentence.program), sentence.object_ids)
            assert expression.object_ids == sentence.object_ids != alike[0]
            assert () not in alike
            assert case.verifier.referents(sentence.program) == sentence.object_ids
            asked += 1
    assert asked >= 3


def test_shuffled_copies_hold_the_same_frames_and_tell_a_frame_by_frame_answer_nothing_new() -> None:
    config = replace(SMALL, split="twins")
    plain, mixed = ControlledVideos(config), ControlledVideos(config, "shuffled")
    for number in range(3):
        before, after = plain.case(number), mixed.case(number)
        order = [
            next(t for t, other in enumerate(frames_of(before.video)) if (frame == other).all())
            for frame in frames_of(after.video)
        ]
        assert sorted(order) == list(range(SMALL.frames)) and order != sorted(order)
        assert (masks_of(after) == masks_of(before)[order]).all()
        assert after.video.expressions == before.video.expressions
        for baseline in ("largest", "random", "static-track", "single-frame"):
            one, two = (expected_scores(c.video, {"x": guesses(c, baseline)})["x"] for c in (before, after))
            assert [score.j_and_f for score in one] == pytest.approx([score.j_and_f for score in two], abs=1e-12)


@pytest.mark.parametrize("split", SPLITS)
def test_pairs_share_their_first_frame_and_words_and_no_answer(split) -> None:
    videos = ControlledVideos(replace(SMALL, split=split), "pairs")
    asked = 0
    assert len(videos) == 2 * SMALL.videos
    for number in range(0, len(videos), 2):
        one, two = videos.case(number), videos.case(number + 1)
        assert one.video.id != two.video.id
        assert [s.text for s in one.sentences] == [s.text for s in two.sentences]
        assert (one.video.frames[0] == two.video.frames[0]).all()
        assert (masks_of(one)[0] == masks_of(two)[0]).all()
        for here, there, alike in zip(one.sentences, two.sentences, one.alike, strict=True):
            assert here.object_ids != there.object_ids
            assert alike == (here.object_ids, there.object_ids)
            assert one.verifier.referents(here.program) == here.object_ids
            assert two.verifier.referents(there.program) == there.object_ids
            asked += 1
        if one.sentences:
            assert (masks_of(one) != masks_of(two)).any()
            assert one.alike == two.alike
    assert asked >= 5


def test_the_first_frame_of_a_hard_video_does_not_show_what_comes_either() -> None:
    videos = ControlledVideos(replace(SMALL, split="twins", hard=True, videos=4), "pairs")
    for number in range(0, len(videos), 2):
        assert (videos[number].frames[0] == videos[number + 1].frames[0]).all()
        assert (videos[number].frames[4] != videos[number + 1].frames[4]).any()


def test_one_answer_for_both_of_a_pair_is_half_right() -> None:
    videos = ControlledVideos(replace(SMALL, split="twins"), "pairs")
    found = []
    for number in range(len(videos)):
        case = videos.case(number)
        scores = expected_scores(case.video, {"x": guesses(case, "same-answer")})["x"]
        found += [score.j_and_f for score in scores]
        assert all(score.j_and_f >= 0.5 for score in scores)  # and more where the two answers overlap
    assert np.mean(found) < 0.75


def test_hand_made_size_is_what_the_cases_are_filmed_at() -> None:
    assert case_of(world(), Program((CIRCLE, Moves("left")))).video.frames.size == (CONFIG.height, CONFIG.width)
