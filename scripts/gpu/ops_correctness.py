"""What must hold on a GPU before anything is measured; without one, what of it can be tried on the CPU.

Each check takes a `Bench` and raises; its docstring is its name in the report.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.ops import backends, deformable_attention, use_backend
from models.ops.paths import gather_path, grid_path
from scripts.bench.ops_cases import SIZES, Case, Inputs, draw

# relative, in norm
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 4e-3, torch.float16: 6e-4}
SMALL = SIZES["tiny"]


@dataclass(frozen=True)
class Bench:
    """Where the checks run, on which kernels; `absent` is the operators of a library for another architecture."""

    device: torch.device
    kernels: tuple[str, ...]
    absent: Any = None


def run_checks(bench: Bench) -> list[dict[str, Any]]:
    """One entry a check: name, ok, seconds, error."""
    checks = CHECKS if bench.device.type == "cuda" else [c for c in CHECKS if c not in GPU_ONLY]
    return [_run(check, bench) for check in checks]


def _run(check: Callable[[Bench], None], bench: Bench) -> dict[str, Any]:
    began, error = time.perf_counter(), ""
    try:
        check(bench)
        if bench.device.type == "cuda":
            torch.cuda.synchronize(bench.device)
    except Exception:  # whatever fails is reported, and the others still run
        error = traceback.format_exc(limit=-3)
    seconds = round(time.perf_counter() - began, 2)
    return {"check": (check.__doc__ or "").strip(), "ok": not error, "seconds": seconds, "error": error}


# ---- the operator as a function --------------------------------------------------------------------------------------


def forward(x: Inputs) -> Tensor:
    return torch.ops.refertrack.msda_forward(x.value, x.shapes, x.loc, x.attn)


def backward(x: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ops.refertrack.msda_backward(x.grad_out, x.value, x.shapes, x.loc, x.attn)


def reference(x: Inputs, path: Callable[..., Tensor] = grid_path) -> list[Tensor]:
    """Output and three gradients in float64 of the inputs as they are rounded."""
    value, loc, attn = (t.double().requires_grad_() for t in (x.value, x.loc, x.attn))
    out = path(value, x.shapes, loc, attn)
    return [out.detach(), *torch.autograd.grad(out, (value, loc, attn), x.grad_out.double())]


def agree(x: Inputs, expected: list[Tensor], tolerance: float, what: object) -> None:
    for name, mine, theirs in zip(("out", "value", "loc", "attn"), (forward(x), *backward(x)), expected, strict=True):
        distance = ((mine.double() - theirs).norm() / theirs.norm().clamp_min(1e-30)).item()
        assert distance <= tolerance, f"{what}: {name} is {distance:.2e} from float64, {tolerance:.0e} is allowed"


def off_lattice(x: Inputs) -> Inputs:
    """The same with every coordinate 1/100 of a pixel or more off the lattice lines, where gradients jump."""
    sides = torch.tensor(x.shapes, device=x.loc.device, dtype=torch.float64).view(-1, 2).flip(-1)[:, None]
    pixels = x.loc.double() * sides - 0.5
    pixels = pixels.floor() + (pixels - pixels.floor()).clamp(0.01, 0.99)
    return x._replace(loc=((pixels + 0.5) / sides).to(x.loc.dtype))


def small(dtype: torch.dtype, bench: Bench, seed: int = 0, **sizes: Any) -> Inputs:
    x = off_lattice(draw(Case("", **{"frames": 2, "shapes": SMALL, "queries": 11, "heads": 2, **sizes}), dtype,
                         bench.device, seed=seed))  # fmt: skip
    return x._replace(loc=x.loc.double(), attn=x.attn.double()) if dtype == torch.float64 else x


def on_each(bench: Bench) -> Iterator[str]:
    for name in bench.kernels:
        if backends._module(name).unavailable(bench.device, torch.float32) is None:
            with use_backend(name):
                yield name


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


# ---- checks ----------------------------------------------------------------------------------------------------------


def values(bench: Bench) -> None:
    """values and gradients equal float64, by value type and channels"""
    for name in on_each(bench):
        for dtype, tolerance in TOLERANCE.items():
            for dim in (5, 16, 32, 64):
                x = small(dtype, bench, dim=dim)
                agree(x, reference(x), tolerance, (name, dtype, dim))


def sizes(bench: Bench) -> None:
    """odd sizes: one token, one row, many frames, 80 points, nothing at all"""
    cases: tuple[dict[str, Any], ...] = (
        {"shapes": ((1, 1),)},
        {"shapes": ((1, 9), (8, 1)), "points": 3},
        {"shapes": ((4, 3),) * 5, "points": 16},
        {"frames": 65, "queries": 2},
        {"frames": 154, "queries": 1, "heads": 1},
        {"heads": 16, "dim": 1},
        {"dim": 128},
    )
    for name in on_each(bench):
        for case in cases:
            x = small(torch.float32, bench, **case)
            agree(x, reference(x), 1e-5, (name, case))
        x = small(torch.float32, bench)
        tensors = (x.loc, x.attn, x.grad_out)
        no_frames = Inputs(x.value[:0], x.shapes, *(t[:0] for t in tensors))
        no_queries = Inputs(x.value, x.shapes, *(t[:, :0] for t in tensors))
        for empty in (no_frames, no_queries):
            assert forward(empty).numel() == 0 and not any(g.any() for g in backward(empty)), (name, "empty")


def borders(bench: Bench) -> None:
    """on and beside the borders; NaN and infinite locations read nothing; other tokens' NaN does not leak"""
    axes = ([-1.0, -0.75, -0.5, 0.0, s - 1.0, s - 0.5, float(s)] for s in (8, 4))
    grid = torch.cartesian_prod(*map(torch.tensor, axes)).to(bench.device)
    sides = torch.tensor([8.0, 4.0], device=bench.device)
    outside = ((grid <= -1) | (grid >= sides)).any(-1)
    for name in on_each(bench):
        for dim in (32, 7):
            x = small(torch.float32, bench, frames=1, shapes=((4, 8),), queries=49, heads=1, dim=dim, points=1)
            x = x._replace(loc=((grid + 0.5) / sides).view(x.loc.shape))
            out, (_, grad_loc, grad_attn) = forward(x), backward(x)
            assert not out[:, outside].any() and not grad_loc[:, outside].any() and not grad_attn[:, outside].any()
            assert torch.allclose(out.double(), reference(x)[0], atol=1e-5), (name, dim)
            bad = small(torch.float32, bench, queries=3, dim=dim)
            seen = reference(bad._replace(attn=bad.attn + 1), gather_path)[1]
            away = bad.loc.clone()
            away[:, 1, :, 0, 0], away[:, 2, :, 1, 1] = -9, -9
            bad.loc[:, 1, :, 0, 0, 0], bad.loc[:, 2, :, 1, 1, 1] = math.nan, math.inf
            holes = bad.value.masked_fill((seen == 0).all(-1, keepdim=True), math.nan)
            mine, clean = bad._replace(value=holes), bad._replace(loc=away)
            assert torch.equal(forward(mine), forward(clean)), (name, dim)
            for one, other in zip(backward(mine)[1:], backward(clean)[1:], strict=True):
                assert torch.equal(one, other), (name, dim)


