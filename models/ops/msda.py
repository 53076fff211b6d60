"""Multi-scale deformable attention (Zhu et al., Deformable DETR, 2021): the public function and its operator.

`deformable_attention` calls `refertrack::msda_forward`, whose schema, checks, fake kernels and gradients are here, in
Python: tracing needs no compiled library. Which kernel computes is chosen when a call runs (models/ops/backends.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from models.ops import backends
from models.ops.paths import gather_path, grid_at_once, grid_path
from util.errors import InputError

Shapes = tuple[tuple[int, int], ...]

VALUE_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def deformable_attention(value_NSHD: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of bilinear samples: out[n,q,h] = sum over levels and points of weight * value at location.

    value_NSHD [N, S, heads, D], levels concatenated, each row-major; shapes ((h, w), ...) of the levels;
    locations [N, Q, heads, levels, points, 2] as (x, y), 0..1 across each level (outside is legal and reads zero, and
    so do NaN and infinity); weights [N, Q, heads, levels, points], not normalised here. Samples as `grid_sample` does
    with align_corners=False and zero padding. Returns [N, Q, heads * D] in value's dtype.

    value may be float32, bfloat16, float16 or float64; under autocast it is cast to autocast's type. locations are
    float32 whatever the value is (float64 with float64), weights float32 or of value's dtype.
    Raises ValueError for shapes that disagree, TypeError for dtypes, RuntimeError for devices.
    """
    kind = value_NSHD.device.type
    lowered = kind != "meta" and torch.is_autocast_enabled(kind)  # which raises for meta
    if lowered and value_NSHD.dtype != torch.float64:
        value_NSHD = value_NSHD.to(torch.get_autocast_dtype(kind))
    flat = [side for shape in shapes for side in shape]
    if torch.jit.is_tracing():  # TorchScript's tracer, which fvcore counts with, cannot record a list of sizes
        return grid_path(value_NSHD, [int(side) for side in flat], locations, weights).flatten(2)
    if _spelled_out is not None:
        check(value_NSHD, flat, locations, weights)
        spell = grid_at_once if _spelled_out == "grid" else gather_path
        return spell(value_NSHD, flat, locations, weights).flatten(2)
    out = torch.ops.refertrack.msda_forward(value_NSHD, flat, locations, weights)
    return out.flatten(2)


_spelled_out: Literal["grid", "gather"] | None = None


@contextmanager
def export_path(path: Literal["grid", "gather"]) -> Iterator[None]:
    """Within the context the function is PyTorch's own operators instead of one of ours, for a program that leaves.

    A `torch.export` keeps one node, `refertrack::msda_forward`, and needs this package where it runs; made in this
    context it needs nothing of ours, so that it can be turned into ONNX. "grid" is a `grid_sample` per level and the
    faster in ONNX Runtime; "gather" is for TensorRT, whose GridSample has given wrong results (NVIDIA/TensorRT#4813).
    For the whole process; all of a level's samples are held at once.
    """
    global _spelled_out
    before, _spelled_out = _spelled_out, path
    try:
        yield
    finally:
        _spelled_out = before


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor | Sequence[Sequence[int]],
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int = 64,
) -> Tensor:
    """`deformable_attention` with the arguments of Deformable-DETR's function, for code that calls that one.

    spatial_shapes [levels, 2] as (h, w): a tensor is read once per call, which waits for the GPU; lists are not.
    level_start_index and im2col_step are ignored: they follow from the shapes, and nothing is done in steps.
    """
    sizes = spatial_shapes.tolist() if isinstance(spatial_shapes, Tensor) else spatial_shapes
    shapes = tuple((int(h), int(w)) for h, w in sizes)
    return deformable_attention(value, shapes, sampling_locations, attention_weights)


def check(value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor) -> None:
    """What every kernel relies on. Raises ValueError, TypeError or RuntimeError; works on symbolic sizes too."""
    _check_types(value, loc, attn)
    _value(value.dim() == 4, lambda: f"value must be [N, S, heads, D], but has {value.dim()} axes")
    _value(loc.dim() == 6, lambda: f"locations must be [N, Q, heads, levels, points, 2], but have {loc.dim()} axes")
    _value(loc.shape[5] == 2, lambda: f"the last axis of locations is (x, y), size 2, but is {loc.shape[5]}")
    _value(
        attn.shape == loc.shape[:5],
        lambda: f"weights must be {list(loc.shape[:5])} as locations are, but are {list(attn.shape)}",
    )
    for axis, name in ((0, "rows"), (2, "heads")):
        theirs, ours = loc.shape[axis], value.shape[axis]
        _value(theirs == ours, lambda name=name, a=theirs, b=ours: f"locations have {a} {name} but value has {b}")
    levels, named = loc.shape[3], len(shapes)
    _value(named == 2 * levels, lambda: f"locations have {levels} levels but shapes name {named} sides, 2 a level")
    for side in shapes:
        _value(side >= 1, lambda side=side: f"a level's side must be at least 1, but is {side}; see {list(shapes)}")
    tokens = sum(h * w for h, w in zip(shapes[::2], shapes[1::2], strict=True))
    _value(
        value.shape[1] == tokens,
        lambda: f"levels {list(shapes)} hold {tokens} tokens but value has {value.shape[1]}",
    )


