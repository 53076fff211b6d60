"""The Triton backend of deformable attention: for a GPU without a CUDA compiler. Triton is optional.

`forward` and `backward` take checked inputs (models/ops/msda.py): value [N,S,H,D], shapes (h0, w0, h1, w1, ...),
loc [N,Q,H,L,P,2] as (x, y) in 0..1 of the level, attn [N,Q,H,L,P].
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

name = "triton"
OLDEST_CAPABILITY = (7, 0)  # Triton's own minimum
# In one warp the sums over channels need no shared memory. A limit on registers makes the compiler use them all.
LAUNCH = {"num_warps": 1, "num_stages": 1}


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def _interpreted() -> bool:
    import triton

    return bool(triton.knobs.runtime.interpret)


def unavailable(device: torch.device, value_dtype: torch.dtype) -> str | None:
    """None when a call on this device and value type can run, else the reason in one line."""
    if value_dtype not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        return f"no kernel for {value_dtype}"
    if not _installed():
        return "triton is not installed; `pip install triton` brings it"
    if device.type == "cpu":
        return None if _interpreted() else "Triton has no CPU target; TRITON_INTERPRET=1 interprets, for tests"
    if device.type != "cuda":
        return f"no kernel for {device.type} devices"
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < OLDEST_CAPABILITY:
        return f"Triton needs compute capability {OLDEST_CAPABILITY[0]}.{OLDEST_CAPABILITY[1]} or newer"
    if torch.are_deterministic_algorithms_enabled():
        return "its value gradient uses atomics, and deterministic algorithms are asked for"
    return None


def describe(device: torch.device) -> str:
    """What runs on `device`."""
    return "compiled by Triton at the first call"


def forward(value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor) -> Tensor:
    """Returns [N,Q,H,D] in value's dtype; sums in float32, float64 for float64."""
    from models.ops.triton_kernels import forward_kernel

    N, Q, H = loc.shape[:3]
    out = value.new_empty(N, Q, H, value.shape[3])
    if out.numel():
        value, loc, attn = value.contiguous(), loc.contiguous(), attn.contiguous()
        _launch(forward_kernel, (value, _sides(shapes), loc, attn, out), value, loc)
    return out


def backward(
    grad_out: Tensor, value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, loc and attn, in their dtypes; value's is summed in float32 (float64) by atomics."""
    from models.ops.triton_kernels import backward_kernel

    value, loc, attn, grad_out = value.contiguous(), loc.contiguous(), attn.contiguous(), grad_out.contiguous()
    sums = torch.zeros_like(value, dtype=torch.promote_types(value.dtype, torch.float32))
    grad_loc, grad_attn = torch.zeros_like(loc), torch.zeros_like(attn)
    if grad_out.numel():
        _launch(backward_kernel, (grad_out, value, _sides(shapes), loc, attn, sums, grad_loc, grad_attn), value, loc)
    return sums.to(value.dtype), grad_loc, grad_attn


def options(value: Tensor, loc: Tensor) -> dict[str, Any]:
    """The kernels' compile-time arguments for these inputs."""
    import triton.language as tl

    _, Q, H, L, P, _ = loc.shape
    S, D = value.shape[1], value.shape[3]
    padded = 1 << (D - 1).bit_length()
    rows = min(32, max(1, 256 // padded))  # 8 sums a thread
    largest = max(S * H * D, Q * H * max(2 * L * P, D))  # offsets within one frame
    return {
        **{"H": H, "D": D, "L": L, "P": P, "BQ": rows, "BD": padded},
        "ACC": tl.float64 if value.dtype == torch.float64 else tl.float32,
        "INDEX": tl.int32 if largest < 2**31 else tl.int64,
    }


def _sides(shapes: Sequence[int]) -> tuple[float, ...]:
    return tuple(float(side) for side in shapes)


def _launch(kernel: Any, tensors: tuple[Any, ...], value: Tensor, loc: Tensor) -> None:
    chosen = options(value, loc)
    N, Q, H = loc.shape[:3]
    programs = N * -(-Q // chosen["BQ"]) * H
    if programs >= 2**31:
        raise ValueError(f"{programs} programs exceed a launch's 2^31; split the batch of {N} frames")
    # Triton launches on the current device, which need not be the tensors'.
    on_device = torch.cuda.device(value.device) if value.is_cuda else contextlib.nullcontext()
    with on_device:
        kernel[(programs,)](*tensors, value.shape[1], Q, **chosen, **LAUNCH)
