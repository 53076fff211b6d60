"""The Triton kernels against float64; test_triton.py runs this file with TRITON_INTERPRET=1, on the CPU."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from msda_cases import FEW, Case, distance, draw, gradients, reference
from torch import Tensor

from models.ops import triton_msda, use_backend

SMALL = dict(Q=5, D=8)


def run(case: Case, grad_out: Tensor) -> tuple[Tensor, ...]:
    """Output and the gradients of value, loc and attn."""
    out = triton_msda.forward(case.value, case.flat, case.loc, case.attn)
    return (out, *triton_msda.backward(grad_out, case.value, case.flat, case.loc, case.attn))


def check(case: Case, tolerance: float) -> None:
    grad_out = torch.randn(*case.loc.shape[:3], case.value.shape[3]).to(case.value.dtype)
    results, expected = run(case, grad_out), reference(case, grad_out)
    names = ("out", "value", "locations", "weights")
    for name, x, y, like in zip(names, results, expected, (case.value, *case[:3]), strict=True):
        assert x.dtype == like.dtype and x.shape == y.shape and x.is_contiguous(), name
        assert distance(x, y) <= tolerance, name


def test_the_interpreter_serves_cpu_tensors() -> None:
    assert triton_msda.unavailable(torch.device("cpu"), torch.float32) is None
    assert "float8" in (triton_msda.unavailable(torch.device("cpu"), torch.float8_e5m2) or "")


# The interpreter truncates to bfloat16 where a GPU rounds, hence twice the error of one rounding.
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 8e-3), (torch.float16, 6e-4)],
)
def test_value_and_gradients(dtype: torch.dtype, tolerance: float) -> None:
    check(draw(dtype, **SMALL), tolerance)


@pytest.mark.parametrize(
    "sizes",
    [
        dict(D=1, Q=5),
        dict(D=5, H=3, Q=5),
        dict(D=33, Q=3),
        dict(D=64, Q=19, N=1),
        dict(SMALL, P=1),
        dict(SMALL, P=3, shapes=((1, 1), (1, 6), (4, 1))),
    ],
    ids=str,
)
def test_odd_sizes(sizes: dict[str, Any]) -> None:
    check(draw(**sizes), 1e-5)


def test_half_precision_weights() -> None:
    case = draw(torch.bfloat16, **SMALL)
    check(case._replace(attn=case.attn.bfloat16()), 8e-3)


@pytest.mark.parametrize("empty", ["N", "Q"])
def test_nothing_to_do(empty: str) -> None:
    case = draw(**{**SMALL, empty: 0})
    out, *grads = run(case, torch.zeros(*case.loc.shape[:3], 8))
    assert out.shape == (*case.loc.shape[:3], 8)
    assert all(g.shape == x.shape and not g.any() for g, x in zip(grads, case[:3], strict=True))


def test_borders_of_the_map() -> None:
    """Lattice coordinates that float32 holds exactly, on and beside each border of a map of 8 by 4 pixels."""
    axes = ([-1.0, -0.75, -0.5, 0.0, side - 1.0, side - 0.5, side - 0.25, float(side)] for side in (8, 4))
    grid = torch.cartesian_prod(*map(torch.tensor, axes))
    loc = ((grid + 0.5) / torch.tensor([8.0, 4.0])).view(1, -1, 1, 1, 1, 2).contiguous()
    case = Case(torch.randn(1, 32, 1, 8), loc, torch.rand(1, 64, 1, 1, 1), ((4, 8),))
    outside = ((grid <= -1) | (grid >= torch.tensor([8.0, 4.0]))).any(-1)
    grad_out = torch.randn(1, 64, 1, 8)
    out, _, grad_loc, grad_attn = run(case, grad_out)
    expected = reference(case, grad_out)
    assert distance(out, expected[0]) < 1e-6 and distance(grad_attn, expected[3]) < 1e-6
    assert distance(grad_loc[:, ~outside], expected[2][:, ~outside]) < 1e-6
    assert out[:, ~outside].any(-1).all()
    assert not out[:, outside].any() and not grad_loc[:, outside].any() and not grad_attn[:, outside].any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_stays_where_it_is(bad: float) -> None:
    """In a location, in the weight of a point that reads nothing, and in tokens outside every footprint."""
    case = draw(**{**SMALL, "Q": 3})
    grad_out = torch.randn(2, 3, 2, 8)
    seen = reference(Case(case.value, case.loc, case.attn + 1, FEW), grad_out)[1]
    poisoned = case.value.masked_fill((seen == 0).all(-1, keepdim=True), math.nan)
    loc, attn = case.loc.clone(), case.attn.clone()
    loc[:, 1, :, 0, 0, 0], loc[:, 2, :, 1, 1, 1], attn[:, 1, :, 0, 0] = bad, bad, math.nan
    away = torch.where(loc.isfinite().all(-1, keepdim=True), loc, -9.0)
    assert poisoned.isnan().any() and not poisoned.isnan().all()
    ours = run(Case(poisoned, loc, attn, FEW), grad_out)
    clean = run(Case(case.value, away, case.attn, FEW), grad_out)
    for x, y in zip(ours[:3], clean[:3], strict=True):
        assert torch.equal(x, y)
    assert torch.equal(ours[3], clean[3]) and ours[0].any() and not ours[2][:, 1, :, 0, 0].any()


def test_strided_inputs() -> None:
    case = draw(**SMALL)
    strided = case.value[:1].transpose(1, 2).contiguous().transpose(1, 2).expand(2, -1, -1, -1)
    loc = case.loc.transpose(0, 1).contiguous().transpose(0, 1)
    assert not strided.is_contiguous() and not loc.is_contiguous()
    expected = triton_msda.forward(strided.contiguous(), case.flat, case.loc, case.attn)
    assert torch.equal(triton_msda.forward(strided, case.flat, loc, case.attn), expected)


def test_through_the_operator() -> None:
    case = draw(**SMALL)
    grad_out = torch.randn(2, 5, 2, 8)
    with use_backend("triton"):
        results = gradients(case, grad_out)
    assert all(torch.equal(x, y) for x, y in zip(results, run(case, grad_out), strict=True))
