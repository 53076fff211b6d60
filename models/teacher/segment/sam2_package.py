"""SAM 2 and 2.1 through Meta's own package `sam2`: the same masks from the same weights as through transformers.

Installed with `SAM2_BUILD_CUDA=0 pip install --no-build-isolation sam2`. Its filling of holes, which needs a compiled
extension and which transformers does not have, is off.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from models.teacher.convert.original import read_original
from models.teacher.convert.sam2 import recognise
from models.teacher.interfaces import ModelInfo
from models.teacher.loading import ADVICE, licence, weights_hash
from models.teacher.segment.model_frames import ModelFrames
from models.teacher.segment.prompts import Clicks
from models.teacher.segment.session import PerObjectSession, Raw
from util.errors import InputError
from util.hub import local_folder
from util.types import FrameSource

BACKEND = "sam2_package"
INSTALL = "SAM2_BUILD_CUDA=0 pip install --no-build-isolation sam2"
_LETTERS = {"tiny": "t", "small": "s", "base+": "b+", "large": "l"}


class Sam2PackageSegmenter:
    """`VideoSegmenter` around a `SAM2VideoPredictor`, used by one thread at a time.

    Float32 on the CPU; on a GPU the same weights compute under bfloat16 autocast.
    """

    def __init__(self, predictor: Any, info: ModelInfo) -> None:
        self._predictor, self._info = predictor.eval(), info
        predictor.fill_hole_area = 0

    @classmethod
    def from_pretrained(cls, source: str | Path, device: str | torch.device = "cpu") -> Sam2PackageSegmenter:
        """From a file of Meta's (.pt), or a folder or hub id that holds one.

        Raises InputError where the package or the file is missing, and for a file that is none of the eight sizes.
        """
        try:
            from sam2.build_sam import build_sam2_video_predictor
        except ImportError:
            raise InputError(f"the package sam2 is not installed: {INSTALL}; or use the backend sam2") from None
        path = _checkpoint(source)
        _, family, size = recognise(read_original(path), path)[1].split()
        folder = "sam2.1" if family == "2.1" else "sam2"
        config = f"configs/{folder}/{folder}_hiera_{_LETTERS[size]}.yaml"
        predictor = build_sam2_video_predictor(config, ckpt_path=str(path), device=str(device))
        known = licence(str(source), path.parent)
        return cls(predictor, ModelInfo(BACKEND, str(source), weights_hash(iter([path])), known))

    @property
    def info(self) -> ModelInfo:
        return self._info

    def open(self, frames: FrameSource) -> PerObjectSession:
        predictor = self._predictor
        shown = ModelFrames(frames, predictor.image_size)
        shared: dict[str, Any] = {"cached_features": {}, "constants": {}}
        reach = max(predictor.max_obj_ptrs_in_encoder, predictor.num_maskmem) - 1
        return PerObjectSession(shown, lambda: _Object(predictor, shown, shared), reach)


class _Object:
    """One object's inference state, which the package would otherwise make from a folder of JPEGs."""

    def __init__(self, predictor: Any, frames: ModelFrames, shared: dict[str, Any]) -> None:
        self._predictor, self._shared = predictor, shared
        height, width = frames.size
        self._state: dict[str, Any] = {
            "images": frames,
            "num_frames": len(frames),
            "offload_video_to_cpu": False,
            "offload_state_to_cpu": False,
            "video_height": height,
            "video_width": width,
            "device": predictor.device,
            "storage_device": predictor.device,
            "point_inputs_per_obj": {},
            "mask_inputs_per_obj": {},
            "obj_id_to_idx": OrderedDict(),
            "obj_idx_to_id": OrderedDict(),
            "obj_ids": [],
            "output_dict_per_obj": {},
            "temp_output_dict_per_obj": {},
            "frames_tracked_per_obj": {},
        }
        predictor._obj_id_to_idx(self._state, 0)

    @property
    def tracked(self) -> dict[int, Any]:
        memory: dict[int, Any] = self._state["output_dict_per_obj"][0]["non_cond_frame_outputs"]
        return memory

    def prompt(self, frame: int, told: Clicks | torch.Tensor) -> Raw:
        predictor = self._predictor
        with self._running() as ious:
            if isinstance(told, Clicks):
                points = told.points_P2 / predictor.image_size
                predictor.add_new_points_or_box(
                    self._state, frame, 0, points=points, labels=told.labels_P, normalize_coords=False
                )
            else:
                predictor.add_new_mask(self._state, frame, 0, told.bool())
            predictor.propagate_in_video_preflight(self._state)
        self._state["point_inputs_per_obj"][0].clear()
        self._state["mask_inputs_per_obj"][0].clear()
        stored = self._state["output_dict_per_obj"][0]["cond_frame_outputs"][frame]
        return self._answer(stored, ious[-1] if isinstance(told, Clicks) else float("nan"))

    def track(self, frame: int, reverse: bool) -> Raw:
        with self._running() as ious:
            stored, _ = self._predictor._run_single_frame_inference(
                inference_state=self._state,
                output_dict=self._state["output_dict_per_obj"][0],
                frame_idx=frame,
                batch_size=1,
                is_init_cond_frame=False,
                point_inputs=None,
                mask_inputs=None,
                reverse=reverse,
                run_mem_encoder=True,
            )
        self.tracked[frame] = stored
        return self._answer(stored, ious[-1])

    @contextmanager
    def _running(self) -> Iterator[list[float]]:
        """The package computes, on the features of the last frame, which all objects share; the IoUs it predicts."""
        ious: list[float] = []
        device = self._predictor.device.type
        self._state.update(self._shared)
        # of one mask, or of three, the best of which is used
        watch = self._predictor.sam_mask_decoder.register_forward_hook(
            lambda module, given, answer: ious.append(float(answer[1].max()))
        )
        try:
            with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                yield ious
        finally:
            watch.remove()
        self._shared.update({name: self._state[name] for name in self._shared})

    def _answer(self, stored: dict[str, Any], predicted_iou: float) -> Raw:
        if self._predictor.device.type == "cpu":
            # stored as bfloat16, which float32 layers refuse; transformers rounds and widens again too
            stored["maskmem_features"] = stored["maskmem_features"].float()
        logits_hw = stored["pred_masks"][0, 0]
        stored["pred_masks"] = None  # asked for only by a second prompt in this frame, which replaces it
        return Raw(
            logits_hw=logits_hw,
            object_score=float(stored["object_score_logits"]),
            predicted_iou=predicted_iou,
            pointer_D=stored["obj_ptr"].flatten(),
        )


def _checkpoint(source: str | Path) -> Path:
    path = Path(source).expanduser()
    if path.suffix == ".pt":
        return path
    folder = local_folder(str(source), ("*.pt", "README.md"), what="model", advice=ADVICE)
    files = sorted(folder.glob("*.pt"))
    if len(files) != 1:
        raise InputError(
            f"{folder} holds {len(files)} .pt files, and the backend {BACKEND} wants one; folders of safetensors are "
            "for the backend sam2"
        )
    return files[0]
