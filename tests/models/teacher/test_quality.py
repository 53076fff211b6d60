"""Quality: what is measured of masklets, floors and weights; the checks; the whole judgement; and the baseline."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from models.teacher.baseline import Baseline, middle_first
from models.teacher.checks import CheckConfig
from models.teacher.edits import edits
from models.teacher.interfaces import Question
from models.teacher.judging import FrameScores, JudgeConfig
from models.teacher.labelled import answer_masks, labelled_masklets, volume_j
from models.teacher.match.frames import seen_NT
from models.teacher.movement import travels
from models.teacher.parser import RuleParser
from models.teacher.pipeline import Backends, Taught, Teacher, TeacherConfig
from models.teacher.quality import FEATURES, masklet_features, plain_weight, track_features, unused_frames, weigh
from models.teacher.resolver import Decision
from models.teacher.scripted import Faults, ScriptedDetector, ScriptedMatcher, ScriptedSegmenter, Truth
from models.teacher.stages import Stopwatch
from util.scoring import true_masks

VIDEOS = SyntheticVideos(SyntheticConfig(seed=7, videos=6, frames=12, height=48, width=80, no_target=0.3))
TRUTH = Truth(VIDEOS, range(1, 9))
NAN = float("nan")
SURE = Decision("0", "ok", (0,), "one", p=0.9, margin=0.5, votes=5, frames=6)
FINE = dict.fromkeys(FEATURES, 0.9) | {"fragments": 1.0, "area_jump": 0.0, "leap": 0.1, "border": 0.0, "disputed": 0.0}


def models(faults: Faults) -> tuple[ScriptedDetector, ScriptedSegmenter, ScriptedMatcher]:
    return ScriptedDetector(TRUTH, faults), ScriptedSegmenter(TRUTH, faults), ScriptedMatcher(TRUTH, faults)


def teach(folder: Path, faults: Faults, number: int) -> Taught:
    detector, segmenter, matcher = models(faults)
    backends = Backends(RuleParser(), detector, segmenter, {"scripted": matcher})
    return Teacher(backends, TeacherConfig(), folder / f"{number}").teach(VIDEOS[number], Stopwatch())


def truth_of(number: int) -> np.ndarray:
    return np.stack([true_masks(VIDEOS[number], t)[0] for t in range(12)], axis=1)


def test_models_that_do_not_err_teach_the_truth(tmp_path: Path) -> None:
    for number in range(len(VIDEOS)):
        taught = teach(tmp_path, Faults(), number)
        assert (answer_masks(taught) == truth_of(number)).all()
        for decision, quality, expression in zip(
            taught.decisions, taught.qualities, VIDEOS[number].expressions, strict=True
        ):
            assert decision.status == ("ok" if expression.object_ids else "no_target")
            if quality is not None:
                found = quality.features
                assert found["cycle_iou"] == found["redetect_iou"] == found["vote_share"] == 1 and quality.weight > 0.4
        assert [masklet.j for masklet in labelled_masklets(taught)] == [1.0] * sum(
            bool(e.object_ids) for e in VIDEOS[number].expressions
        )


def test_features_tell_of_tracks_that_go_astray(tmp_path: Path) -> None:
    """No score tells of a swap or a damaged mask; going back, jumps and fresh frames do."""
    sound, astray = [], []
    for kind in ("id_swaps", "mask_noise"):
        for number in range(len(VIDEOS)):
            for masklet in labelled_masklets(teach(tmp_path / kind, Faults(**{kind: 0.6}, seed=3), number)):
                (sound if masklet.j > 0.95 else astray).append(masklet)
    assert len(sound) > 4 and len(astray) > 4
    worse = {name: np.nanmean([m.features[name] for m in astray]) for name in FEATURES}
    better = {name: np.nanmean([m.features[name] for m in sound]) for name in FEATURES}
    assert worse["cycle_iou"] < better["cycle_iou"] and worse["leap"] > better["leap"]
    assert worse["redetect_iou"] < better["redetect_iou"]


def test_features_are_whole_and_the_worst_track_counts(tmp_path: Path) -> None:
    taught = teach(tmp_path, Faults(), 0)
    of_tracks = {row: track_features(taught.tracks, row) for row in range(len(taught.tracks))}
    assert all(0 <= found["stability"] <= 1 and found["fragments"] >= 1 for found in of_tracks.values())
    both = masklet_features(replace(SURE, rows=(0, 1)), of_tracks, {})
    assert tuple(both) == FEATURES and np.isnan(both["verify"]) and np.isnan(both["cycle_iou"])
    assert both["stability"] == pytest.approx(min(of_tracks[row]["stability"] for row in (0, 1)), abs=1e-6)
    assert both["leap"] == pytest.approx(max(of_tracks[row]["leap"] for row in (0, 1)), abs=1e-6)


def test_weights_and_floors() -> None:
    assert plain_weight(FINE) == pytest.approx(0.9 * 0.9)
    assert plain_weight(FINE | {"cycle_iou": 0.4}) == pytest.approx(0.9 * 0.9 * 0.5)
    assert plain_weight(FINE | {"verify": NAN, "cycle_iou": NAN}) == pytest.approx(0.9)
    sure = weigh(SURE, FINE, None)
    assert (sure.weight, sure.calibrated, sure.reason) == (0.81, False, "")
    assert weigh(replace(SURE, factor=0.5), FINE, None).weight == 0.405
    for name, value in (("cycle_iou", 0.4), ("area_jump", 0.6), ("match_p", 0.3), ("area", 1e-5)):
        broken = weigh(SURE, FINE | {name: value}, None)
        assert (broken.weight, broken.reason) == (0.0, f"floor:{name}")
    unknown = dict.fromkeys(FEATURES, NAN) | {"match_p": 0.9}
    assert weigh(SURE, unknown | {"area": 0.1}, None).weight == 0.9  # NaN breaks no floor
    never = weigh(SURE, unknown, None)
    assert (never.weight, never.reason) == (0.0, "never_present")
    for expected, weight in ((0.35, 0.0), (0.55, 0.5), (0.75, 1.0), (0.9, 1.0)):
        told = weigh(SURE, FINE, lambda features, j=expected: j)
        assert told.weight == pytest.approx(weight) and told.quality == expected
        assert told.reason == ("" if weight else "low_quality")
    sure_of_itself = lambda features: 0.8  # noqa: E731
    assert weigh(SURE, FINE | {"cycle_iou": 0.0}, sure_of_itself).weight == 1  # which has seen how that check errs
    assert weigh(SURE, FINE | {"area": 1e-5}, sure_of_itself).reason == "floor:area"


def test_edited_sentences_fit_less_and_what_moves_is_seen_to(tmp_path: Path) -> None:
    """Of true masklets; NaN, and nothing else, where there is no word to swap, or nothing is said to go anywhere."""
    moving = 0
    for number in range(len(VIDEOS)):
        taught = teach(tmp_path, Faults(), number)
        for parsed, quality in zip(taught.parsed, taught.qualities, strict=True):
            if quality is None:
                continue
            gap = quality.features["hardneg_gap"]
            assert gap > 0 if edits(parsed, motion=True) else np.isnan(gap)
            moves = quality.features["motion_ok"]
            assert moves in (0, 1) or np.isnan(moves)
            assert travels(parsed) or np.isnan(moves)
            moving += moves == 1
    assert moving > 0


def test_who_is_not_asked_of_edited_sentences_says_nothing(tmp_path: Path) -> None:
    detector, segmenter, matcher = models(Faults())
    config = TeacherConfig(judge=JudgeConfig(checks=CheckConfig(edited=False)))
    backends = Backends(RuleParser(), detector, segmenter, {"scripted": matcher})
    taught = Teacher(backends, config, tmp_path).teach(VIDEOS[0], Stopwatch())
    found = [quality.features for quality in taught.qualities if quality is not None]
    assert found and all(np.isnan(f["hardneg_gap"]) and np.isfinite(f["verify"]) for f in found)


def test_fresh_frames_are_seen_and_unused() -> None:
    seen = np.array([0, 1, 1, 1, 1, 1, 0, 1], bool)
    fresh = unused_frames(seen, (1, 2), 2)
    assert len(fresh) == 2 and set(fresh) <= {3, 4, 5, 7}
    assert unused_frames(seen, range(8), 4) == () and unused_frames(np.zeros(3, bool), (), 4) == ()


def test_scores_survive_json(tmp_path: Path) -> None:
    taught = teach(tmp_path, Faults(), 1)
    matcher = models(Faults())[2]
    frames = tuple(np.flatnonzero(seen_NT(taught.tracks).any(0))[:2].tolist())
    scores = matcher.score(Question("v", {t: VIDEOS[1].frames[t] for t in frames}, [], taught.parsed))
    said = FrameScores(frames, {"m": scores})
    again = FrameScores.from_dict(json.loads(json.dumps(said.to_dict())))
    assert again.frames == frames
    np.testing.assert_array_equal(again.by_matcher["m"].scores_ENF, scores.scores_ENF)
    np.testing.assert_array_equal(again.by_matcher["m"].absent_E, scores.absent_E)


def test_j_of_a_volume() -> None:
    masks = np.zeros((3, 2, 2), bool)
    masks[0] = True
    assert volume_j(masks, masks) == 1 and volume_j(masks, ~masks) == 0 and volume_j(masks[1:], masks[1:]) == 0
    assert volume_j(masks, np.roll(masks, 1, 1) & [[[True, False]]]) == 0.5


def test_the_middle_comes_first() -> None:
    assert middle_first(7) == [3, 1, 5, 0, 2, 4, 6] and middle_first(1) == [0]
    expected = [15, 7, 23, 3, 11, 19, 27, 1, 5, 9, 13, 17, 21, 25, 29, 0, 2, 4, 6]
    assert middle_first(32)[:19] == expected and middle_first(32)[-1] == 31
    assert all(sorted(middle_first(n)) == list(range(n)) for n in range(60))


@pytest.mark.parametrize("step", [None, 5])
def test_the_baseline_answers_what_its_frame_shows(step: int | None) -> None:
    detector, segmenter, matcher = models(Faults())
    for number in range(len(VIDEOS)):
        answer = Baseline(RuleParser(), detector, segmenter, matcher, step).answer(VIDEOS[number])
        truth = truth_of(number)
        for e, expression in enumerate(VIDEOS[number].expressions):
            assert not answer[e].any() or expression.object_ids
            if step is None and answer[e].any():
                assert (answer[e] == truth[e]).all()


def test_what_errs_is_answered_all_the_same(tmp_path: Path) -> None:
    faults = Faults(missed=1.0)
    taught = teach(tmp_path, faults, 0)
    assert len(taught.tracks) == 0 and {d.status for d in taught.decisions} == {"no_candidates"}
    detector, segmenter, matcher = models(faults)
    for step in (None, 5):
        assert not Baseline(RuleParser(), detector, segmenter, matcher, step).answer(VIDEOS[0]).any()
