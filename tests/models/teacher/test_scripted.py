"""Scripted models: exact without faults, at the stated rates with them, and no score tells of a fault."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from models.teacher.interfaces import Prompt, Question
from models.teacher.match.frames import view_of
from models.teacher.parser import RuleParser
from models.teacher.scripted import Faults, ScriptedDetector, ScriptedMatcher, ScriptedSegmenter, Truth
from models.teacher.scripted.segmenter import damaged
from util.errors import InputError

VIDEOS = SyntheticVideos(SyntheticConfig(seed=5, videos=4, frames=12, height=48, width=80))
TRUTH = Truth(VIDEOS, range(1, 9))
NOUNS = ("circle", "square", "triangle", "star", "cross", "ring")


def test_without_faults_the_detector_is_the_truth() -> None:
    video = TRUTH.video(0)
    for frame in range(12):
        found = ScriptedDetector(TRUTH).detect(VIDEOS[0].frames[frame], ["object"])
        seen = video.boxes_TN4[frame][np.isfinite(video.boxes_TN4[frame, :, 0])]
        assert sorted(d.box for d in found) == sorted(map(tuple, seen.tolist()))
        assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)


def test_objects_answer_to_their_noun_only() -> None:
    video = TRUTH.video(0)
    named = {noun for called in video._called for noun in called} & set(NOUNS)
    assert named
    for noun in named:
        found = ScriptedDetector(TRUTH).detect(VIDEOS[0].frames[0], [noun])
        rows = [n for n in range(len(video.objects)) if video.answers_to(n, noun) and video.masks_TNHW[0, n].any()]
        assert len(found) == len(rows) and all(d.noun == noun for d in found)
    assert ScriptedDetector(TRUTH).detect(VIDEOS[0].frames[0], []) == []


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_detections_are_missed_and_made_up_at_their_rates(rate: float) -> None:
    true = missed = made_up = 0
    for seed in range(12):
        detector = ScriptedDetector(TRUTH, Faults(missed=rate, seed=seed))
        dreamer = ScriptedDetector(TRUTH, Faults(false_boxes=rate, seed=seed))
        for number in range(len(VIDEOS)):
            for frame in range(0, 12, 3):
                image = VIDEOS[number].frames[frame]
                seen = int(np.isfinite(TRUTH.video(number).boxes_TN4[frame, :, 0]).sum())
                true += seen
                missed += seen - len(detector.detect(image, ["object"]))
                made_up += len(dreamer.detect(image, ["object"])) - seen
    assert missed / true == pytest.approx(rate, abs=0.08)
    assert made_up / true == pytest.approx(rate, abs=0.1)


def test_without_faults_every_object_is_followed_exactly() -> None:
    video, session = TRUTH.video(1), ScriptedSegmenter(TRUTH).open(VIDEOS[1].frames)
    middle = 6
    for n in np.flatnonzero(video.masks_TNHW[middle].any((1, 2))).tolist():
        x0, y0, x1, y1 = video.boxes_TN4[middle, n].tolist()
        found = {middle: session.add(n, Prompt(middle, box=(x0, y0, x1, y1)))}
        found |= {frame: session.step(n, frame) for frame in range(middle + 1, 12)}
        found |= {frame: session.step(n, frame, reverse=True) for frame in range(middle - 1, -1, -1)}
        for frame, seen in found.items():
            assert (seen.mask_HW == video.masks_TNHW[frame, n]).all()
            assert (seen.object_score > 0) == seen.mask_HW.any() and 0 <= seen.predicted_iou <= 1
            assert np.isnan(seen.stability) == (not seen.mask_HW.any())


def test_prompts_of_all_kinds_mean_the_same_object() -> None:
    video = TRUTH.video(1)
    n = int(video.masks_TNHW[6].any((1, 2)).argmax())
    mask = video.masks_TNHW[6, n]
    y, x = (float(side[len(side) // 2]) for side in np.nonzero(mask))
    x0, y0, x1, y1 = video.boxes_TN4[6, n].tolist()
    for prompt in (Prompt(6, box=(x0, y0, x1, y1)), Prompt(6, mask_HW=mask), Prompt(6, points=((x, y, 1),))):
        found = ScriptedSegmenter(TRUTH).open(VIDEOS[1].frames).add(0, prompt)
        assert (found.mask_HW == mask).all()


def test_a_prompt_on_nothing_follows_the_background() -> None:
    session = ScriptedSegmenter(TRUTH).open(VIDEOS[0].frames)
    empty = np.argwhere(~TRUTH.video(0).masks_TNHW[0].any(0))[0]
    box = (float(empty[1]), float(empty[0]), float(empty[1] + 1), float(empty[0] + 1))
    first = session.add(0, Prompt(0, box=box))
    assert 0 < first.mask_HW.sum() <= 4 and (session.step(0, 1).mask_HW == first.mask_HW).all()


def test_steps_follow_each_other() -> None:
    session = ScriptedSegmenter(TRUTH).open(VIDEOS[0].frames)
    session.add(0, Prompt(3, box=(0, 0, 20, 20)))
    with pytest.raises(AssertionError):
        session.step(0, 5)


def test_a_swap_goes_over_to_another_object_and_stays() -> None:
    video, session = TRUTH.video(2), ScriptedSegmenter(TRUTH, Faults(id_swaps=1)).open(VIDEOS[2].frames)
    swapped = 0
    for n in np.flatnonzero(video.masks_TNHW[0].any((1, 2))).tolist():
        session.add(n, Prompt(0, mask_HW=video.masks_TNHW[0, n]))
        rows = []
        for frame in range(1, 12):
            mask = session.step(n, frame).mask_HW
            rows.append({m for m in range(len(video.objects)) if (mask == video.masks_TNHW[frame, m]).all()})
        swapped += n not in rows[-1]
        changes = sum(not a & b for a, b in pairwise(rows))
        assert changes <= 1
    assert swapped


def test_damage_leaves_a_mask() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:20, 20:40] = True
    for seed in range(60):
        hurt = damaged(mask, np.random.default_rng(seed))
        assert hurt.any() and 0.02 < (hurt & mask).sum() / (hurt | mask).sum() < 1


def test_no_score_reads_a_fault() -> None:
    """The faults that leave a box or a mask where it is, if changed, leave its scores to the last bit."""
    image, box = VIDEOS[0].frames[4], TRUTH.video(0).boxes_TN4[4]
    clean = ScriptedDetector(TRUTH).detect(image, ["object"])
    shaken = ScriptedDetector(TRUTH, Faults(jitter=0.3)).detect(image, ["object"])
    assert [d.score for d in clean] == [d.score for d in shaken] and clean != shaken
    n = int(np.isfinite(box[:, 0]).argmax())
    x0, y0, x1, y1 = box[n].tolist()
    numbers = []
    for noise in (0.0, 1.0):
        session = ScriptedSegmenter(TRUTH, Faults(mask_noise=noise)).open(VIDEOS[0].frames)
        seen = session.add(0, Prompt(4, box=(x0, y0, x1, y1)))
        numbers.append((seen.object_score, seen.predicted_iou, seen.stability, seen.mask_HW.sum()))
    assert numbers[0][:3] == numbers[1][:3] and numbers[0][3] != numbers[1][3]


def test_false_boxes_score_as_true_ones() -> None:
    true, false = [], []
    for seed in range(20):
        detector = ScriptedDetector(TRUTH, Faults(missed=0, false_boxes=0.5, seed=seed))
        for frame in range(0, 12, 3):
            for d in detector.detect(VIDEOS[0].frames[frame], ["object"]):
                known = set(map(tuple, TRUTH.video(0).boxes_TN4[frame].tolist()))
                (true if d.box in known else false).append(d.score)
    assert len(false) > 50 and abs(np.mean(true) - np.mean(false)) < 0.04


def test_the_matcher_knows_what_is_meant() -> None:
    video, source = TRUTH.video(0), VIDEOS[0]
    expressions = [RuleParser().parse(e.text) for e in source.expressions]
    tracks = [view_of(n, video.masks_TNHW[:, n]) for n in range(len(video.objects))]
    images = {frame: source.frames[frame] for frame in (0, 5, 11)}
    question = Question("any", images, tracks, expressions)
    found = ScriptedMatcher(TRUTH).score(question)
    for e, expression in enumerate(expressions):
        meant = video.referents[expression.text]
        assert (found.absent_E[e] > 0.5) == (not meant)
        for n in range(len(tracks)):
            seen = video.masks_TNHW[[0, 5, 11], n].any((1, 2))
            assert (np.isfinite(found.scores_ENF[e, n]) == seen).all()
            assert ((found.scores_ENF[e, n, seen] > 0.5) == (n in meant)).all()
    wrong = ScriptedMatcher(TRUTH, Faults(wrong_matches=1)).score(question)
    assert ((wrong.scores_ENF > 0.5) & (found.scores_ENF > 0.5)).sum() == 0
    with pytest.raises(InputError, match="no sentence"):
        ScriptedMatcher(TRUTH).score(replace(question, expressions=[RuleParser().parse("another")]))


def test_faults_of_one_kind_leave_the_others_as_they_were() -> None:
    image = VIDEOS[3].frames[2]
    alone = ScriptedDetector(TRUTH, Faults(missed=0.4)).detect(image, ["object"])
    both = ScriptedDetector(TRUTH, Faults(missed=0.4, false_boxes=0.5)).detect(image, ["object"])
    assert set(alone) <= set(both)


def test_bad_input_is_refused() -> None:
    for name in (f.name for f in fields(Faults) if f.name != "seed"):
        with pytest.raises(InputError, match=name):
            replace(Faults(), **{name: 1.5})
    with pytest.raises(InputError, match="lossless"):
        ScriptedDetector(TRUTH).detect(VIDEOS[0].frames[0] ^ 1, ["object"])