def inputs(bench: Bench) -> None:
    """strided, expanded and misaligned inputs; autocast"""
    for name in on_each(bench):
        x = small(torch.float32, bench)
        one = x.value[:1].expand(2, -1, -1, -1)
        loc = x.loc.transpose(0, 1).contiguous().transpose(0, 1)
        assert torch.equal(forward(x._replace(value=one, loc=loc)), forward(x._replace(value=one.contiguous()))), name
        shifted = torch.empty(x.value.numel() + 1, device=bench.device)[1:].view(x.value.shape).copy_(x.value)
        agree(x._replace(value=shifted), reference(x), 1e-5, (name, "misaligned"))
        with torch.autocast(bench.device.type, dtype=torch.bfloat16):
            shapes = tuple(zip(x.shapes[::2], x.shapes[1::2], strict=True))
            assert deformable_attention(x.value, shapes, x.loc, x.attn).dtype == torch.bfloat16, name


def determinism(bench: Bench) -> None:
    """run to run: all bits equal with the flag; without it only the value gradient may differ"""
    for name in on_each(bench):
        x = small(torch.float32, bench, queries=200)
        first, second = (forward(x), *backward(x)), (forward(x), *backward(x))
        if name != "pytorch":
            assert all(torch.equal(first[i], second[i]) for i in (0, 2, 3)), name
        if name != "native" or bench.device.type != "cuda":
            continue
        with deterministic():
            exact = [backward(x)[0] for _ in range(5)]
        assert all(torch.equal(exact[0], other) for other in exact[1:])
        assert ((exact[0] - first[1]).norm() / first[1].norm()).item() < 1e-6


