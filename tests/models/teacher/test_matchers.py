"""Matchers: what each scores, NaN where nothing was judged, and those with models from a local folder, on the CPU."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from models.teacher.calibration import Isotonic
from models.teacher.detect.grounding_dino import Grounding, GroundingDino
from models.teacher.interfaces import MatchScores, ModelInfo, Parsed, Question
from models.teacher.match.external import ExternalMatcher, requests
from models.teacher.match.florence import FlorenceMatcher
from models.teacher.match.frames import choose_frames, view_of
from models.teacher.match.fusion import Voice, fuse
from models.teacher.match.marks import MOST, MarksMatcher, mark, read_numbers
from models.teacher.match.oracle import OracleMatcher, RandomMatcher
from models.teacher.match.phrase import PhraseMatcher, phrase_scores
from models.teacher.match.region_text import RegionTextMatcher, views
from models.teacher.parser import RuleParser
from models.teacher.parser_llm import LanguageModelParser, read_answer
from models.teacher.scripted import Truth
from tests.models.teacher.tiny_languages import save_causal, save_clip, save_qwen_vl, save_siglip
from tests.models.teacher.tiny_models import save_grounding_dino
from util.errors import InputError

VIDEOS = SyntheticVideos(SyntheticConfig(seed=5, videos=1, frames=6, height=48, width=80))
INFO = ModelInfo("test", "test", None, "mit")
SENTENCES = [RuleParser().parse(text) for text in ("the red car", "a dog on the left", "...")]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scene() -> tuple[dict[int, np.ndarray], list]:
    """Two frames, and two tracks, of which the second is seen in the second frame alone."""
    images = {2: VIDEOS[0].frames[2], 4: VIDEOS[0].frames[4]}
    masks = np.zeros((2, 6, 48, 80), bool)
    masks[0, :, 5:20, 5:30] = True
    masks[1, 4, 25:40, 40:70] = True
    return images, [view_of(0, masks[0]), view_of(1, masks[1])]


def check_scores(matcher, *, judged: int = 2) -> MatchScores:
    """Shares where a track is seen and the sentence was judged, NaN elsewhere; the same again."""
    images, tracks = scene()
    found = matcher.score(Question("v", images, tracks, SENTENCES))
    assert found.scores_ENF.shape == (3, 2, 2) and found.absent_E.shape == (3,)
    assert np.isfinite(found.scores_ENF[:judged, [0, 0, 1], [0, 1, 1]]).all()
    assert np.isnan(found.scores_ENF[:, 1, 0]).all() and np.isnan(found.scores_ENF[judged:]).all()
    known = found.scores_ENF[np.isfinite(found.scores_ENF)]
    assert known.min() >= 0 and known.max() <= 1
    again = matcher.score(Question("v", images, tracks, SENTENCES))
    np.testing.assert_array_equal(found.scores_ENF, again.scores_ENF)
    for n, f in ((0, 0), (0, 1), (1, 1)):  # a track alone: only who competes may differ
        assert matcher.score(Question("v", images, tracks[n : n + 1], SENTENCES)).scores_ENF.shape == (3, 1, 2), f
    assert matcher.score(Question("v", images, [], SENTENCES)).scores_ENF.shape == (3, 0, 2)
    assert matcher.info.licence
    return found


# ---- without a model -------------------------------------------------------------------------------------------------


def test_the_phrase_score_is_the_stated_one() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    grounding = Grounding(("red", "car"), 1, boxes, np.array([[0.2, 0.8], [0.9, 0.1]]))
    expected = [max(np.sqrt(0.8 * 0.5), 0.5 * np.sqrt(0.1 * 0.5)), max(0.5 * np.sqrt(0.8 * 0.5), np.sqrt(0.1 * 0.5))]
    np.testing.assert_allclose(phrase_scores(grounding, boxes), expected)
    assert phrase_scores(grounding, np.array([[50.0, 50, 60, 60]])).tolist() == [0]


class Boxes:
    """A Florence-2 that answers every sentence with one box."""

    info = INFO

    def run(self, image_HW3: np.ndarray, task: str, *, text: str = ""):
        return SimpleNamespace(regions=[SimpleNamespace(box=(5.0, 5.0, 30.0, 18.0))] if task.startswith("cap") else [])


def test_florence_scores_are_overlaps_from_one_half_on() -> None:
    found = check_scores(FlorenceMatcher(Boxes()))
    assert found.scores_ENF[0, 0].tolist() == pytest.approx([13 / 15] * 2) and found.scores_ENF[0, 1, 1] == 0


def test_the_oracle_knows_and_chance_does_not() -> None:
    truth = Truth(VIDEOS, range(1, 9))
    video = truth.video(0)
    tracks = [view_of(n, video.masks_TNHW[:, n]) for n in range(len(video.objects))]
    images = {frame: VIDEOS[0].frames[frame] for frame in (0, 5)}
    parsed = [RuleParser().parse(e.text) for e in VIDEOS[0].expressions]
    question = Question("v", images, tracks, parsed)
    found = OracleMatcher(truth).score(question)
    for e, sentence in enumerate(parsed):
        for n in range(len(tracks)):
            scores = found.scores_ENF[e, n][np.isfinite(found.scores_ENF[e, n])]
            assert (scores == float(n in video.referents[sentence.text])).all()
    chance = RandomMatcher(1).score(question)
    assert (np.isnan(chance.scores_ENF) == np.isnan(found.scores_ENF)).all()
    assert not np.array_equal(chance.scores_ENF, RandomMatcher(2).score(question).scores_ENF)


def test_frames_show_every_track_far_apart() -> None:
    seen = np.zeros((3, 40))
    seen[0], seen[1, 30:34], seen[2, 3] = 1, 1, 1
    chosen = choose_frames(seen, 5)
    assert len(chosen) == 5 and list(chosen) == sorted(set(chosen)) and 3 in chosen
    assert any(30 <= frame < 34 for frame in chosen) and max(np.diff(chosen)) < 20
    assert choose_frames(np.zeros((2, 9)), 4) == () and choose_frames(np.ones((1, 2)), 6) == (0, 1)


def test_fusion_leaves_out_what_was_not_judged() -> None:
    nan = float("nan")
    one = MatchScores(np.array([[[0.9, nan, nan]]]), np.array([0.2]))
    two = MatchScores(np.array([[[0.5, 0.7, nan]]]), np.array([nan]))
    fused = fuse({"a": one, "b": two}, {"a": Voice(3.0)})
    odds = 9.0 ** (3 / 4)
    np.testing.assert_allclose(fused.scores_ENF[0, 0], [odds / (1 + odds), 0.7, nan])
    assert fused.absent_E[0] == pytest.approx(0.2) and fuse({"a": one}, {}) is one
    mapped = fuse({"a": one}, {"a": Voice(1.0, Isotonic((0.0, 1.0), (0.0, 0.5)))})
    assert mapped.scores_ENF[0, 0, 0] == pytest.approx(0.45)


# ---- answers made elsewhere ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stored:
    """What `requests` reads of tracks."""

    fingerprint: str = "f00"
    video_id: str = "v"

    def pixel_boxes_NT4(self) -> np.ndarray:
        return np.stack([track.boxes_T4 for track in scene()[1]])

    def visible_NT(self) -> np.ndarray:
        return np.stack([track.presence_T > 0 for track in scene()[1]])


def sent(folder: Path) -> Path:
    expressions = [SimpleNamespace(id=str(e), text=parsed.text) for e, parsed in enumerate(SENTENCES)]
    lines = requests(Stored(), (2, 4), expressions, {2: "a.jpg", 4: "b.jpg"})
    (folder / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "requests.jsonl"


def reply(folder: Path, *changes: dict) -> Path:
    plain = {
        "schema": "rvos-scores/1", "fingerprint": "f00", "video_id": "v", "expression_id": "0", "frame": 4,
        "matcher": {"name": "m", "model_id": "them/model", "revision": None, "licence": "non-commercial"},
        "track_index": 0, "score": 0.8,
    }  # fmt: skip
    (folder / "scores.jsonl").write_text("".join(json.dumps(plain | change) + "\n" for change in changes))
    return folder / "scores.jsonl"


def test_answers_made_elsewhere_come_back(tmp_path: Path) -> None:
    chosen = {"track_index": None, "selected": [1], "candidates": [0, 1], "expression_id": "1", "frame": None}
    asked = sent(tmp_path)
    path = reply(tmp_path, {}, {"frame": None, "score": 0.3}, {"absent": 0.1})
    lines = path.read_text().splitlines()
    more = json.loads(lines[0]) | chosen
    del more["track_index"], more["score"]
    path.write_text("\n".join([*lines, json.dumps(more)]))
    matcher = ExternalMatcher(path, asked)
    found = matcher.score(Question("v", *scene(), SENTENCES))
    np.testing.assert_array_equal(found.scores_ENF[0], [[0.3, 0.8], [np.nan, np.nan]])
    np.testing.assert_array_equal(found.scores_ENF[1], [[0, 0], [np.nan, 1]])
    assert found.absent_E[0] == 0.1 and np.isnan(found.absent_E[1:]).all()
    assert matcher.info.licence == "non-commercial" and matcher.info.model_id == "them/model"
    assert np.isnan(matcher.score(Question("another", *scene(), SENTENCES)).scores_ENF).all()
    images, tracks = scene()
    moved = view_of(0, np.roll(np.stack([tracks[0].mask(t) for t in range(6)]), 3, 1))
    with pytest.raises(InputError, match="tracked anew"):
        matcher.score(Question("v", images, [moved], SENTENCES))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "bad"}, "other tracks"),
        ({"track_index": 7}, "track 7 was not shown"),
        ({"track_index": 1, "frame": 2}, "track 1 was not shown in frame 2"),
        ({"score": 1.5}, "score is 1.5"),
        ({"score": float("nan")}, "score is nan"),
        ({"score": None}, "score is None"),
        ({"absent": -1}, "absent is -1"),
        ({"expression_id": "9"}, "was not asked"),
        ({"schema": "rvos-scores/2"}, "schema"),
        ({"matcher": {"model_id": "x"}}, "licence"),
    ],
)
def test_answers_out_of_range_are_refused_with_their_line(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=f"line 2: .*{message}"):
        ExternalMatcher(reply(tmp_path, {}, change), sent(tmp_path))


# ---- models with random weights --------------------------------------------------------------------------------------


def test_grounding_dino_as_a_matcher(tmp_path: Path) -> None:
    check_scores(PhraseMatcher(GroundingDino(save_grounding_dino(tmp_path))))


@pytest.mark.parametrize("save", [save_siglip, save_clip])
def test_image_and_text_models_as_matchers(tmp_path: Path, save) -> None:
    matcher = RegionTextMatcher(save(tmp_path))
    found = check_scores(matcher, judged=3)
    assert (np.nansum(found.scores_ENF, axis=1) < 1).all()
    pictures = [VIDEOS[0].frames[t] for t in range(3)]
    alone = np.concatenate([matcher.logits([picture], ["the red car"]) for picture in pictures])
    together = matcher.logits(pictures, ["a dog", "the red car"])
    np.testing.assert_allclose(together[:, 1:], alone, atol=1e-4)
    assert np.ptp(together) > 0


def test_views_keep_what_the_mask_shows() -> None:
    image = VIDEOS[0].frames[0]
    mask = np.zeros((48, 80), bool)
    mask[10:30, 20:40] = True
    crop, blurred, outlined = views(image, mask)
    assert (crop == image[7:33, 17:43]).all() and crop.shape == blurred.shape == outlined.shape
    assert (blurred[3:23, 3:23] == crop[3:23, 3:23]).all() and (blurred != crop).any()
    assert (outlined == (255, 0, 0)).all(-1).sum() > 60


def test_a_vision_language_model_as_a_matcher(tmp_path: Path) -> None:
    matcher = MarksMatcher(save_qwen_vl(tmp_path))
    found = check_scores(matcher, judged=3)
    assert np.isfinite(found.absent_E).all()
    assert (found.scores_ENF[:, 0, 0] == found.scores_ENF[:, 0, 1]).all()  # all frames are one question
    assert len(matcher.yes) >= 2 and not set(matcher.yes) & set(matcher.no)


def test_a_list_of_numbers_tips_what_yes_and_no_leave_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matcher = MarksMatcher(save_qwen_vl(tmp_path))
    masks = np.zeros((14, 1, 48, 80), bool)
    for n in range(14):
        masks[n, 0, 3 * n : 3 * n + 3] = True
    asked = Question("v", {0: VIDEOS[0].frames[0]}, [view_of(n, masks[n]) for n in range(14)], SENTENCES[:1])
    counts: list[int] = []
    drawn: list[list[np.ndarray]] = []  # masks in the order of their numbers
    monkeypatch.setattr(matcher, "agrees", lambda pictures, question: 0.5)
    monkeypatch.setattr("models.teacher.match.marks.mark", lambda image, shown: drawn.append(list(shown)) or image)

    def number_of_the_first(pictures: list, question: str, tokens: int) -> str:
        counts.append(len(drawn[-1]))
        found = [number for number, mask in enumerate(drawn[-1], 1) if mask[0, 0]]
        return f"object {found[0]}." if found else "none"

    for answers, first, others in (
        (number_of_the_first, 2 / 3, 1 / 3),
        (lambda *_: "it is the red one", 0.5, 0.5),
        (lambda *_: "13", 0.5, 0.5),
    ):
        monkeypatch.setattr(matcher, "answers", answers)
        scores = matcher.score(asked).scores_ENF[0, :, 0]
        np.testing.assert_allclose(scores, [first, *[others] * 13])
    assert max(counts) == MOST and sum(counts) == 2 * 14
    orders = [[int(mask.any(1).argmax()) for mask in masks] for masks in drawn[:4]]
    assert orders[0] + orders[1] != orders[2] + orders[3], "the second numbering is another one"


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [
        ("1, 3", {1, 3}), ("Objects 2 and 4.", {2, 4}), ("[3]", {3}), ("None", set()), ("none of them.", set()),
        ("", None), ("0", None), ("5", None), ("1, 12", None), ("the dog", None), ("none, or 2", None),
    ],
)  # fmt: skip
def test_only_a_plain_list_is_a_vote(answer: str, numbers: set[int] | None) -> None:
    assert read_numbers(answer, 4) == numbers


def test_an_answer_without_an_end_is_no_answer(tmp_path: Path) -> None:
    matcher = MarksMatcher(save_qwen_vl(tmp_path))
    pictures = [VIDEOS[0].frames[0]]
    said = matcher.model.generation_config
    long = matcher.answers(pictures, "which object", 4)
    inputs = matcher._inputs(pictures, "which object")
    first = int(matcher.model(**inputs).logits[0, -1].argmax())
    said.eos_token_id = [first]
    ended = matcher.answers(pictures, "which object", 4)
    assert long == "" and ended == matcher.processor.tokenizer.decode([first], skip_special_tokens=True) != ""


def test_marks_are_on_their_objects() -> None:
    image = np.full((120, 160, 3), 128, np.uint8)
    masks = np.zeros((2, 120, 160), bool)
    masks[0, 10:60, 10:60], masks[1, 70:110, 100:150] = True, True
    marked = mark(image, list(masks))
    changed = (marked != image).any(-1)
    assert not changed[~np.pad(masks.any(0), 2)[1:-3, 1:-3] & ~masks.any(0)].sum() > changed.sum() * 0.2
    for mask in masks:
        centre = np.zeros_like(mask)
        y, x = (int(side.mean()) for side in np.nonzero(mask))
        centre[y - 6 : y + 6, x - 6 : x + 6] = True
        assert changed[centre].any()
    assert (mark(image, [np.zeros((120, 160), bool)]) == image).all()


# ---- a language model as the parser ----------------------------------------------------------------------------------


def test_a_language_model_that_talks_nonsense_is_not_believed(tmp_path: Path) -> None:
    parser = LanguageModelParser(save_causal(tmp_path))
    assert parser.parse("the two dogs") == RuleParser().parse("the two dogs") and parser.rejected == 1
    assert parser.parse("the two dogs").k == 2 and parser.rejected == 1  # asked once
    assert parser.ask("the dog") == parser.ask("the dog")


def test_valid_answers_are_read() -> None:
    answer = (
        'Sure: {"noun": "Dog", "hypernym": "animal", "cardinality": "k", "k": 2, "negated": false, "motion": true, '
    )
    answer += '"attributes": {"colour": ["red"], "side": "left", "taste": ["sweet"], "size": [3]}}'
    expected = Parsed("x", "dog", "animal", "k", 2, False, True, {"colour": ("red",), "side": ("left",)})
    assert read_answer("x", answer) == expected


@pytest.mark.parametrize(
    "answer",
    [
        "", "dog", "[]", '{"noun": ""}', '{"noun": 3}', '{"noun": "a very long name of it all"}',
        '{"noun": "dog", "cardinality": "some"}', '{"noun": "dog", "cardinality": "k", "k": true}',
        '{"noun": "dog", "cardinality": "k"}', '{"noun": "dog", "motion": "yes"}', '{"noun": "dog"',
    ],
)  # fmt: skip
def test_invalid_answers_are_refused(answer: str) -> None:
    with pytest.raises(InputError):
        read_answer("x", answer)
