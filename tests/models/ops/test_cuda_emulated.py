"""The CUDA library's kernels and host code on a CPU: cuda_emulator.h runs its warps, against float64.

The 16-byte paths (D = 16, 32, 64) with one group of lanes to a row and with as many as a warp holds, the generic path,
and both kinds of sums. Also the benchmark's anchor, which is worth nothing if it is wrong.
"""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from msda_cases import FEW, LEVELS, Case, distance, draw, reference
from torch import Tensor

from models.ops import build, tools

HERE = Path(__file__).parent
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 4e-3, torch.float16: 6e-4}
Run = Callable[..., tuple[Tensor, ...]]


def compiled(source: Path, space: str, out: Path) -> Any:
    """A CUDA source's operators, for CPU tensors."""
    try:
        toolkit = tools.find_cuda()
    except tools.BuildError as error:
        pytest.skip(f"needs CUDA's headers: {error}")
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    root = Path(torch.__file__).parent
    command = ["g++", "-x", "c++", "-O1", "-fPIC", "-shared", *build.STABLE, "-include", str(HERE / "cuda_emulator.h")]
    command += ["-DMSDA_KEY=CPU", "-DMSDA_MAX_FRAMES=2", f"-DREFERTRACK_NS={space}", "-o", str(out)]
    command += [f"-I{root}/include", f"-I{toolkit}/include", f"-I{build.SOURCES}", str(source)]
    command += [f"-L{root}/lib", "-ltorch", "-ltorch_cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    torch.ops.load_library(out)
    return getattr(torch.ops, space)


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("emulated") / "msda.so"
    return compiled(build.SOURCES / "msda.cu", "refertrack_emulated", out)


@pytest.fixture(params=[-1, 1000], ids=["one group", "split rows"])  # so few processors never lack rows, so many always
def run(request: pytest.FixtureRequest, emulated: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    """(case, grad_out, deterministic) -> output and three gradients, as on a device of that many processors."""
    monkeypatch.setenv("MSDA_PROCESSORS", str(request.param))

    def both(case: Case, grad_out: Tensor, deterministic: bool = False) -> tuple[Tensor, ...]:
        out = emulated.msda_forward(case.value, case.flat, case.loc, case.attn)
        return (out, *emulated.msda_backward(grad_out, case.value, case.flat, case.loc, case.attn, deterministic))

    return both


def check(run: Run, case: Case, deterministic: bool = False, tolerance: float | None = None) -> None:
    grad_out = torch.randn(*case.loc.shape[:3], case.value.shape[3]).to(case.value.dtype)
    results, expected = run(case, grad_out, deterministic), reference(case, grad_out)
    limit = TOLERANCE[case.value.dtype] if tolerance is None else tolerance
    names = ("out", "value", "locations", "weights")
    for name, x, y, like in zip(names, results, expected, (case.value, *case[:3]), strict=True):
        assert x.dtype == like.dtype and x.shape == y.shape, name
        assert distance(x, y) <= limit, name


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("channels", [16, 32, 64, 5])
def test_against_float64(run: Run, channels: int, dtype: torch.dtype, deterministic: bool) -> None:
    check(run, draw(dtype, D=channels, P=4, shapes=LEVELS), deterministic, 1e-11 if dtype == torch.float64 else None)


@pytest.mark.parametrize(
    "sizes",
    [
        dict(P=1, D=64),
        dict(P=3, shapes=((1, 1), (1, 9), (8, 1)), D=32),
        dict(P=16, shapes=((4, 3),) * 5, D=32, Q=3),  # 80 points: more rounds than lanes of a group
        dict(N=5, Q=3, D=16),  # three launches of two frames here
        dict(H=3, Q=29, D=32),  # more than one block, its last one not full
        dict(D=1),
        dict(D=40),
        dict(D=200, Q=2),
    ],
    ids=str,
)
def test_sizes(run: Run, sizes: dict[str, Any]) -> None:
    check(run, draw(**sizes))


def test_nothing_to_do(run: Run) -> None:
    for empty in (dict(N=0), dict(Q=0)):
        case = draw(D=32, **empty)
        out, *grads = run(case, torch.zeros(*case.loc.shape[:3], 32))
        assert out.shape == (*case.loc.shape[:3], 32)
        assert all(g.shape == x.shape and not g.any() for g, x in zip(grads, case[:3], strict=True))


@pytest.mark.parametrize("channels", [32, 7])
def test_borders(run: Run, channels: int) -> None:
    """Lattice coordinates that float32 holds exactly, on and beside each border of a map of 8 by 4 pixels."""
    axes = ([-1.0, -0.75, -0.5, 0.0, side - 1.0, side - 0.5, side - 0.25, float(side)] for side in (8, 4))
    grid = torch.cartesian_prod(*map(torch.tensor, axes))
    loc = ((grid + 0.5) / torch.tensor([8.0, 4.0])).view(1, -1, 1, 1, 1, 2).contiguous()
    case = Case(torch.randn(1, 32, 1, channels), loc, torch.rand(1, 64, 1, 1, 1), ((4, 8),))
    outside = ((grid <= -1) | (grid >= torch.tensor([8.0, 4.0]))).any(-1)
    grad_out = torch.randn(1, 64, 1, channels)
    out, _, grad_loc, grad_attn = run(case, grad_out)
    expected = reference(case, grad_out)
    assert distance(out, expected[0]) < 1e-6 and distance(grad_attn, expected[3]) < 1e-6
    assert not out[:, outside].any() and not grad_loc[:, outside].any() and not grad_attn[:, outside].any()
    assert out[:, ~outside].any(-1).all()
    assert distance(grad_loc[:, ~outside], expected[2][:, ~outside]) < 1e-6


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("channels", [32, 7])
def test_what_is_no_number_stays_where_it_is(run: Run, channels: int, deterministic: bool) -> None:
    case = draw(D=channels, Q=3, shapes=FEW)
    grad_out = torch.randn(2, 3, 2, channels)
    seen = reference(Case(case.value, case.loc, case.attn + 1, case.shapes), grad_out)[1]
    poisoned = case.value.masked_fill((seen == 0).all(-1, keepdim=True), math.nan)
    loc = case.loc.clone()
    loc[:, 1, :, 0, 0, 0], loc[:, 2, :, 1, 1, 1], loc[:, 0, :, 0, 1] = math.nan, math.inf, -math.inf
    away = torch.where(loc.isfinite().all(-1, keepdim=True), loc, -9.0)
    assert poisoned.isnan().any() and not loc.isfinite().all()
    ours = run(case._replace(value=poisoned, loc=loc), grad_out, deterministic)
    clean = run(case._replace(loc=away), grad_out, deterministic)
    assert all(torch.equal(x, y) for x, y in zip(ours, clean, strict=True))


def test_misaligned_value_takes_the_generic_path(run: Run) -> None:
    case = draw(D=32)
    shifted = torch.empty(case.value.numel() + 1)[1:].view(case.value.shape).copy_(case.value)
    assert shifted.data_ptr() % 16 and case.value.data_ptr() % 16 == 0
    check(run, case._replace(value=shifted))


def test_fixed_point_scales_to_the_gradients(run: Run) -> None:
    case = draw(D=32)
    grad_out = torch.randn(2, 11, 2, 32)
    plain = run(case, grad_out)[1]
    for scale in (1e-30, 1e30):
        assert distance(run(case, grad_out * scale, True)[1] / scale, plain) < 1e-6
    assert not run(case, grad_out * 0, True)[1].any()
    grad_out[0, 0, 0, 0] = math.inf
    assert run(case, grad_out, True)[1].isnan().all()


def test_errors_say_what_to_do(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSDA_PROCESSORS", "1")
    case = draw(D=32, shapes=((1, 1),) * 33)
    with pytest.raises(RuntimeError, match="at most 32 levels, not 33"):
        emulated.msda_forward(case.value, case.flat, case.loc, case.attn)


def test_the_classic_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = HERE.parents[2] / "scripts" / "bench" / "classic_split.cu"
    anchor = compiled(source, "refertrack_classic_emulated", tmp_path / "classic.so")
    monkeypatch.setenv("MSDA_PROCESSORS", "1")
    case = draw(D=32, P=4, shapes=LEVELS)
    sizes = torch.tensor(case.shapes)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.prod(1).cumsum(0)[:-1]])
    grad_out = torch.randn(2, 11, 2, 32)
    out = anchor.forward(case.value, sizes, starts, case.loc, case.attn)
    grads = anchor.backward(grad_out, case.value, sizes, starts, case.loc, case.attn)
    for x, y in zip((out, *grads), reference(case, grad_out), strict=True):
        assert distance(x, y) < 1e-5
