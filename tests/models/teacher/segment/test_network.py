"""SAM 2 and SAM 3 behind the protocol: bit for bit what transformers answers for each object alone, memory bounded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Sam2Model,
    Sam2VideoInferenceSession,
    Sam2VideoVideoProcessor,
    Sam3ImageProcessor,
    Sam3TrackerConfig,
    Sam3TrackerModel,
    Sam3TrackerVideoInferenceSession,
)

from models.teacher.interfaces import ObjectFrame, Prompt
from models.teacher.segment.model_frames import IMAGENET, ModelFrames, Scaling
from models.teacher.segment.network import NetworkSegmenter
from models.teacher.segment.sam2 import Sam2Segmenter
from models.teacher.segment.sam3 import SCALING, Sam3Segmenter
from models.teacher.segment.session import PerObjectSession
from tests.models.teacher import tiny_sam2, tiny_sam3
from tests.models.teacher.tiny_sam2 import moving_square
from util.errors import InputError

VIDEO = moving_square(36)
LENGTH = len(VIDEO)
BOX = Prompt(0, box=(4.0, 20.0, 28.0, 40.0))
LATE = Prompt(17, box=(21.0, 18.0, 47.0, 41.0))
MASK_HW = np.zeros((60, 80), bool)
MASK_HW[18:42, 10:40] = True
Track = dict[int, ObjectFrame]


@dataclass(frozen=True)
class Family:
    """SAM 2 or SAM 3: a tiny network, what wraps it, and the library's own parts to compare with."""

    side: int
    scaling: Scaling
    network: Callable[[], Any]
    wrap: Callable[[Any], NetworkSegmenter]
    session: Any
    image_model: Callable[[], Any]
    processed: Callable[[torch.Tensor], torch.Tensor]  # an image uint8 [3, H, W] by the library's processor

    def open(self) -> PerObjectSession:
        return self.wrap(self.network()).open(VIDEO)


def sam3_image_model() -> Sam3TrackerModel:
    """Without the coarsest level, which no one reads: with it, the library adds its no-memory embedding there."""
    config = tiny_sam3.tiny_config()
    parts = {name: getattr(config, name).to_dict() for name in ("prompt_encoder_config", "mask_decoder_config")}
    vision = {**config.vision_config.to_dict(), "scale_factors": [4.0, 2.0, 1.0]}
    return Sam3TrackerModel(Sam3TrackerConfig(vision_config=vision, **parts))


def by_sam2(image: torch.Tensor) -> torch.Tensor:
    processor = Sam2VideoVideoProcessor(size={"height": tiny_sam2.SIDE, "width": tiny_sam2.SIDE})
    return processor(videos=[image[None]], return_tensors="pt")["pixel_values_videos"][0, 0]


def by_sam3(image: torch.Tensor) -> torch.Tensor:
    processor = Sam3ImageProcessor(size={"height": tiny_sam3.SIDE, "width": tiny_sam3.SIDE})
    return processor(images=[image], return_tensors="pt")["pixel_values"][0]


FAMILIES = {
    "sam2": Family(
        tiny_sam2.SIDE, IMAGENET, tiny_sam2.tiny_network, lambda network: Sam2Segmenter(network, tiny_sam2.INFO),
        Sam2VideoInferenceSession, lambda: Sam2Model(tiny_sam2.tiny_config()), by_sam2,
    ),
    "sam3": Family(
        tiny_sam3.SIDE, SCALING, tiny_sam3.tiny_network, lambda network: Sam3Segmenter(network, tiny_sam3.INFO),
        Sam3TrackerVideoInferenceSession, sam3_image_model, by_sam3,
    ),
}  # fmt: skip


