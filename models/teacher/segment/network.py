"""SAM 2 and SAM 3 as transformers has them: an object's memory in a session of the library, pruned as it grows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.teacher.interfaces import ModelInfo
from models.teacher.segment.model_frames import IMAGENET, ModelFrames, Scaling
from models.teacher.segment.prompts import Clicks
from models.teacher.segment.session import PerObjectSession, Raw
from util.types import FrameSource


class SingleMaskPointer:
    """Before a network of transformers': Meta's pointer for mask prompts, and the IoU that was predicted last.

    transformers takes that pointer from the best of three masks, the networks were trained with the single mask's.
    """

    predicted_iou: Tensor

    def _single_frame_forward(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("input_masks") is not None and kwargs.get("input_points") is None:
            kwargs["multimask_output"] = False
        output: Any = super()._single_frame_forward(*args, **kwargs)  # type: ignore[misc]
        self.predicted_iou = output.iou_scores.max()  # the mask with the highest is the one that is used
        return output


class NetworkSegmenter:
    """`VideoSegmenter` around a loaded network with a `SingleMaskPointer`, used by one thread at a time.

    Float32 on the CPU; on a GPU the same weights compute under bfloat16 autocast.
    session  the library's class of what a network remembers; scaling  of its frames
    """

    def __init__(self, network: Any, info: ModelInfo, session: Any, scaling: Scaling = IMAGENET) -> None:
        self._network, self._info = network.eval(), info
        self._session, self._scaling = session, scaling

    @property
    def info(self) -> ModelInfo:
        return self._info

    def open(self, frames: FrameSource) -> PerObjectSession:
        network = self._network
        shown = ModelFrames(frames, network.config.image_size, self._scaling)
        features = self._remember(shown).cache  # of the last frame, for all objects
        shared: dict[str, Tensor] = {}
        reach = max(network.config.max_object_pointers_in_encoder, network.config.num_maskmem) - 1

        def new_object() -> _Object:
            state = self._remember(shown)
            state.cache = features
            return _Object(network, state, shared)

        return PerObjectSession(shown, new_object, reach)

    def _remember(self, frames: ModelFrames) -> Any:
        """An inference session of the library that reads these frames."""
        height, width = frames.size
        state = self._session(
            video_height=height,
            video_width=width,
            inference_device=self._network.device,
            inference_state_device=self._network.device,
            dtype=self._network.dtype,
        )
        state.processed_frames = frames
        return state


class _Object:
    """One object's inference session. What it stores of a frame beyond what later frames read is dropped at once."""

    def __init__(self, network: Any, state: Any, shared: dict[str, Tensor]) -> None:
        self._network, self._state, self._shared = network, state, shared
        state.obj_id_to_idx(0)

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
