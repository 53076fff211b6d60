"""SAM 2 and 2.1 through transformers: the default segmenter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Sam2VideoInferenceSession, Sam2VideoModel

from models.teacher.interfaces import ModelInfo
from models.teacher.loading import load_pretrained
from models.teacher.segment.model_frames import ModelFrames
from models.teacher.segment.prompts import Clicks
from models.teacher.segment.session import PerObjectSession, Raw
from util.types import FrameSource

BACKEND = "sam2"
DEFAULT = "facebook/sam2.1-hiera-large"


class Sam2Network(Sam2VideoModel):
    """transformers' network with Meta's pointer for mask prompts; it remembers the IoU it predicted last.

    transformers takes that pointer from the best of three masks, the network was trained with the single mask's.
    """

    predicted_iou: Tensor

    def _single_frame_forward(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("input_masks") is not None and kwargs.get("input_points") is None:
            kwargs["multimask_output"] = False
        output: Any = super()._single_frame_forward(*args, **kwargs)
        self.predicted_iou = output.iou_scores.max()  # the mask with the highest is the one that is used
        return output


class Sam2Segmenter:
    """`VideoSegmenter` around a loaded network, used by one thread at a time.

    Float32 on the CPU; on a GPU the same weights compute under bfloat16 autocast.
    """

    @classmethod
    def from_pretrained(cls, source: str | Path, device: str | torch.device = "cpu") -> Sam2Segmenter:
        """From a hub id or a folder of safetensors. Raises InputError unless it holds every weight and no other."""
        loaded = load_pretrained(source, Sam2Network, backend=BACKEND, device=device)
        return cls(loaded.model, loaded.info)

    def __init__(self, network: Sam2Network, info: ModelInfo) -> None:
        self._network, self._info = network.eval(), info

    @property
    def info(self) -> ModelInfo:
        return self._info

    def open(self, frames: FrameSource) -> PerObjectSession:
        network = self._network
        shown = ModelFrames(frames, network.config.image_size)
        features = _inference_session(network, shown).cache  # of the last frame, for all objects
        shared: dict[str, Tensor] = {}
        reach = max(network.config.max_object_pointers_in_encoder, network.config.num_maskmem) - 1
        return PerObjectSession(shown, lambda: _Object(network, shown, features, shared), reach)


class _Object:
    """One object's inference session. What it stores of a frame beyond what later frames read is dropped at once."""

    def __init__(self, network: Sam2Network, frames: ModelFrames, features: Any, shared: dict[str, Tensor]) -> None:
        self._network, self._shared = network, shared
        self._state = _inference_session(network, frames)
        self._state.cache = features
        self._state.obj_id_to_idx(0)

    @property
    def tracked(self) -> dict[int, Any]:
        memory: dict[int, Any] = self._state.output_dict_per_obj[0]["non_cond_frame_outputs"]
        return memory

    def prompt(self, frame: int, told: Clicks | Tensor) -> Raw:
        state = self._state
        if isinstance(told, Clicks):
            clicks = {"point_coords": told.points_P2[None, None], "point_labels": told.labels_P[None, None]}
            state.add_point_inputs(0, frame, clicks)
        else:
            state.add_mask_inputs(0, frame, told[None, None])
        state.obj_with_new_inputs = [0]
        raw = self._run(frame, reverse=False, by_mask=not isinstance(told, Clicks))
        state.remove_point_inputs(0, frame)
        state.remove_mask_inputs(0, frame)
        return raw

    def track(self, frame: int, reverse: bool) -> Raw:
        return self._run(frame, reverse=reverse, by_mask=False)

    def _run(self, frame: int, *, reverse: bool, by_mask: bool) -> Raw:
        state, device = self._state, self._network.device
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            answer = self._network(state, frame_idx=frame, reverse=reverse)
        memory = state.output_dict_per_obj[0]
        stored = memory["cond_frame_outputs"].get(frame) or memory["non_cond_frame_outputs"][frame]
        del stored["high_res_masks"], stored["pred_masks"]  # never read again: 4.25 of 5.75 MiB at 1024 pixels
        stored["maskmem_pos_enc"] = self._shared.setdefault("positions", stored["maskmem_pos_enc"])  # the same for all
        # Only a frame that is not listed here becomes a lasting memory when it is prompted.
        state.frames_tracked_per_obj[0].clear()
        return Raw(
            logits_hw=answer.pred_masks[0, 0],
            object_score=float(answer.object_score_logits),
            predicted_iou=float("nan") if by_mask else float(self._network.predicted_iou),
            pointer_D=stored["object_pointer"].flatten(),
        )


def _inference_session(network: Sam2Network, frames: ModelFrames) -> Any:
    height, width = frames.size
    state: Any = Sam2VideoInferenceSession(
        video_height=height,
        video_width=width,
        inference_device=network.device,
        inference_state_device=network.device,
        dtype=network.dtype,
    )
    state.processed_frames = frames
    return state