def streams(bench: Bench) -> None:
    """on a side stream without synchronisation, and on two at once"""
    a, b = small(torch.float32, bench, queries=500), small(torch.float32, bench, seed=1, queries=500)
    for name in on_each(bench):
        expected = forward(a), forward(b)
        torch.cuda.synchronize(bench.device)
        sides = [torch.cuda.Stream(bench.device) for _ in range(2)]
        got = []
        for side, x in zip(sides, (a, b), strict=True):
            with torch.cuda.stream(side):
                work = torch.randn(4096, 4096, device=bench.device)
                value = torch.zeros_like(x.value)
                for _ in range(10):  # the value is written long after the operator was called
                    work = work @ work * 1e-3
                value.copy_(x.value + 0 * work[0, 0].nan_to_num(0, 0, 0))
                got.append(forward(x._replace(value=value)))
        torch.cuda.synchronize(bench.device)
        assert all(torch.equal(x, y) for x, y in zip(got, expected, strict=True)), name


def graphs(bench: Bench) -> None:
    """CUDA graph: captured, replayed on other inputs"""
    for name in on_each(bench):
        if name == "pytorch":
            continue
        x, other = small(torch.float32, bench), small(torch.float32, bench, seed=1)
        side = torch.cuda.Stream(bench.device)
        side.wait_stream(torch.cuda.current_stream(bench.device))
        with torch.cuda.stream(side):
            forward(x), backward(x)
        torch.cuda.synchronize(bench.device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out, grads = forward(x), backward(x)
        for field in ("value", "loc", "attn", "grad_out"):
            getattr(x, field).copy_(getattr(other, field))
        graph.replay()
        assert torch.equal(out, forward(other)), name
        assert torch.allclose(grads[0], backward(other)[0], atol=1e-5), name


def large(bench: Bench) -> None:
    """more than 2^31 elements of value"""
    frames = 1900
    x = small(torch.bfloat16, bench, shapes=SIZES["360p"], queries=4, heads=8)
    repeat = [t.repeat(frames // 2, *[1] * (t.dim() - 1)) for t in (x.value, x.loc, x.attn, x.grad_out)]
    big = Inputs(repeat[0], x.shapes, *repeat[1:])
    assert big.value.numel() > 2**31
    for name in on_each(bench):
        if name == "pytorch":
            continue
        expected = forward(x), *backward(x)
        out = forward(big)
        for mine, theirs in zip((out, *backward(big)), expected, strict=True):
            for end in (mine[:2], mine[-2:]):  # few rows may be split among lanes, many are not: rounded differently
                assert torch.allclose(end.float(), theirs.float(), rtol=2e-2, atol=1e-2), name


def other_device(bench: Bench) -> None:
    """tensors on another GPU than the current one, where there are two"""
    if torch.cuda.device_count() < 2:
        return
    x = small(torch.float32, Bench(torch.device("cuda", 1), bench.kernels))
    for name in on_each(Bench(torch.device("cuda", 1), bench.kernels)):
        agree(x, reference(x), 1e-5, name)


def absent_architecture(bench: Bench) -> None:
    """a library without code for this GPU raises, naming both architectures"""
    if bench.absent is None:
        raise AssertionError("no such library was built")
    x = small(torch.float32, bench)
    try:
        bench.absent.msda_forward(x.value, x.shapes, x.loc, x.attn)
    except RuntimeError as error:
        major, minor = torch.cuda.get_device_capability(bench.device)
        assert f"compute capability {major}.{minor}" in str(error) and "--cuda-arch" in str(error), str(error)
    else:
        raise AssertionError("it ran, or did nothing and kept silent")


CHECKS: list[Callable[[Bench], None]] = [values, sizes, borders, inputs, determinism, streams, graphs, large]
CHECKS += [other_device, absent_architecture]
GPU_ONLY = (streams, graphs, large, other_device, absent_architecture)
