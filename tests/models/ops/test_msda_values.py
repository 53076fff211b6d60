"""The operator's values and gradients on every backend: against float64, at borders, for odd shapes and inputs."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from msda_cases import FEW, LEVELS, Case, distance, draw, gradients, reference
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from models.ops import deformable_attention, native, paths, use_backend

# relative, in norm
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 4e-3, torch.float16: 6e-4}
MANY = dict(Q=120)  # so many points that a head is packed; few are read in place
INPUTS = ("value", "locations", "weights")


def check(case: Case, tolerance: float | None = None) -> None:
    """Output and three gradients against float64, dtypes included."""
    grad_out = torch.randn_like(case.run())
    results, expected = gradients(case, grad_out), reference(case, grad_out)
    limit = TOLERANCE[case.value.dtype] if tolerance is None else tolerance
    types = (case.value.dtype, case.value.dtype, case.loc.dtype, case.attn.dtype)
    for name, x, y, dtype in zip(("out", *INPUTS), results, expected, types, strict=True):
        assert x.dtype == dtype, name
        assert distance(x, y) <= limit, name


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("sizes", [{}, MANY, dict(D=5), dict(D=5, **MANY)], ids=str)
def test_against_float64(backend: str, dtype: torch.dtype, sizes: dict[str, int]) -> None:
    check(draw(dtype, **sizes))


@pytest.mark.parametrize(
    "sizes",
    [
        *(dict(D=d) for d in (1, 8, 32, 33, 64, 128)),
        *(dict(P=p) for p in (1, 3, 8)),
        dict(H=1),
        dict(H=16, D=1),
        dict(P=4, shapes=LEVELS, D=32),
        dict(P=16, shapes=((4, 3),) * 5),  # 80 points, more than the vector kernels hold
        dict(shapes=((1, 1),)),
        dict(shapes=((1, 9), (8, 1))),
        dict(N=65, Q=2),
        dict(N=154, Q=1, H=1),
    ],
    ids=str,
)
@pytest.mark.parametrize("many", [False, True])
def test_sizes(backend: str, sizes: dict, many: bool) -> None:
    check(draw(**{**sizes, **(MANY if many and sizes.get("N", 0) < 65 else {})}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("empty", [dict(N=0), dict(Q=0), dict(P=0)], ids=str)
def test_nothing_asked(backend: str, dtype: torch.dtype, empty: dict[str, int]) -> None:
    case = draw(dtype, **empty)
    results = gradients(case, torch.ones_like(case.run()))
    assert [x.shape for x in results[1:]] == [x.shape for x in case[:3]]
    assert not any(x.any() for x in results)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_borders(backend: str, dtype: torch.dtype) -> None:
    """Where a point begins and ceases to count, in x and y; -1 exactly is outside, with slope zero."""
    h, w = 4, 8  # powers of two keep x exact
    epsilon = 1e-3
    xs, ys = ([-1, -1 + epsilon, -0.5, 0, n - 1, n - 0.5, n - epsilon, n] for n in (w, h))
    places = [((x + 0.5) / w, (y + 0.5) / h) for x, y in itertools.product(xs, ys)]
    loc = torch.tensor(places, dtype=dtype).view(1, 64, 1, 1, 1, 2)
    value = torch.arange(1.0, 1 + h * w, dtype=dtype).view(1, h * w, 1, 1).expand(-1, -1, -1, 16).contiguous()
    case = Case(value, loc, torch.ones(1, 64, 1, 1, 1, dtype=dtype), ((h, w),)).leaves()
    out = case.run()
    out.sum().backward()
    assert case.loc.grad is not None
    for i, (x, y) in enumerate(itertools.product(xs, ys)):
        expected, slope_x, slope_y = by_hand(value[0, :, 0, 0].view(h, w), x, y)
        assert out[0, i, 0, 0].item() == pytest.approx(expected, rel=2e-5, abs=5e-5), (x, y)
        slopes = case.loc.grad[0, i, 0, 0, 0].tolist()
        assert slopes == pytest.approx([16 * w * slope_x, 16 * h * slope_y], rel=1e-4, abs=1e-2), (x, y)


def by_hand(plane: Tensor, x: float, y: float) -> tuple[float, float, float]:
    """Value and right-hand slopes at (x, y) in pixels."""
    h, w = plane.shape
    if not (-1 < x < w and -1 < y < h):
        return 0.0, 0.0, 0.0
    x0, y0 = math.floor(x), math.floor(y)
    fx, fy = x - x0, y - y0

    def pixel(j: int, i: int) -> float:
        return plane[j, i].item() if 0 <= i < w and 0 <= j < h else 0.0

    a, b, c, d = pixel(y0, x0), pixel(y0, x0 + 1), pixel(y0 + 1, x0), pixel(y0 + 1, x0 + 1)
    value = (1 - fy) * ((1 - fx) * a + fx * b) + fy * ((1 - fx) * c + fx * d)
    return value, (1 - fy) * (b - a) + fy * (d - c), (1 - fx) * (c - a) + fx * (d - b)


@pytest.mark.parametrize("sizes", [{}, MANY], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_all_outside_is_exactly_zero(backend: str, dtype: torch.dtype, sizes: dict[str, int]) -> None:
    case = draw(dtype, **sizes)
    away = torch.where(case.loc > 0.5, case.loc + 2, case.loc - 2)
    case = case._replace(loc=away)
    assert not any(x.any() for x in gradients(case, torch.ones_like(case.run())))


@pytest.mark.parametrize("sizes", [{}, MANY, dict(D=5)], ids=str)
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 3e38], ids=str)
def test_locations_that_are_no_numbers_count_nowhere(backend: str, wrong: float, sizes: dict[str, int]) -> None:
    case = draw(**sizes)
    lost = torch.rand(case.attn.shape) < 0.3
    loc = torch.where(lost[..., None] & torch.tensor([True, False]), wrong, case.loc)
    far = torch.where(lost[..., None], 9.0, case.loc)
    grad_out = torch.randn_like(case.run())
    results = gradients(case._replace(loc=loc), grad_out)
    for x, y in zip(results, gradients(case._replace(loc=far), grad_out), strict=True):
        assert torch.equal(x, y)
    assert not results[2][lost].any() and not results[3][lost].any()


@pytest.mark.parametrize("sizes", [dict(Q=3), MANY, dict(Q=3, D=5)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_lies_elsewhere_does_not_leak(backend: str, dtype: torch.dtype, sizes: dict[str, int]) -> None:
    """NaN and infinity in every token that no point touches, the first of each level among them."""
    case = draw(dtype, P=1, **sizes)
    grad_out = torch.randn_like(case.run())
    loc = case.loc.clamp(0.45, 0.8)  # the last query's alone is outside
    loc[:, -1] = 5.0
    case = case._replace(loc=loc)
    clean = gradients(case, grad_out)
    touched = torch.zeros(case.value.shape[:3], dtype=torch.bool)
    touched |= gradients(case, torch.ones_like(grad_out))[1].ne(0).any(-1)
    assert not touched[:, 0].any() and not touched[:, FEW[0][0] * FEW[0][1]].any()
    for bad in (math.nan, math.inf):
        value = torch.where(touched[..., None], case.value, bad)
        results = gradients(case._replace(value=value), grad_out)
        assert all(torch.equal(x, y) for x, y in zip(results, clean, strict=True))
    inside = torch.where(touched[..., None], torch.nan, case.value)
    assert case._replace(value=inside).run()[:, :-1].isnan().any()


# ---- inputs ----------------------------------------------------------------------------------------------------------


def strided(x: Tensor) -> Tensor:
    return x.transpose(0, -1).contiguous().transpose(0, -1)


def offset(x: Tensor) -> Tensor:
    """The same numbers one element into their storage: aligned to the element and no more."""
    room = torch.empty(x.numel() + 1, dtype=x.dtype)
    return room[1:].view(x.shape).copy_(x)


@pytest.mark.parametrize("change", [strided, offset])
@pytest.mark.parametrize("sizes", [{}, MANY, dict(D=32)], ids=str)
def test_layout_does_not_matter(backend: str, change: Callable[[Tensor], Tensor], sizes: dict[str, int]) -> None:
    case = draw(**sizes)
    grad_out = torch.randn_like(case.run())
    other = Case(*(change(x) for x in case[:3]), case.shapes)
    value, loc, attn = (x.requires_grad_() for x in other[:3])
    out = other.run()
    results = (out, *torch.autograd.grad(out, (value, loc, attn), change(grad_out)))
    for x, y in zip(results, gradients(case, grad_out), strict=True):
        assert torch.equal(x, y)


def test_expanded_values(backend: str) -> None:
    case = draw(N=3)
    one = case.value[:1].clone().requires_grad_()
    out = case._replace(value=one.expand(3, -1, -1, -1)).run()
    out.sum().backward()
    whole = case._replace(value=one.detach().repeat(3, 1, 1, 1)).leaves()
    whole.run().sum().backward()
    assert one.grad is not None and whole.value.grad is not None
    torch.testing.assert_close(one.grad, whole.value.grad.sum(0, keepdim=True))


@pytest.mark.parametrize("wanted", [c for n in (1, 2) for c in itertools.combinations(range(3), n)], ids=str)
def test_gradients_of_some_inputs(backend: str, wanted: tuple[int, ...]) -> None:
    case = draw()
    expected = gradients(case, torch.ones_like(case.run()))
    tensors = [x.clone().requires_grad_(i in wanted) for i, x in enumerate(case[:3])]
    Case(*tensors, case.shapes).run().sum().backward()
    for i, x in enumerate(tensors):
        assert x.grad is None if i not in wanted else torch.equal(x.grad, expected[1 + i])


def test_without_gradients_and_in_checkpoints(backend: str) -> None:
    case = draw().leaves()
    out = case.run()
    with torch.no_grad():
        assert torch.equal(case.run(), out) and not case.run().requires_grad
    with torch.inference_mode():
        assert torch.equal(case.run(), out)
    expected = gradients(case, torch.ones_like(out))[1:]
    for reentrant in (False, True):
        again = case.leaves()
        checkpoint(lambda *x: Case(*x, case.shapes).run(), *again[:3], use_reentrant=reentrant).sum().backward()
        assert all(torch.equal(x.grad, y) for x, y in zip(again[:3], expected, strict=True) if x.grad is not None)


# ---- agreement -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_backends_and_paths_agree(backend: str, dtype: torch.dtype) -> None:
    case = draw(dtype, **MANY)
    for path in (paths.grid_path, paths.gather_path):
        assert distance(case.run(), path(case.value, case.flat, case.loc, case.attn)) <= 2 * TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_gather_gradients_are_grid_gradients(dtype: torch.dtype) -> None:
    """CUDA takes the one under deterministic algorithms, where the other has none."""
    case = draw(dtype)
    grad_out = torch.randn_like(case.run()).to(torch.promote_types(dtype, torch.float32))
    value = case.value.to(grad_out.dtype)
    one = paths._grid_backward(grad_out, value, case.flat, case.loc, case.attn)
    other = paths._gather_backward(grad_out, value, case.flat, case.loc, case.attn)
    for x, y in zip(one, other, strict=True):
        assert distance(x, y) < (1e-13 if dtype == torch.float64 else 2e-6)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, but for value's gradient: grid_sample's own sums in an order that depends on the batch."""
    case = draw(N=5)
    grad_out = torch.randn_like(case.run())
    with use_backend("pytorch"):
        whole = gradients(case, grad_out)
        monkeypatch.setattr(paths, "CHUNK_BYTES", 1)
        assert len(paths._chunks(case.value, case.loc)) == 5
        parts = gradients(case, grad_out)
    assert all(torch.equal(parts[i], whole[i]) for i in (0, 2, 3))
    torch.testing.assert_close(parts[1], whole[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("sizes", [{}, MANY, dict(D=5)], ids=str)
def test_a_batch_is_its_rows(backend: str, sizes: dict[str, int]) -> None:
    case = draw(N=3, **sizes)
    grad_out = torch.randn_like(case.run())
    whole = gradients(case, grad_out)
    for n in range(3):
        row = Case(*(x[n : n + 1] for x in case[:3]), case.shapes)
        for x, y in zip(gradients(row, grad_out[n : n + 1]), whole, strict=True):
            torch.testing.assert_close(x, y[n : n + 1], rtol=0, atol=0 if backend == "native" else 1e-6)


# ---- determinism -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("sizes", [dict(Q=600, shapes=((90, 90),), P=1), MANY, dict(D=5)], ids=str)
def test_any_number_of_threads_gives_the_same_bits(native: None, dtype: torch.dtype, sizes: dict) -> None:
    case = draw(dtype, **sizes)
    grad_out = torch.randn_like(case.run())
    before = torch.get_num_threads()
    try:
        runs = []
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            runs.append(gradients(case, grad_out))
    finally:
        torch.set_num_threads(before)
    for other in runs[1:]:
        assert all(torch.equal(x, y) for x, y in zip(runs[0], other, strict=True))


@pytest.mark.parametrize("isa", native.ISAS)
@pytest.mark.parametrize(
    "sizes",
    [{}, MANY, *(dict(D=d, **MANY) for d in (4, 32, 48, 64, 128)), dict(P=4, shapes=LEVELS, **MANY), dict(P=7, **MANY)],
    ids=str,
)
def test_instruction_sets_agree(native: None, monkeypatch: pytest.MonkeyPatch, isa: str, sizes: dict) -> None:
    from models.ops import native as module

    case = draw(**sizes)
    if module.ISAS.index(isa) > module._loaded_library(case.value.device).newest_isa:
        pytest.skip(f"this CPU has no {isa}")
    monkeypatch.setenv(module.ISA_VARIABLE, isa)
    check(case)
    grad_out = torch.randn_like(case.run())
    results = gradients(case, grad_out)
    monkeypatch.setenv(module.ISA_VARIABLE, "base")
    for x, y in zip(results, gradients(case, grad_out), strict=True):
        assert distance(x, y) < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("isa", native.ISAS)
def test_half_types_round_to_nearest(
    native: None, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, isa: str
) -> None:
    """One point on one pixel copies it through float32 times attn: as torch rounds, for every kind of number."""
    from models.ops import native as module

    if module.ISAS.index(isa) > module._loaded_library(torch.device("cpu")).newest_isa:
        pytest.skip(f"this CPU has no {isa}")
    monkeypatch.setenv(module.ISA_VARIABLE, isa)
    bits = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype).view(1, 1, 2048, 32)
    finite = bits.isfinite()  # infinity times the zero of a corner off the map is NaN
    loc = torch.full((1, 1, 2048, 1, 1, 2), 0.5)
    for factor in (1.0, 0.3337, 1e-3, 700.0):
        attn = torch.full((1, 1, 2048, 1, 1), factor)
        expected = (bits.float() * factor).to(dtype).view(1, 1, 2048, 32)
        for queries in (1, 3):  # in place, packed
            out = deformable_attention(
                bits, ((1, 1),), loc.expand(-1, queries, -1, -1, -1, -1), attn.expand(-1, queries, -1, -1, -1)
            )
            last = out[:, -1].view(expected.shape)
            assert torch.equal(last[finite], expected[finite])
            assert not last[~finite].isfinite().any()


# ---- the bug upstream that the PyTorch path keeps away from ----------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_half_precision_never_reaches_grid_sample(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    seen = set()
    original = torch.nn.functional.grid_sample

    def watch(value: Tensor, grid: Tensor, **options: object) -> Tensor:
        seen.update({value.dtype, grid.dtype})
        return original(value, grid, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.nn.functional, "grid_sample", watch)
    case = draw(dtype)
    with use_backend("pytorch"):
        gradients(case, torch.ones_like(case.run()))
    assert seen == {torch.float32}


READS_OUTSIDE = """
import torch
torch.manual_seed(0)
grid = torch.rand(1, 2000, 4, 2) * 1.8 - 0.9
guarded = torch.zeros(3, 1, 360, 640, dtype=torch.bfloat16)
ones = guarded[1:2].fill_(1)
out = torch.nn.functional.grid_sample(ones, grid.bfloat16(), align_corners=False)
raise SystemExit(int(bool(((out - 1).abs() > 0.05).any())))
"""


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="seen with AVX2 and AVX-512 alone"
)
@pytest.mark.xfail(strict=True, reason="half-precision grid_sample reads out of bounds; tells when it is mended")
def test_upstream_half_precision_grid_sample_stays_in_bounds() -> None:
    """Every grid point is inside a map of ones, so each sample must be one. In a process of its own: it may crash."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", READS_OUTSIDE], env=environment, timeout=300, capture_output=True)
    assert run.returncode == 0
