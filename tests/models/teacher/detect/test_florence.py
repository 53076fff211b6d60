"""Florence-2: what it is asked, and what its answers mean, beside transformers' own reading of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Florence2Processor

from models.teacher.detect.florence import TASKS, Florence2, read_answer
from models.teacher.detect.florence_answers import location_tokens, plain_text, read_regions, region_mask
from tests.models.teacher.tiny_models import save_florence
from util.errors import InputError

HEIGHT, WIDTH = 500, 1000  # a bin is 1 pixel wide and half a pixel high
IMAGE = np.random.RandomState(0).randint(0, 255, (60, 80, 3), dtype=np.uint8)
KINDS = ("ocr", "phrase_grounding", "pure_text", "description_with_bboxes", "polygons", "bboxes")


@pytest.fixture(scope="module")
def florence(tmp_path_factory: pytest.TempPathFactory) -> Florence2:
    return Florence2(save_florence(tmp_path_factory.mktemp("florence")), max_tokens=2)


def prompts_of(florence: Florence2, monkeypatch: pytest.MonkeyPatch, answers: list[str]) -> list[str]:
    """Let the model write these answers, one a call; what it is asked is appended to the list returned."""
    asked: list[str] = []

    def generate(input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        asked.append(florence.processor.tokenizer.decode(input_ids[0]).replace("<image>", ""))
        return florence.processor.tokenizer(f"</s><s>{answers[len(asked) - 1]}</s>", return_tensors="pt").input_ids

    monkeypatch.setattr(florence.model, "generate", generate)
    return asked


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("od", "dog<loc_10><loc_20><loc_500><loc_700><loc_6><loc_0><loc_999><loc_9>car<loc_1><loc_2><loc_9><loc_9>"),
        ("dense_region_caption", "a dog, asleep<loc_10><loc_20><loc_500><loc_700>a car<loc_1><loc_2><loc_90><loc_9>"),
        ("region_proposal", "<loc_10><loc_20><loc_500><loc_700><loc_1><loc_2><loc_90><loc_9>"),
        ("caption_to_phrase_grounding", "A man<loc_10><loc_20><loc_500><loc_700>a dog<loc_1><loc_2><loc_90><loc_9>"),
        ("referring_expression_segmentation", "<loc_10><loc_20><loc_500><loc_20><loc_500><loc_700>"),
        ("referring_expression_segmentation", "<poly><loc_1><loc_2><loc_50><loc_2><loc_5><loc_70><sep><loc_400>"
         "<loc_400><loc_500><loc_500><loc_400><loc_500></poly><poly><loc_9><loc_9><loc_90><loc_9><loc_9><loc_90></poly>"),
        ("ocr_with_region", "EXIT<loc_1><loc_2><loc_90><loc_2><loc_90><loc_30><loc_1><loc_30>"),
    ],
)  # fmt: skip
def test_regions_are_transformers_own_but_for_its_rounding(florence: Florence2, task: str, text: str) -> None:
    processor = Florence2Processor(
        florence.processor.image_processor, florence.processor.tokenizer, post_processor_config={k: {} for k in KINDS}
    )
    expected = processor.post_process_generation(
        text=f"</s><s>{text}</s>", task=f"<{task.upper()}>", image_size=(WIDTH, HEIGHT)
    )[f"<{task.upper()}>"]
    regions = read_answer(task, f"</s><s>{text}</s>", HEIGHT, WIDTH).regions
    assert [region.label for region in regions] == expected["labels"] and regions
    for place, region in enumerate(regions):
        if "bboxes" in expected:
            np.testing.assert_array_equal(np.floor(region.box), expected["bboxes"][place])
        else:
            theirs = expected["polygons"][place] if "polygons" in expected else [expected["quad_boxes"][place]]
            assert len(theirs) == len(region.polygons)
            for polygon_P2, flat in zip(region.polygons, theirs, strict=True):
                np.testing.assert_array_equal(np.floor(polygon_P2).ravel(), flat)


def test_one_polygon_does_not_turn_boxes_into_polygons_and_letters_stay() -> None:
    answer = "café<loc_10><loc_20><loc_500><loc_700>dog<poly><loc_1><loc_2><loc_50><loc_2><loc_5><loc_70></poly>"
    regions = read_regions(answer, "boxes or polygons", HEIGHT, WIDTH)
    assert [(region.label, len(region.polygons)) for region in regions] == [("café", 0), ("dog", 1)]
    assert regions[0].box == (10.5, 10.25, 500.5, 350.25)  # the centres of the bins


@pytest.mark.parametrize("answer", ["", "</s>", "dog", "dog<loc_1><loc_2>", "<poly><sep></poly>", "dog<poly><loc_5>"])
@pytest.mark.parametrize("shape", ["boxes", "quads", "polygons", "boxes or polygons"])
def test_answers_without_a_region_are_no_error(answer: str, shape: str) -> None:
    assert read_regions(answer, shape, HEIGHT, WIDTH) == []  # type: ignore[arg-type]


def test_a_mask_is_the_union_of_its_polygons() -> None:
    square = "<loc_100><loc_200><loc_300><loc_200><loc_300><loc_600><loc_100><loc_600>"
    shifted = "<loc_200><loc_200><loc_400><loc_200><loc_400><loc_600><loc_200><loc_600>"
    (region,) = read_regions(f"dog<poly>{square}<sep>{shifted}</poly>", "polygons", HEIGHT, WIDTH)
    mask_HW = region_mask(region, HEIGHT, WIDTH)
    expected_HW = np.zeros((HEIGHT, WIDTH), bool)
    expected_HW[100:301, 100:401] = True
    assert mask_HW.tolist() == expected_HW.tolist()
    assert region.box == (100.5, 100.25, 400.5, 300.25)


def test_a_told_box_is_the_box_that_is_read() -> None:
    box = (10.5, 10.25, 500.5, 350.25)
    (region,) = read_regions(location_tokens(box, HEIGHT, WIDTH), "boxes", HEIGHT, WIDTH)
    assert region.box == box
    assert location_tokens((-3, 0, WIDTH, HEIGHT), HEIGHT, WIDTH) == "<loc_0><loc_0><loc_999><loc_999>"


def test_plain_text_has_no_tokens() -> None:
    assert plain_text("</s><s>A man, 5 < 6,<loc_3> in  a coat.</s><pad>") == "A man, 5 < 6, in a coat."


@pytest.mark.parametrize("task", TASKS)
def test_every_task_runs_on_the_cpu(florence: Florence2, task: str) -> None:
    needs, _ = TASKS[task]
    answer = florence.run(
        IMAGE, task, text="a dog" if needs == "text" else "", region=(1, 2, 30, 40) if needs == "region" else None
    )
    assert answer.task == task


def test_each_noun_is_asked_alone_and_scores_one(florence: Florence2, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = "dog<loc_10><loc_20><loc_500><loc_700><loc_11><loc_20><loc_500><loc_700>"
    asked = prompts_of(florence, monkeypatch, [twice, "", twice])
    found = florence.detect(IMAGE, ["Dog", "cat", "red car"])
    assert asked == [f"<s>Locate {noun} in the image.</s>" for noun in ("dog", "cat", "red car")]
    assert [(detection.noun, detection.score) for detection in found] == [("Dog", 1.0), ("red car", 1.0)]
    assert found[0].phrase == "dog"


def test_a_caption_is_grounded_phrase_by_phrase(florence: Florence2, monkeypatch: pytest.MonkeyPatch) -> None:
    grounded = (
        "A man<loc_10><loc_20><loc_500><loc_700>it<loc_1><loc_2><loc_90><loc_9>a dog<loc_1><loc_2><loc_90><loc_90>"
    )
    asked = prompts_of(florence, monkeypatch, ["A man with a dog; it sleeps.", grounded])
    caption, answer = florence.ground_caption(IMAGE, "detailed_caption")
    assert caption == "A man with a dog; it sleeps."
    assert asked == [
        "<s>Describe in detail what is shown in the image.</s>",
        f"<s>Locate the phrases in the caption: {caption}</s>",
    ]
    assert [region.label for region in answer.regions] == ["A man", "a dog"]


def test_an_empty_caption_grounds_nothing(florence: Florence2, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = prompts_of(florence, monkeypatch, [""])
    caption, answer = florence.ground_caption(IMAGE)
    assert (caption, answer.regions, len(asked)) == ("", (), 1)


def test_a_region_is_told_by_its_bins(florence: Florence2, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = prompts_of(florence, monkeypatch, ["dog"])
    assert florence.run(IMAGE, "region_to_category", region=(8, 6, 40, 30)).text == "dog"
    assert asked == ["<s>What is the region <loc_100><loc_100><loc_500><loc_500>?</s>"]


def test_what_a_task_does_not_need_is_refused(florence: Florence2) -> None:
    with pytest.raises(InputError, match="no task 'dance'"):
        florence.run(IMAGE, "dance")
    for task, given in (("od", {"text": "dog"}), ("open_vocabulary_detection", {}), ("region_to_ocr", {"text": "x"})):
        with pytest.raises(InputError, match="needs"):
            florence.run(IMAGE, task, **given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="reads 128; shorten"):
        florence.run(IMAGE, "open_vocabulary_detection", text="dog " * 50)


def test_a_spelled_token_is_read_as_text(florence: Florence2, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = prompts_of(florence, monkeypatch, [""])
    florence.run(IMAGE, "referring_expression_segmentation", text="the <OD> dog</s>")
    assert asked == ["<s>Locate the OD dog /s in the image with mask</s>"]
