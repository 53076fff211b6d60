"""Triton kernels of multi-scale deformable attention: one program = BQ queries of one frame and head.

Level sides arrive as floats: Triton compiles a kernel anew for integers that are 1 or multiples of 16, never for
floats, so one kernel serves every image size (sides are exact below 2^24). The loop over levels stays a loop:
unrolled, its live registers spill.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _sides(sides, level, L: tl.constexpr):
    """(h, w) of a level, as floats, picked by selects because a tuple has no run-time index."""
    h = 0.0
    w = 0.0
    for j in tl.static_range(L):
        h = tl.where(level == j, sides[2 * j], h)
        w = tl.where(level == j, sides[2 * j + 1], w)
    return h, w


@triton.jit
def _footprint(loc_x, loc_y, live, h, w):
    """Rows -> upper left token in the level, fractions, and which of the four corners lie on the map."""
    x = loc_x * w - 0.5
    y = loc_y * h - 0.5
    inside = live & (x > -1) & (x < w) & (y > -1) & (y < h)
    # Selected before the conversion to integers, which is undefined for NaN and infinity.
    x = tl.where(inside, x, 0.0)
    y = tl.where(inside, y, 0.0)
    x0 = tl.floor(x)
    y0 = tl.floor(y)
    left = inside & (x0 >= 0)
    right = inside & (x0 + 1 < w)
    top = y0 >= 0
    bottom = y0 + 1 < h
    token = y0.to(tl.int32) * w.to(tl.int32) + x0.to(tl.int32)
    return token, x - x0, y - y0, top & left, top & right, bottom & left, bottom & right


@triton.jit
def _mask(rows, channels, D: tl.constexpr, BD: tl.constexpr):
    # Without the compare on channels a full-width row stays one vector load.
    if D == BD:
        return rows[:, None]
    else:
        return rows[:, None] & (channels < D)[None, :]


@triton.jit
def _corner(base, token, rows, channels, STRIDE: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, INDEX: tl.constexpr):
    """Pointers [BQ, BD] and mask of one corner's channels; base names token 0 of the frame, head's first channel."""
    pointers = base + (token.to(INDEX) * STRIDE)[:, None] + channels[None, :]
    return pointers, _mask(rows, channels, D, BD)


@triton.jit
def _rows(S, Q, H: tl.constexpr, BQ: tl.constexpr, INDEX: tl.constexpr):
    """What a program computes: number of its frame's first token and query, its rows from there, and which are real."""
    program = tl.program_id(0).to(tl.int64)
    head = program % H
    blocks = tl.cdiv(Q, BQ)
    frame = program // H // blocks
    query = ((program // H) % blocks).to(tl.int32) * BQ + tl.arange(0, BQ)
    return frame * S * H + head, frame * Q * H + head, query.to(INDEX) * H, query < Q


@triton.jit
def forward_kernel(
    value, sides, loc, attn, out, S, Q,
    H: tl.constexpr, D: tl.constexpr, L: tl.constexpr, P: tl.constexpr,
    BQ: tl.constexpr, BD: tl.constexpr, ACC: tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    """value [N,S,H,D], loc [N,Q,H,L,P,2], attn [N,Q,H,L,P] -> out [N,Q,H,D]; grid N * ceil(Q/BQ) * H."""
    token_row, first, row, live = _rows(S, Q, H, BQ, INDEX)
    channels = tl.arange(0, BD)
    base = value + token_row * D
    loc_row = loc + first * (L * P * 2) + row * (L * P * 2)
    attn_row = attn + first * (L * P) + row * (L * P)
    sums = tl.zeros([BQ, BD], ACC)
    start = 0
    for level in tl.range(0, L):
        h, w = _sides(sides, level, L)
        for p in tl.static_range(P):
            point = level * P + p
            loc_x = tl.load(loc_row + 2 * point, mask=live, other=0.0)
            loc_y = tl.load(loc_row + 2 * point + 1, mask=live, other=0.0)
            a = tl.load(attn_row + point, mask=live, other=0.0).to(ACC)
            token, fx, fy, in00, in01, in10, in11 = _footprint(loc_x, loc_y, live, h, w)
            token += start
            wide = w.to(tl.int32)
            p00, m00 = _corner(base, token, in00, channels, H * D, D, BD, INDEX)
            p01, m01 = _corner(base, token + 1, in01, channels, H * D, D, BD, INDEX)
            p10, m10 = _corner(base, token + wide, in10, channels, H * D, D, BD, INDEX)
            p11, m11 = _corner(base, token + wide + 1, in11, channels, H * D, D, BD, INDEX)
            v00 = tl.load(p00, mask=m00, other=0.0).to(ACC)
            v01 = tl.load(p01, mask=m01, other=0.0).to(ACC)
            v10 = tl.load(p10, mask=m10, other=0.0).to(ACC)
            v11 = tl.load(p11, mask=m11, other=0.0).to(ACC)
            # The selects keep a NaN weight of a point that reads nothing out of the sum.
            sums += v00 * tl.where(in00, a * (1 - fy) * (1 - fx), 0.0)[:, None]
            sums += v01 * tl.where(in01, a * (1 - fy) * fx, 0.0)[:, None]
            sums += v10 * tl.where(in10, a * fy * (1 - fx), 0.0)[:, None]
            sums += v11 * tl.where(in11, a * fy * fx, 0.0)[:, None]
        start += h.to(tl.int32) * w.to(tl.int32)
    out_row = out + first * D + row * D
    tl.store(out_row[:, None] + channels[None, :], sums.to(out.dtype.element_ty), mask=_mask(live, channels, D, BD))


@triton.jit
def _corner_gradient(
    value, grad_value, token, rows, coefficient, g, channels,
    STRIDE: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    """Adds coefficient * g to the corner's value gradient; returns <g, value> of the corner, 0 where it is outside."""
    pointers, mask = _corner(value, token, rows, channels, STRIDE, D, BD, INDEX)
    v = tl.load(pointers, mask=mask, other=0.0).to(g.dtype)
    pointers, mask = _corner(grad_value, token, rows, channels, STRIDE, D, BD, INDEX)
    tl.atomic_add(pointers, coefficient[:, None] * g, mask=mask, sem="relaxed")
    return tl.where(rows, tl.sum(v * g, 1), 0.0)


@triton.jit
def backward_kernel(
    grad_out, value, sides, loc, attn, grad_value, grad_loc, grad_attn, S, Q,
    H: tl.constexpr, D: tl.constexpr, L: tl.constexpr, P: tl.constexpr,
    BQ: tl.constexpr, BD: tl.constexpr, ACC: tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    """grad_value [N,S,H,D] of type ACC, zero at entry, by atomics; grad_loc and grad_attn are written once."""
    token_row, first, row, live = _rows(S, Q, H, BQ, INDEX)
    channels = tl.arange(0, BD)
    base = value + token_row * D
    grad_base = grad_value + token_row * D
    offset = first * (L * P) + row * (L * P)
    out_row = grad_out + first * D + row * D
    g = tl.load(out_row[:, None] + channels[None, :], mask=_mask(live, channels, D, BD), other=0.0).to(ACC)
    start = 0
    for level in tl.range(0, L):
        h, w = _sides(sides, level, L)
        wide = w.to(tl.int32)
        for p in tl.static_range(P):
            point = offset + (level * P + p)
            loc_x = tl.load(loc + 2 * point, mask=live, other=0.0)
            loc_y = tl.load(loc + 2 * point + 1, mask=live, other=0.0)
            a = tl.load(attn + point, mask=live, other=0.0).to(ACC)
            token, fx, fy, in00, in01, in10, in11 = _footprint(loc_x, loc_y, live, h, w)
            token += start
            w00, w01, w10, w11 = (1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx
            d00 = _corner_gradient(base, grad_base, token, in00, a * w00, g, channels, H * D, D, BD, INDEX)
            d01 = _corner_gradient(base, grad_base, token + 1, in01, a * w01, g, channels, H * D, D, BD, INDEX)
            d10 = _corner_gradient(base, grad_base, token + wide, in10, a * w10, g, channels, H * D, D, BD, INDEX)
            d11 = _corner_gradient(base, grad_base, token + wide + 1, in11, a * w11, g, channels, H * D, D, BD, INDEX)
            touched = in00 | in01 | in10 | in11
            along_a = w00 * d00 + w01 * d01 + w10 * d10 + w11 * d11
            along_x = tl.where(touched, a * w * ((1 - fy) * (d01 - d00) + fy * (d11 - d10)), 0.0)
            along_y = tl.where(touched, a * h * ((1 - fx) * (d10 - d00) + fx * (d11 - d01)), 0.0)
            tl.store(grad_attn + point, along_a.to(grad_attn.dtype.element_ty), mask=live)
            tl.store(grad_loc + 2 * point, along_x.to(grad_loc.dtype.element_ty), mask=live)
            tl.store(grad_loc + 2 * point + 1, along_y.to(grad_loc.dtype.element_ty), mask=live)
        start += h.to(tl.int32) * wide