def _check_types(value: Tensor, loc: Tensor, attn: Tensor) -> None:
    devices = {str(x.device) for x in (value, loc, attn)}
    if len(devices) > 1:
        raise RuntimeError(
            f"value is on {value.device}, locations on {loc.device}, weights on {attn.device}; move them to one device"
        )
    if value.dtype not in VALUE_TYPES:
        raise TypeError(f"value is {value.dtype}; it must be one of {', '.join(str(t) for t in VALUE_TYPES)}")
    full = torch.promote_types(value.dtype, torch.float32)
    if loc.dtype != full:
        raise TypeError(
            f"locations are {loc.dtype}, but must be {full} with {value.dtype} values, since lower precision misses "
            "the pixel; compute offsets and references under torch.autocast(enabled=False) as MSDeformAttn.forward does"
        )
    if attn.dtype not in (full, value.dtype):
        raise TypeError(f"weights are {attn.dtype}, but must be {full} or value's {value.dtype}")


def _value(holds: bool, message: Any) -> None:
    torch._check_value(holds, message)


# ---- the operator ----------------------------------------------------------------------------------------------------

LIB = torch.library.Library("refertrack", "DEF")
LIB.define("msda_forward(Tensor value, SymInt[] shapes, Tensor loc, Tensor attn) -> Tensor")
LIB.define(
    "msda_backward(Tensor grad_out, Tensor value, SymInt[] shapes, Tensor loc, Tensor attn) -> (Tensor, Tensor, Tensor)"
)


def _forward(value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor) -> Tensor:
    check(value, shapes, loc, attn)
    _stop_unless_finite(loc)
    # an operator may not return a view of its input, nor strides that the fake kernel does not know
    return backends.chosen(value.device, value.dtype).forward(value, shapes, loc, attn).contiguous()


def _backward(
    grad_out: Tensor, value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    check(value, shapes, loc, attn)
    _check_grad(grad_out, value, loc)
    grads = backends.chosen(value.device, value.dtype).backward(grad_out, value, shapes, loc, attn)
    return grads[0].contiguous(), grads[1].contiguous(), grads[2].contiguous()


def _check_grad(grad_out: Tensor, value: Tensor, loc: Tensor) -> None:
    expected = (*loc.shape[:3], value.shape[3])
    _value(grad_out.shape == expected, lambda: f"grad_out must be {list(expected)}, but is {list(grad_out.shape)}")


def _stop_unless_finite(loc: Tensor) -> None:
    """REFERTRACK_OPS_CHECK=1, for debugging: it waits for the device at every call."""
    if os.environ.get("REFERTRACK_OPS_CHECK") == "1" and not bool(torch.isfinite(loc).all()):
        wrong = int((~torch.isfinite(loc)).sum())
        raise InputError(
            f"{wrong} of {loc.numel()} sampling coordinates are not finite (REFERTRACK_OPS_CHECK=1); look for NaN in "
            "the queries or the reference points before this layer"
        )


# one registration for every device: which kernel runs is decided in it
LIB.impl("msda_forward", _forward, "CompositeExplicitAutograd")
LIB.impl("msda_backward", _backward, "CompositeExplicitAutograd")


@torch.library.register_fake("refertrack::msda_forward", lib=LIB)
def _(value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor) -> Tensor:
    check(value, shapes, loc, attn)
    return value.new_empty(loc.shape[0], loc.shape[1], value.shape[2], value.shape[3])


@torch.library.register_fake("refertrack::msda_backward", lib=LIB)
def _(
    grad_out: Tensor, value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    check(value, shapes, loc, attn)
    _check_grad(grad_out, value, loc)
    return value.new_empty(value.shape), loc.new_empty(loc.shape), attn.new_empty(attn.shape)


def _save_forward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, ctx.shapes, loc, attn = inputs
    ctx.save_for_backward(value, loc, attn)


def _differentiate(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    value, loc, attn = ctx.saved_tensors
    grads = torch.ops.refertrack.msda_backward(grad_out, value, ctx.shapes, loc, attn)
    return grads[0], None, grads[1], grads[2]


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    grad_out, value, ctx.shapes, loc, attn = inputs
    ctx.save_for_backward(grad_out, value, loc, attn)


def _differentiate_twice(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients of the gradients, through the gather path: its memory is that path's, and it can go on."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = [x.view_as(x) if x.requires_grad else x.detach().requires_grad_() for x in ctx.saved_tensors]
        grad_out, value, loc, attn = inputs
        out = gather_path(value, ctx.shapes, loc, attn)
        first = torch.autograd.grad(out, (value, loc, attn), grad_out, create_graph=True)
        pairs = [(one, other) for one, other in zip(first, cotangents, strict=True) if other is not None]
        grads = torch.autograd.grad(
            [one for one, _ in pairs], inputs, [other for _, other in pairs], create_graph=again, allow_unused=True
        )
    return grads[0], grads[1], None, grads[2], grads[3]


torch.library.register_autograd("refertrack::msda_forward", _differentiate, setup_context=_save_forward, lib=LIB)
torch.library.register_autograd(
    "refertrack::msda_backward", _differentiate_twice, setup_context=_save_backward, lib=LIB
)
