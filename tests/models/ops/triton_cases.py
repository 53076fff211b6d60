"""The Triton kernels against a float64 gather; test_triton.py runs this file with TRITON_INTERPRET=1, on the CPU."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.ops import triton_msda

Shapes = tuple[tuple[int, int], ...]
LEVELS: Shapes = ((5, 7), (3, 4))


def reference(value: Tensor, shapes: Shapes, loc: Tensor, attn: Tensor) -> Tensor:
    """[N,Q,H,D] in float64, differentiable; a point or corner off the map is selected away, not multiplied by zero."""
    value, loc, attn = value.double(), loc.double(), attn.double()
    frame = torch.arange(loc.shape[0])[:, None, None, None]
    head = torch.arange(loc.shape[2])[None, None, :, None]
    total = value.new_zeros(*loc.shape[:3], value.shape[3])
    start = 0
    for level, (h, w) in enumerate(shapes):
        x, y = (loc[:, :, :, level, :, i] * side - 0.5 for i, side in enumerate((w, h)))
        inside = (x > -1) & (x < w) & (y > -1) & (y < h)
        x, y = (torch.where(inside, t, 0.0) for t in (x, y))
        x0, y0 = x.detach().floor(), y.detach().floor()
        for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
            on = inside & (x0 + dx >= 0) & (x0 + dx < w) & (y0 + dy >= 0) & (y0 + dy < h)
            weight = (x - x0 if dx else 1 - x + x0) * (y - y0 if dy else 1 - y + y0) * attn[:, :, :, level]
            token = (start + (y0 + dy).clamp(0, h - 1) * w + (x0 + dx).clamp(0, w - 1)).long()
            seen = value[frame, token, head] * weight[..., None]
            total = total + torch.where(on[..., None], seen, 0.0).sum(3)
        start += h * w
    return total


def inputs(
    N: int = 2,
    Q: int = 5,
    H: int = 2,
    D: int = 8,
    P: int = 2,
    shapes: Shapes = LEVELS,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    """value, loc and attn; points lie up to 2 pixels off the map and at least 0.01 pixels off its lattice lines."""
    fine = torch.float64 if dtype == torch.float64 else torch.float32
    value = torch.randn(N, sum(h * w for h, w in shapes), H, D).to(dtype)
    sides = torch.tensor([[w, h] for h, w in shapes], dtype=fine)[:, None, :]
    cell = (torch.rand(N, Q, H, len(shapes), P, 2, dtype=fine) * (sides + 3)).floor() - 2
    loc = (cell + 0.01 + 0.98 * torch.rand_like(cell) + 0.5) / sides
    attn = torch.rand(N, Q, H, len(shapes), P, dtype=fine) / (len(shapes) * P)
    return value, loc, attn


def flat(shapes: Shapes) -> list[int]:
    return [side for shape in shapes for side in shape]


def error(ours: Tensor, theirs: Tensor) -> float:
    return ((ours.double() - theirs).norm() / theirs.norm().clamp_min(1e-30)).item()


def check(value: Tensor, shapes: Shapes, loc: Tensor, attn: Tensor, tolerance: float) -> None:
    exact = [t.double().requires_grad_() for t in (value, loc, attn)]
    expected = reference(exact[0], shapes, exact[1], exact[2])
    grad_out = torch.randn(expected.shape).to(value.dtype)
    gradients = torch.autograd.grad(expected, exact, grad_out.double())
    out = triton_msda.forward(value, flat(shapes), loc, attn)
    ours = triton_msda.backward(grad_out, value, flat(shapes), loc, attn)
    for mine, given in zip((out, *ours), (value, value, loc, attn), strict=True):
        assert mine.dtype == given.dtype and mine.is_contiguous()
    assert error(out, expected) < tolerance
    for mine, theirs in zip(ours, gradients, strict=True):
        assert mine.shape == theirs.shape
        assert error(mine, theirs) < tolerance


def test_the_interpreter_serves_cpu_tensors() -> None:
    assert triton_msda.unavailable(torch.device("cpu"), torch.float32) is None
    assert "float8" in (triton_msda.unavailable(torch.device("cpu"), torch.float8_e5m2) or "")


# The interpreter truncates to bfloat16 where a GPU rounds, hence twice the error of one rounding.
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 8e-3), (torch.float16, 6e-4)],
)
def test_value_and_gradients(dtype: torch.dtype, tolerance: float) -> None:
    check(*((t := inputs(dtype=dtype))[0], LEVELS), *t[1:], tolerance=tolerance)


@pytest.mark.parametrize(
    "sizes",
    [
        {"D": 1},
        {"D": 5, "H": 3},
        {"D": 33, "Q": 3},
        {"D": 64, "Q": 19, "N": 1},
        {"P": 1},
        {"P": 3, "shapes": ((1, 1), (1, 6), (4, 1))},
    ],
    ids=str,
)
def test_odd_sizes(sizes: dict) -> None:
    value, loc, attn = inputs(**sizes)
    check(value, sizes.get("shapes", LEVELS), loc, attn, tolerance=1e-5)


def test_half_precision_weights() -> None:
    value, loc, attn = inputs(dtype=torch.bfloat16)
    check(value, LEVELS, loc, attn.bfloat16(), tolerance=8e-3)


@pytest.mark.parametrize("empty", ["N", "Q"])
def test_nothing_to_do(empty: str) -> None:
    value, loc, attn = inputs(**{empty: 0})
    assert triton_msda.forward(value, flat(LEVELS), loc, attn).shape == (*loc.shape[:3], value.shape[3])
    gradients = triton_msda.backward(loc.new_zeros(*loc.shape[:3], value.shape[3]), value, flat(LEVELS), loc, attn)
    assert all(g.shape == t.shape and not g.any() for g, t in zip(gradients, (value, loc, attn), strict=True))


def test_borders_of_the_map() -> None:
    """Lattice coordinates that float32 holds exactly, on and beside each border of a map of 8 by 4 pixels."""
    shapes: Shapes = ((4, 8),)
    axes = [[-1.0, -0.75, -0.5, 0.0, side - 1.0, side - 0.5, side - 0.25, float(side)] for side in (8, 4)]
    grid = torch.cartesian_prod(torch.tensor(axes[0]), torch.tensor(axes[1]))
    loc = ((grid + 0.5) / torch.tensor([8.0, 4.0])).view(1, -1, 1, 1, 1, 2).expand(1, -1, 2, 1, 1, 2)
    value, _, _ = inputs(N=1, Q=1, P=1, shapes=shapes)
    attn = torch.rand(1, loc.shape[1], 2, 1, 1)
    check(value, shapes, loc, attn, tolerance=1e-6)
    outside = ((grid <= -1) | (grid >= torch.tensor([8.0, 4.0]))).any(-1)
    out = triton_msda.forward(value, flat(shapes), loc, attn)
    assert not out[:, outside].any() and out[:, ~outside].any(-1).all()
    gradients = triton_msda.backward(torch.ones_like(out), value, flat(shapes), loc, attn)
    assert not gradients[1][:, outside].any() and not gradients[2][:, outside].any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_locations_that_are_no_numbers_contribute_nothing(bad: float) -> None:
    value, loc, attn = inputs()
    loc[:, 1, :, 0, 0, 0] = bad
    loc[:, 2, :, 1, 1, 1] = bad
    attn[:, 1, :, 0, 0] = math.nan  # of a point that reads nothing: it may not matter either
    clean_loc, clean_attn = loc.clone(), attn.clone()
    clean_loc[:, 1, :, 0, 0], clean_loc[:, 2, :, 1, 1], clean_attn[:, 1, :, 0, 0] = -9.0, -9.0, 0.5
    out = triton_msda.forward(value, flat(LEVELS), loc, attn)
    assert torch.equal(out, triton_msda.forward(value, flat(LEVELS), clean_loc, clean_attn))
    ours = triton_msda.backward(torch.ones_like(out), value, flat(LEVELS), loc, attn)
    clean = triton_msda.backward(torch.ones_like(out), value, flat(LEVELS), clean_loc, clean_attn)
    assert all(torch.equal(a, b) for a, b in zip(ours, clean, strict=True))
    assert out.any() and not ours[1][:, 1, :, 0, 0].any()


def test_tokens_outside_every_footprint_do_not_leak() -> None:
    value, loc, attn = inputs(Q=3)
    used = torch.zeros_like(value, dtype=torch.float64).requires_grad_()
    reference(used, LEVELS, loc, attn + 1).sum().backward()
    assert used.grad is not None
    poisoned = value.masked_fill(used.grad == 0, math.nan)
    assert poisoned.isnan().any() and not poisoned.isnan().all()
    expected = triton_msda.forward(value, flat(LEVELS), loc, attn)
    assert torch.equal(triton_msda.forward(poisoned, flat(LEVELS), loc, attn), expected)
    ours = triton_msda.backward(torch.ones_like(expected), poisoned, flat(LEVELS), loc, attn)
    clean = triton_msda.backward(torch.ones_like(expected), value, flat(LEVELS), loc, attn)
    assert all(torch.equal(a, b) for a, b in zip(ours, clean, strict=True))


def test_strided_inputs() -> None:
    value, loc, attn = inputs()
    strided = value[:1].transpose(1, 2).contiguous().transpose(1, 2).expand(2, -1, -1, -1)
    expected = triton_msda.forward(strided.contiguous(), flat(LEVELS), loc, attn)
    loc = loc.transpose(0, 1).contiguous().transpose(0, 1)
    assert not strided.is_contiguous() and not loc.is_contiguous()
    assert torch.equal(triton_msda.forward(strided, flat(LEVELS), loc, attn), expected)
