"""SAM 2 behind the protocol: bit for bit what transformers answers for each object alone, with bounded memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Sam2Model, Sam2VideoInferenceSession, Sam2VideoVideoProcessor

from models.teacher.interfaces import ObjectFrame, Prompt
from models.teacher.segment.model_frames import ModelFrames
from models.teacher.segment.sam2 import Sam2Segmenter
from models.teacher.segment.session import PerObjectSession
from tests.models.teacher.tiny_sam2 import INFO, SIDE, moving_square, save_tiny_sam2, tiny_network, tiny_sam2
from util.errors import InputError

VIDEO = moving_square(36)
LENGTH = len(VIDEO)
BOX = Prompt(0, box=(4.0, 20.0, 28.0, 40.0))
LATE = Prompt(17, box=(21.0, 18.0, 47.0, 41.0))
MASK_HW = np.zeros((60, 80), bool)
MASK_HW[18:42, 10:40] = True
Track = dict[int, ObjectFrame]


def segmenter() -> Sam2Segmenter:
    return Sam2Segmenter(tiny_network(), INFO)


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


def alone(prompt: Prompt) -> Iterator[tuple[int, torch.Tensor, float, torch.Tensor]]:
    """The same object through transformers' own loop, which keeps everything: frame, logits, score, pointer."""
    network = tiny_network()
    frames = torch.stack([ModelFrames(VIDEO, SIDE)[t] for t in range(LENGTH)])
    session = Sam2VideoInferenceSession(video=frames, video_height=60, video_width=80, dtype=torch.float32)
    session.obj_id_to_idx(7)
    corners = torch.tensor(prompt.box).view(1, 1, 2, 2) * torch.tensor([SIDE / 80, SIDE / 60])
    clicks = {"point_coords": corners, "point_labels": torch.tensor([[[2, 3]]], dtype=torch.int32)}
    session.add_point_inputs(0, prompt.frame, clicks)
    session.obj_with_new_inputs = [7]
    for reverse in (False, True):
        for out in network.propagate_in_video_iterator(session, start_frame_idx=prompt.frame, reverse=reverse):
            kept = session.output_dict_per_obj[0]
            stored = kept["cond_frame_outputs"].get(out.frame_idx) or kept["non_cond_frame_outputs"][out.frame_idx]
            yield out.frame_idx, out.pred_masks[0, 0], float(out.object_score_logits), stored["object_pointer"]


@pytest.mark.parametrize("prompt", [BOX, LATE], ids=["from the start", "late"])
def test_pruned_session_answers_what_transformers_answers_unpruned(prompt: Prompt) -> None:
    ours = sweep(segmenter().open(VIDEO), {3: prompt})[3]
    seen = 0
    for frame, logits_hw, score, pointer in alone(prompt):
        logits = torch.nn.functional.interpolate(logits_hw[None, None], (60, 80), mode="bilinear")[0, 0]
        assert np.array_equal(ours[frame].mask_HW, (logits > 0).numpy())
        assert ours[frame].object_score == score
        assert ours[frame].pointer_D is not None and np.array_equal(ours[frame].pointer_D, pointer.flatten().numpy())
        seen += 1
    assert seen == LENGTH + (prompt.frame > 0)  # the prompted frame begins both directions
    covered = np.mean([track.mask_HW.mean() for track in ours.values()])
    assert 0.01 < covered < 0.99, "random weights that answer with empty or full masks would prove nothing"


def test_objects_do_not_change_each_other_whatever_their_kind_and_birth() -> None:
    prompts = {1: BOX, 2: LATE, 3: Prompt(9, mask_HW=MASK_HW), 4: Prompt(20, points=((30.0, 30.0, 1), (5.0, 5.0, 0)))}
    length = 22
    together = sweep(segmenter().open(VIDEO), prompts, length)
    for n, prompt in prompts.items():
        lone = sweep(segmenter().open(VIDEO), {n: prompt}, length)[n]
        assert together[n].keys() == lone.keys() == set(range(length))
        assert all(equal(together[n][frame], lone[frame]) for frame in range(length)), n