@pytest.fixture(params=FAMILIES.values(), ids=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


def sweep(session: PerObjectSession, prompts: dict[int, Prompt], length: int = LENGTH) -> dict[int, Track]:
    """Lock-step: every frame once for all objects, forward, then backward to frame 0."""
    tracks: dict[int, Track] = {n: {} for n in prompts}
    for frame in range(length):
        for n, prompt in prompts.items():
            if frame == prompt.frame:
                tracks[n][frame] = session.add(n, prompt)
            elif frame > prompt.frame:
                tracks[n][frame] = session.step(n, frame)
    for frame in range(length - 1, -1, -1):
        for n, prompt in prompts.items():
            if frame < prompt.frame:
                tracks[n][frame] = session.step(n, frame, reverse=True)
    return tracks


def equal(one: ObjectFrame, other: ObjectFrame) -> bool:
    numbers = [(a.object_score, a.predicted_iou, a.stability) for a in (one, other)]
    return (
        np.array_equal(one.mask_HW, other.mask_HW)
        and np.array_equal(*numbers, equal_nan=True)
        and np.array_equal(one.pointer_D, other.pointer_D)
    )


def alone(family: Family, prompt: Prompt) -> Iterator[tuple[int, torch.Tensor, float, torch.Tensor]]:
    """The same object through transformers' own loop, which keeps everything: frame, logits, score, pointer."""
    frames = torch.stack([ModelFrames(VIDEO, family.side, family.scaling)[t] for t in range(LENGTH)])
    session = family.session(video=frames, video_height=60, video_width=80, dtype=torch.float32)
    session.obj_id_to_idx(7)
    corners = torch.tensor(prompt.box).view(1, 1, 2, 2) * torch.tensor([family.side / 80, family.side / 60])
    clicks = {"point_coords": corners, "point_labels": torch.tensor([[[2, 3]]], dtype=torch.int32)}
    session.add_point_inputs(0, prompt.frame, clicks)
    session.obj_with_new_inputs = [7]
    for reverse in (False, True):
        for out in family.network().propagate_in_video_iterator(session, start_frame_idx=prompt.frame, reverse=reverse):
            kept = session.output_dict_per_obj[0]
            stored = kept["cond_frame_outputs"].get(out.frame_idx) or kept["non_cond_frame_outputs"][out.frame_idx]
            yield out.frame_idx, out.pred_masks[0, 0], float(out.object_score_logits), stored["object_pointer"]


@pytest.mark.parametrize("prompt", [BOX, LATE], ids=["from the start", "late"])
def test_pruned_session_answers_what_transformers_answers_unpruned(family: Family, prompt: Prompt) -> None:
    ours = sweep(family.open(), {3: prompt})[3]
    seen = 0
    for frame, logits_hw, score, pointer in alone(family, prompt):
        logits = torch.nn.functional.interpolate(logits_hw[None, None], (60, 80), mode="bilinear")[0, 0]
        assert np.array_equal(ours[frame].mask_HW, (logits > 0).numpy())
        assert ours[frame].object_score == score
        assert ours[frame].pointer_D is not None and np.array_equal(ours[frame].pointer_D, pointer.flatten().numpy())
        seen += 1
    assert seen == LENGTH + (prompt.frame > 0)  # the prompted frame begins both directions
    covered = np.mean([track.mask_HW.mean() for track in ours.values()])
    assert 0.01 < covered < 0.99, "random weights that answer with empty or full masks would prove nothing"


def test_objects_do_not_change_each_other_whatever_their_kind_and_birth(family: Family) -> None:
    prompts = {1: BOX, 2: LATE, 3: Prompt(9, mask_HW=MASK_HW), 4: Prompt(20, points=((30.0, 30.0, 1), (5.0, 5.0, 0)))}
    length = 22
    together = sweep(family.open(), prompts, length)
    for n, prompt in prompts.items():
        lone = sweep(family.open(), {n: prompt}, length)[n]
        assert together[n].keys() == lone.keys() == set(range(length))
        assert all(equal(together[n][frame], lone[frame]) for frame in range(length)), n


def test_removing_an_object_leaves_the_others_as_they_are(family: Family) -> None:
    session = family.open()
    session.add(1, BOX)
    session.add(2, BOX)
    session.step(1, 1), session.step(2, 1)
    session.remove(2)
    after = session.step(1, 2)
    assert equal(after, sweep(family.open(), {1: BOX}, 3)[1][2])
    with pytest.raises(KeyError):
        session.step(2, 2)


def test_memory_is_bounded_by_thirty_one_frames_of_an_object(family: Family) -> None:
    session = family.open()
    most = 0
    session.add(1, BOX)
    state = session._objects[1]
    for frame in range(1, LENGTH):
        session.step(1, frame)
        memory = state._state.output_dict_per_obj[0]  # type: ignore[attr-defined]
        most = max(most, len(memory["cond_frame_outputs"]) + len(memory["non_cond_frame_outputs"]))
        stored = memory["non_cond_frame_outputs"][frame]
        assert not {"high_res_masks", "pred_masks"} & stored.keys()
    positions = {kept["maskmem_pos_enc"].data_ptr() for part in memory.values() for kept in part.values()}
    assert 16 < most <= 31
    assert len(positions) == 1


def test_a_frame_is_encoded_once_for_all_objects(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    network, asked = family.network(), []
    inner = network.get_image_features
    monkeypatch.setattr(network, "get_image_features", lambda *a, **k: asked.append(1) or inner(*a, **k))
    sweep(family.open(), {1: BOX, 2: LATE, 3: Prompt(17, mask_HW=MASK_HW)})
    assert len(asked) == LENGTH + LATE.frame  # once forward, once for the frames before the last birth


def test_a_prompt_in_a_tracked_frame_counts_as_if_it_had_come_first(family: Family) -> None:
    """What transformers would store as an ordinary frame becomes a lasting memory."""
    first, second = family.open(), family.open()
    again = Prompt(4, box=(8.0, 20.0, 32.0, 40.0))
    for session in (first, second):
        session.add(1, BOX)
        for frame in range(1, 4):
            session.step(1, frame)
    first.step(1, 4)
    assert equal(first.add(1, again), second.add(1, again))
    changed = [first.step(1, frame) for frame in range(5, 30)]
    assert all(equal(a, second.step(1, frame)) for frame, a in enumerate(changed, 5))
    assert 4 in first._objects[1]._state.output_dict_per_obj[0]["cond_frame_outputs"]  # type: ignore[attr-defined]


def test_a_box_on_the_video_model_is_the_image_models_answer(family: Family) -> None:
    answer = family.open().add(1, BOX)
    image, weights = family.image_model(), family.network().state_dict()
    image.load_state_dict({key: weights[key] for key in image.state_dict()})
    box = torch.tensor(BOX.box).view(1, 1, 4) * torch.tensor([family.side / 80, family.side / 60] * 2)
    pixels = ModelFrames(VIDEO, family.side, family.scaling)[0][None]
    with torch.inference_mode():
        told = image.eval()(pixel_values=pixels, input_boxes=box, multimask_output=False)
    logits = torch.nn.functional.interpolate(told.pred_masks[0], (60, 80), mode="bilinear")[0, 0]
    assert np.array_equal(answer.mask_HW, (logits > 0).numpy())
    assert answer.predicted_iou == pytest.approx(float(told.iou_scores), abs=1e-5)


def test_a_mask_prompt_is_its_own_answer_and_no_iou_was_predicted(family: Family) -> None:
    thin = np.zeros((60, 80), bool)
    thin[30, :] = True
    answer = family.open().add(1, Prompt(0, mask_HW=thin))
    assert np.array_equal(answer.mask_HW, thin)
    assert answer.object_score == 10.0 and np.isnan(answer.predicted_iou)


def test_frames_are_those_of_the_processor_of_transformers(family: Family) -> None:
    ours = ModelFrames(VIDEO, family.side, family.scaling)[5]
    theirs = family.processed(torch.from_numpy(VIDEO[5].copy()).permute(2, 0, 1))
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_damaged_weights_are_named(family: Family) -> None:
    network = copy.deepcopy(family.network())
    with torch.no_grad():
        network.mask_decoder.upscale_conv2.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="weights are damaged"):
        family.wrap(network).open(VIDEO).add(1, BOX)
