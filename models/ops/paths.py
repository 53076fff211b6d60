"""Deformable attention in plain PyTorch: `grid_path` (also the "pytorch" backend) and `gather_path`.

Both take checked inputs (models/ops/msda.py): value [N,S,H,D], shapes (h0, w0, h1, w1, ...), loc [N,Q,H,L,P,2] as
(x, y) in 0..1 of the level, attn [N,Q,H,L,P]; both return [N,Q,H,D] in value's dtype and sum in float32 (float64 for
float64). With x = loc_x * w - 0.5 and y likewise, a point counts where -1 < x < w and -1 < y < h (NaN does not).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

name = "pytorch"
CHUNK_BYTES = 2**28  # of sampled values that the grid path holds at once
NOWHERE = -2.0  # a grid coordinate outside every map, corners included


def unavailable(device: torch.device, value_dtype: torch.dtype) -> str | None:
    """None: PyTorch runs on every device, for every type that the check lets through."""
    return None


def describe(device: torch.device) -> str:
    """What runs on `device`."""
    return "grid_sample; runs on every device"


def forward(value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor) -> Tensor:
    """The backend's forward. Returns [N,Q,H,D]."""
    return grid_path(value, shapes, loc, attn)


def backward(
    grad_out: Tensor, value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The backend's gradients of value, loc and attn, each of its own dtype and shape."""
    # grid_sample has no deterministic gradient on CUDA; gather and scatter_add have one
    exact = value.is_cuda and torch.are_deterministic_algorithms_enabled()
    part = _gather_backward if exact else _grid_backward
    full = _compute(value)
    grads = [
        part(grad_out[rows].to(full), value[rows].to(full), shapes, loc[rows], attn[rows])
        for rows in _chunks(value, loc)
    ]
    joined = [torch.cat(grad) for grad in zip(*grads, strict=True)]
    return joined[0].to(value.dtype), joined[1].to(loc.dtype), joined[2].to(attn.dtype)


# ---- grid_sample -----------------------------------------------------------------------------------------------------


def grid_path(value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor) -> Tensor:
    """`grid_sample` level by level, in chunks of rows; differentiable once. Returns [N,Q,H,D]."""
    parts = [grid_at_once(value[rows], shapes, loc[rows], attn[rows]) for rows in _chunks(value, loc)]
    return torch.cat(parts)


def grid_at_once(value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor) -> Tensor:
    """`grid_path` without chunks, whose number would be fixed in an exported program. Returns [N,Q,H,D]."""
    N, Q, H = loc.shape[:3]
    # Half-precision grid_sample on CPU reads out of bounds, and half-precision locations miss their pixel.
    full = value.to(_compute(value))
    out = full.new_zeros(N * H, value.shape[3], Q)
    for level in _grid_levels(full, shapes, loc, attn):
        sampled = F.grid_sample(level.value, level.grid, padding_mode="zeros", align_corners=False)
        out = out + (sampled * level.attn[:, None]).sum(-1)
    return out.view(N, H, value.shape[3], Q).permute(0, 3, 1, 2).to(value.dtype)


def _grid_backward(
    grad_out: Tensor, value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    N, S, H, D = value.shape
    Q, P = loc.shape[1], loc.shape[4]
    g = grad_out.permute(0, 2, 3, 1).reshape(N * H, D, Q, 1)
    values, locs, attns = [], [], []
    for level in _grid_levels(value, shapes, loc, attn):
        sampled = F.grid_sample(level.value, level.grid, padding_mode="zeros", align_corners=False)
        attns.append(torch.where(level.inside, (sampled * g).sum(1), 0).view(N, H, Q, P))
        of_value, of_grid = torch.ops.aten.grid_sampler_2d_backward(
            g * level.attn[:, None], level.value, level.grid, 0, 0, False, [True, True]
        )
        values.append(of_value.flatten(2))
        locs.append(torch.where(level.inside[..., None], 2 * of_grid, 0).view(N, H, Q, P, 2))
    grad_value = torch.cat(values, 2).view(N, H, D, S).permute(0, 3, 1, 2)
    return grad_value, torch.stack(locs, 3).transpose(1, 2), torch.stack(attns, 3).transpose(1, 2)


class _GridLevel(NamedTuple):
    value: Tensor  # [N*H, D, h, w]
    grid: Tensor  # [N*H, Q, P, 2] in grid_sample's -1..1
    attn: Tensor  # [N*H, Q, P], zero where not inside
    inside: Tensor  # [N*H, Q, P]


def _grid_levels(value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor) -> Iterator[_GridLevel]:
    rows = value.permute(0, 2, 3, 1).flatten(0, 1)
    for level, start, h, w in _levels(shapes):
        place = loc[:, :, :, level].to(value.dtype).transpose(1, 2).flatten(0, 1)
        inside = _inside(place[..., 0] * w - 0.5, place[..., 1] * h - 0.5, h, w)
        grid = torch.where(inside[..., None], 2 * place - 1, NOWHERE)
        weight = torch.where(inside, attn[:, :, :, level].to(value.dtype).transpose(1, 2).flatten(0, 1), 0)
        yield _GridLevel(rows[..., start : start + h * w].unflatten(-1, (h, w)), grid, weight, inside)


def _chunks(value: Tensor, loc: Tensor) -> list[slice]:
    """Slices of N that keep a level's samples within CHUNK_BYTES; one empty slice when N is 0."""
    N, Q, H, _, P, _ = loc.shape
    row = max(1, H * Q * P * value.shape[3] * _compute(value).itemsize)
    step = max(1, CHUNK_BYTES // row)
    return [slice(start, min(start + step, N)) for start in range(0, max(N, 1), step)]


# ---- gather ----------------------------------------------------------------------------------------------------------


def gather_path(value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor) -> Tensor:
    """Four `torch.gather` per level; differentiable any number of times, and exportable. Returns [N,Q,H,D]."""
    rows = value.to(_compute(value)).transpose(1, 2)
    weight = attn.to(rows.dtype).transpose(1, 2)
    N, H, _, D = rows.shape
    out = rows.new_zeros(N, H, loc.shape[1], D)
    for corner in _corners(rows, shapes, loc):
        share = torch.where(corner.valid, weight[:, :, :, corner.level] * corner.x * corner.y, 0)
        out = out + (share[..., None] * _take(rows, corner)).sum(3)
    return out.transpose(1, 2).to(value.dtype)


def _gather_backward(
    grad_out: Tensor, value: Tensor, shapes: Sequence[int], loc: Tensor, attn: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    rows = value.transpose(1, 2)
    weight = attn.to(rows.dtype).transpose(1, 2)
    g = grad_out.transpose(1, 2)[:, :, :, None]
    grad_rows = torch.zeros_like(rows, memory_format=torch.contiguous_format)
    grad_loc = torch.zeros_like(loc, dtype=rows.dtype)
    grad_attn = torch.zeros_like(attn, dtype=rows.dtype)
    for corner in _corners(rows, shapes, loc):
        level = corner.level
        a = weight[:, :, :, level]
        dot = torch.where(corner.valid, (_take(rows, corner) * g).sum(-1), 0)
        share = torch.where(corner.valid, a * corner.x * corner.y, 0)
        grad_rows.scatter_add_(2, _index(corner, rows.shape[3]), (share[..., None] * g).flatten(2, 3))
        grad_attn[:, :, :, level] += (corner.x * corner.y * dot).transpose(1, 2)
        slope = torch.stack((corner.slope_x * corner.y, corner.slope_y * corner.x), -1)
        of_loc = torch.where(corner.valid[..., None], (a * dot)[..., None] * slope, 0)
        grad_loc[:, :, :, level] += of_loc.transpose(1, 2)
    return grad_rows.transpose(1, 2), grad_loc, grad_attn


class _Corner(NamedTuple):
    """One of the four corners of every point of a level; all tensors [N, H, Q, P]."""

    level: int
    token: Tensor  # index into S; of the level's first token where it is not inside
    valid: Tensor
    x: Tensor  # share of the weight, times y's
    y: Tensor
    slope_x: int  # derivative of x by loc_x
    slope_y: int


def _corners(rows: Tensor, shapes: Sequence[int], loc: Tensor) -> Iterator[_Corner]:
    for level, start, h, w in _levels(shapes):
        place = loc[:, :, :, level].to(rows.dtype).transpose(1, 2)
        x, y = place[..., 0] * w - 0.5, place[..., 1] * h - 0.5
        inside = _inside(x, y, h, w)
        x, y = torch.where(inside, x, 0), torch.where(inside, y, 0)
        x0, y0 = x.detach().floor(), y.detach().floor()
        fx, fy = x - x0, y - y0
        for below, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            column, row = x0.long() + right, y0.long() + below
            valid = inside & (column >= 0) & (column < w) & (row >= 0) & (row < h)
            token = start + row.clamp(0, h - 1) * w + column.clamp(0, w - 1)
            share_x, share_y = (fx if right else 1 - fx), (fy if below else 1 - fy)
            yield _Corner(level, token, valid, share_x, share_y, w if right else -w, h if below else -h)


def _take(rows: Tensor, corner: _Corner) -> Tensor:
    """[N, H, Q, P, D]; zero where the corner is not valid, whatever lies there."""
    taken = rows.gather(2, _index(corner, rows.shape[3])).unflatten(2, corner.token.shape[2:])
    return torch.where(corner.valid[..., None], taken, 0)


def _index(corner: _Corner, dim: int) -> Tensor:
    return corner.token.flatten(2)[..., None].expand(-1, -1, -1, dim)


# ---- both ------------------------------------------------------------------------------------------------------------


def _levels(shapes: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
    """(level, first token, height, width) of each level."""
    start = 0
    for level, (h, w) in enumerate(zip(shapes[::2], shapes[1::2], strict=True)):
        yield level, start, h, w
        start += h * w


def _inside(x: Tensor, y: Tensor, h: int, w: int) -> Tensor:
    return (x > -1) & (x < w) & (y > -1) & (y < h)


def _compute(value: Tensor) -> torch.dtype:
    return torch.promote_types(value.dtype, torch.float32)
