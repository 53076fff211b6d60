"""What a network costs on paper and in memory: parameters and multiply-adds by part, and a process's peak memory."""

from __future__ import annotations

import math
import resource
import sys
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from models.segmenter import Segmenter

# in the order of the data; what belongs to none of them (the dynamic mask head) is functional and has no parameters
PARTS = {
    "backbone": ("backbone", "input_proj"),
    "text": ("text_encoder", "resizer"),
    "fusion": ("fusion_module", "grounding_head"),
    "encoder": ("transformer.encoder", "transformer.level_embed"),
    "pixel decoder": ("pixel_decoder",),
    "decoder": ("transformer.decoder", "transformer.reference_points", "query_embed", "bbox_embed", "temporal"),
    "heads": ("class_embed", "controller", "presence_head"),
}
FREE_OF_TEXT = "backbone"  # computed once per video, however many sentences


def parameters(segmenter: Segmenter) -> dict[str, int]:
    """Parameters of each part, frozen ones too; the buffers of frozen norms are none."""
    counts = dict.fromkeys([*PARTS, "other"], 0)
    for name, parameter in segmenter.named_parameters():
        counts[_part(name) or "other"] += parameter.numel()
    return {part: count for part, count in counts.items() if count or part != "other"}


def multiply_adds(segmenter: Segmenter, frames: int, size: tuple[int, int], words: int) -> dict[str, float] | None:
    """Multiply-adds of each part, for a window of `frames` at `size` (height, width), a sentence of `words` tokens.

    Counted by fvcore; element-wise work is left out. None where fvcore is not installed.
    """
    try:
        from fvcore.nn import FlopCountAnalysis
    except ImportError:
        return None
    device = segmenter.device
    inputs = (
        torch.randn(1, frames, 3, *size, device=device),
        torch.full((1, words), 5, device=device),
        torch.ones(1, words, dtype=torch.long, device=device),
    )
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        analysis = FlopCountAnalysis(_Whole(segmenter), inputs)
        analysis.set_op_handle("aten::scaled_dot_product_attention", _attention)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        by_module = analysis.by_module()
    counts = {part: sum(by_module[f"segmenter.{name}"] for name in names) for part, names in PARTS.items()}
    counts["masks"] = by_module[""] - sum(counts.values())
    return {part: float(count) for part, count in counts.items()}


def peak_memory(device: torch.device) -> float:
    """MiB at most in use so far: allocated on the GPU, or resident in this process where there is none."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


class _Whole(nn.Module):
    """Tensors in, tensors out: what a tracer can follow."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, frames_BTCHW: Tensor, ids_NL: Tensor, mask_NL: Tensor) -> tuple[Tensor, Tensor]:
        video = self.segmenter.encode_video(frames_BTCHW)
        prediction = self.segmenter(video, self.segmenter.encode_tokens(ids_NL, mask_NL, 1))
        return prediction.masks_BETQhw, prediction.logits_BETQK


def _attention(inputs: list[Any], outputs: list[Any]) -> float:
    """Two matrix products: queries with keys, weights with values."""
    query, key, value = (tensor.type().sizes() for tensor in inputs[:3])
    return float(math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))


def _part(name: str) -> str | None:
    return next((part for part, names in PARTS.items() if name.startswith(names)), None)
