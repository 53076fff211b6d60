"""Grounding DINO and MM-Grounding-DINO: phrases alone and together, scores of the head noun, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor, BertConfig, BertModel

from models.teacher.detect import text_guard
from models.teacher.detect.boxes import box_iou
from models.teacher.detect.grounding import read_grounding
from models.teacher.detect.grounding_dino import GroundingDino
from models.teacher.detect.phrases import clean_phrase, head_index, word_spans, word_tokens
from models.teacher.interfaces import Detection
from tests.models.teacher.tiny_models import save_grounding_dino
from util.errors import InputError

IMAGE = np.random.RandomState(0).randint(0, 255, (60, 80, 3), dtype=np.uint8)
OTHER = np.random.RandomState(1).randint(0, 255, (70, 60, 3), dtype=np.uint8)
NOUNS = ["car", "man in a blue coat", "running dog"]


@pytest.fixture(scope="module", params=["grounding_dino", "mm_grounding_dino"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_grounding_dino(tmp_path_factory.mktemp(request.param), mm=request.param.startswith("mm"))


@pytest.fixture(scope="module")
def detector(folder: Path) -> GroundingDino:
    return GroundingDino(folder, threshold=0.0, text_threshold=0.0)


def test_boxes_and_probabilities_are_transformers_own(folder: Path, detector: GroundingDino) -> None:
    model = AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    inputs = processor(images=IMAGE, text="running dog.", return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs)
    (expected,) = processor.post_process_grounded_object_detection(
        output, inputs.input_ids, threshold=-1.0, target_sizes=[IMAGE.shape[:2]]
    )
    (grounding,) = detector.ground(IMAGE, ["Running  dog"])
    assert grounding.words == ("running", "dog") and grounding.head == 1
    np.testing.assert_allclose(grounding.boxes_Q4, expected["boxes"], rtol=1e-6)
    tokens = processor.tokenizer.convert_ids_to_tokens(inputs.input_ids[0])
    assert tokens == ["[CLS]", "run", "##ning", "dog", ".", "[SEP]"]
    probability_QL = output.logits[0].sigmoid().numpy()
    np.testing.assert_array_equal(grounding.scores_QW[:, 0], probability_QL[:, 1:3].max(1))
    np.testing.assert_array_equal(grounding.head_Q, probability_QL[:, 3])


def test_phrases_asked_together_are_phrases_asked_alone_and_the_image_is_read_once(detector: GroundingDino) -> None:
    reads = []
    handle = detector.backbone.backbone.register_forward_hook(lambda *_: reads.append(1))
    together = detector.ground(IMAGE, NOUNS)
    assert len(reads) == 1
    for noun, answer in zip(NOUNS, together, strict=True):
        (alone,) = detector.ground(IMAGE, [noun])
        np.testing.assert_array_equal(alone.boxes_Q4, answer.boxes_Q4)
        np.testing.assert_array_equal(alone.scores_QW, answer.scores_QW)
    handle.remove()
    assert not np.array_equal(detector.ground(OTHER, NOUNS)[0].boxes_Q4, together[0].boxes_Q4)


def test_detections_lie_in_the_image_above_the_threshold_and_apart(folder: Path, detector: GroundingDino) -> None:
    everything = detector.detect(IMAGE, NOUNS)
    assert {found.noun for found in everything} == set(NOUNS)
    scores = [found.score for found in everything]
    assert scores == sorted(scores, reverse=True)
    threshold = float(np.median(scores))
    some = GroundingDino(folder, threshold=threshold, text_threshold=1.0, iou=0.3).detect(IMAGE, NOUNS)
    assert some and all(found.score > threshold and found.phrase == "" for found in some)
    for found in everything + some:
        left, top, right, bottom = found.box
        assert 0 <= left < right <= 80 and 0 <= top < bottom <= 60
    for found in everything:
        words, said = zip(*found.token_scores, strict=True)
        assert list(words) == found.noun.split() and said[head_index(words)] == found.score
        assert found.phrase == " ".join(word for word, score in found.token_scores if score > 0)
    for noun in NOUNS:
        boxes = np.asarray([found.box for found in some if found.noun == noun]).reshape(-1, 4)
        assert (box_iou(boxes, boxes)[~np.eye(len(boxes), dtype=bool)] <= 0.3).all()
    assert detector.detect(IMAGE, []) == []


def test_a_score_is_the_head_nouns_and_not_the_loudest_words() -> None:
    phrase = "man in a blue coat"
    offsets = [(0, 0), (0, 3), (4, 6), (7, 8), (9, 13), (14, 16), (16, 18), (18, 19), (0, 0)]
    probability_QL = torch.zeros(2, 16)
    probability_QL[0, [1, 6]] = torch.tensor([0.2, 0.9])  # a coat; "coat" is two tokens
    probability_QL[1, [1, 5]] = torch.tensor([0.7, 0.1])  # a man
    probability_QL[:, [0, 7, 8]] = 1.0  # [CLS], the full stop and [SEP] are no words
    logits_QL = torch.logit(probability_QL)
    answer = read_grounding(phrase, "", offsets, torch.zeros(2, 4), logits_QL)
    np.testing.assert_allclose(answer.head_Q, [0.2, 0.7], rtol=1e-6)
    np.testing.assert_allclose(answer.scores_QW[:, 4], [0.9, 0.1], rtol=1e-6)
    coat = read_grounding(phrase, "coat", offsets, torch.zeros(2, 4), logits_QL)
    np.testing.assert_allclose(coat.head_Q, [0.9, 0.1], rtol=1e-6)


@pytest.mark.parametrize(
    ("phrase", "head"),
    [("polar bear", "bear"), ("man in a blue coat", "man"), ("glass of water", "glass"), ("dog", "dog")],
)
def test_the_head_noun_of_a_phrase(phrase: str, head: str) -> None:
    words = phrase.split()
    assert words[head_index(words)] == head
    assert head_index(words, "tree") == head_index(words)


def test_words_find_their_tokens() -> None:
    phrase = clean_phrase(" The T-shirt.  of a\tman? ")
    assert phrase == "the t-shirt of a man"
    spans = word_spans(phrase)
    assert [phrase[first:last] for first, last in spans] == ["the", "t-shirt", "of", "a", "man"]
    offsets = [(0, 0), (0, 3), (4, 5), (5, 6), (6, 11), (12, 14), (15, 16), (17, 20), (20, 21), (0, 0)]
    assert word_tokens(spans, offsets) == [[1], [2, 3, 4], [5], [6], [7]]


def test_info_names_the_family(folder: Path, detector: GroundingDino) -> None:
    assert detector.info.backend == ("mm_grounding_dino" if folder.name.startswith("mm") else "grounding_dino")
    assert detector.info.model_id == str(folder)


def test_what_it_cannot_read_is_refused(
    detector: GroundingDino, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no word"):
        detector.detect(IMAGE, ["..."])
    with pytest.raises(InputError, match=r"42 tokens and the model reads 32"):
        detector.detect(IMAGE, ["red " * 38 + "car"])
    with pytest.raises(InputError, match="2000x4 pixels is too long and thin"):
        detector.detect(np.zeros((4, 2000, 3), np.uint8), ["car"])
    with monkeypatch.context() as patch:
        patch.setattr(detector.model.config, "num_queries", 31)
        with pytest.raises(InputError, match="2000x60 pixels"):
            detector.detect(np.zeros((60, 2000, 3), np.uint8), ["car"])  # 4 x 128: 16 + 8 + 4 + 2 tokens
    BertModel(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=9)).save_pretrained(
        tmp_path / "bert"
    )
    with pytest.raises(InputError):
        GroundingDino(tmp_path / "bert")


def test_the_guard_knows_both_faults(detector: GroundingDino, monkeypatch: pytest.MonkeyPatch) -> None:
    text_guard.check_text_positions(detector.model)
    layer = type(detector.model.model.encoder.layers[0])
    right = layer.get_text_position_embeddings
    with monkeypatch.context() as patch:
        patch.setattr(layer, "get_text_position_embeddings", lambda *given: right(*given).trunc())
        with pytest.raises(InputError, match=r"cut to integers.*5\.23\.0"):
            text_guard.check_text_positions(detector.model)
    module = __import__(type(detector.model).__module__, fromlist=["x"])
    name = "generate_masks_with_special_tokens_and_transfer_map"
    good = getattr(module, name)

    def forgets_the_full_stop(input_ids: torch.Tensor, **given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mask, positions = good(input_ids, **given)
        return mask, positions.masked_fill(torch.isin(input_ids, torch.tensor([1012])), 0)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, forgets_the_full_stop)
        with pytest.raises(InputError, match=r"\[0, 0, 1, 0, 0\] and not \[0, 0, 1, 2, 0\]"):
            text_guard.check_text_positions(detector.model)


def test_the_guard_is_asked_when_a_model_is_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: object) -> None:
        raise InputError("refused")

    monkeypatch.setattr("models.teacher.detect.grounding_dino.check_text_positions", refuse)
    with pytest.raises(InputError, match="refused"):
        GroundingDino(folder)


def test_a_copy_elsewhere_answers_the_same(folder: Path, detector: GroundingDino, tmp_path: Path) -> None:
    copy = GroundingDino(shutil.copytree(folder, tmp_path / "copy"), threshold=0.0, text_threshold=0.0)
    found: list[Detection] = copy.detect(IMAGE, NOUNS)
    assert found == detector.detect(IMAGE, NOUNS) and copy.info.revision == detector.info.revision