def test_removing_an_object_leaves_the_others_as_they_are() -> None:
    session = segmenter().open(VIDEO)
    session.add(1, BOX)
    session.add(2, BOX)
    session.step(1, 1), session.step(2, 1)
    session.remove(2)
    after = session.step(1, 2)
    assert equal(after, sweep(segmenter().open(VIDEO), {1: BOX}, 3)[1][2])
    with pytest.raises(KeyError):
        session.step(2, 2)


def test_memory_is_bounded_by_thirty_one_frames_of_an_object() -> None:
    session = segmenter().open(VIDEO)
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


def test_a_frame_is_encoded_once_for_all_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    network, asked = tiny_network(), []
    inner = network.get_image_features
    monkeypatch.setattr(network, "get_image_features", lambda *a, **k: asked.append(1) or inner(*a, **k))
    sweep(Sam2Segmenter(network, INFO).open(VIDEO), {1: BOX, 2: LATE, 3: Prompt(17, mask_HW=MASK_HW)})
    assert len(asked) == LENGTH + LATE.frame  # once forward, once for the frames before the last birth


def test_a_prompt_in_a_tracked_frame_counts_as_if_it_had_come_first() -> None:
    """What transformers would store as an ordinary frame becomes a lasting memory."""
    first, second = segmenter().open(VIDEO), segmenter().open(VIDEO)
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


def test_a_box_on_the_video_model_is_the_image_models_answer() -> None:
    answer = segmenter().open(VIDEO).add(1, BOX)
    image = Sam2Model(tiny_network().config)
    image.load_state_dict({k: v for k, v in tiny_sam2().state_dict().items() if k in image.state_dict()})
    box = torch.tensor(BOX.box).view(1, 1, 4) * torch.tensor([SIDE / 80, SIDE / 60] * 2)
    with torch.inference_mode():
        told = image.eval()(pixel_values=ModelFrames(VIDEO, SIDE)[0][None], input_boxes=box, multimask_output=False)
    logits = torch.nn.functional.interpolate(told.pred_masks[0], (60, 80), mode="bilinear")[0, 0]
    assert np.array_equal(answer.mask_HW, (logits > 0).numpy())
    assert answer.predicted_iou == pytest.approx(float(told.iou_scores), abs=1e-5)


def test_a_mask_prompt_is_its_own_answer_and_no_iou_was_predicted() -> None:
    thin = np.zeros((60, 80), bool)
    thin[30, :] = True
    answer = segmenter().open(VIDEO).add(1, Prompt(0, mask_HW=thin))
    assert np.array_equal(answer.mask_HW, thin)
    assert answer.object_score == 10.0 and np.isnan(answer.predicted_iou)


def test_frames_are_those_of_the_processor_of_transformers() -> None:
    ours = ModelFrames(VIDEO, SIDE)[5]
    processor = Sam2VideoVideoProcessor(size={"height": SIDE, "width": SIDE})
    theirs = processor(videos=[torch.from_numpy(VIDEO[5][None]).permute(0, 3, 1, 2)], return_tensors="pt")
    assert torch.allclose(ours, theirs["pixel_values_videos"].reshape(3, SIDE, SIDE), atol=1e-5)


def test_damaged_weights_are_named() -> None:
    network = copy.deepcopy(tiny_network())
    with torch.no_grad():
        network.mask_decoder.upscale_conv2.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="weights are damaged"):
        Sam2Segmenter(network, INFO).open(VIDEO).add(1, BOX)


def test_a_folder_loads_strictly(tmp_path: Path) -> None:
    folder = save_tiny_sam2(tmp_path / "sam2")
    loaded = Sam2Segmenter.from_pretrained(folder)
    assert loaded.info.backend == "sam2" and str(loaded.info.revision).startswith("sha256:")
    read, made = (s.open(VIDEO).add(1, BOX) for s in (loaded, segmenter()))
    assert np.array_equal(read.mask_HW, made.mask_HW)
    # not to the last bit: a file that is mapped lies otherwise in memory, and matrix products then add otherwise
    assert np.allclose(read.pointer_D, made.pointer_D, atol=1e-6)
    weights = load_file(folder / "model.safetensors")
    del weights["object_pointer_proj.proj_in.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"1 missing: object_pointer_proj\.proj_in\.weight"):
        Sam2Segmenter.from_pretrained(folder)
