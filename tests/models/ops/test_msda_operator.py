"""The operator as PyTorch sees it: derivatives of any order, fake kernels, compile, export, autocast, its errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from msda_cases import FEW, Case, distance, draw, gradients, reference
from torch import Tensor

from models.ops import backends, deformable_attention, export_path, ms_deform_attn, require, use_backend
from models.ops.paths import gather_path
from util.errors import InputError

TYPES = (torch.float32, torch.bfloat16, torch.float64)
SMALL = dict(N=1, Q=3, D=4, P=2, shapes=((3, 4), (2, 1)))


# ---- derivatives -----------------------------------------------------------------------------------------------------


def function(case: Case) -> Callable[..., Tensor]:
    return lambda value, loc, attn: deformable_attention(value, case.shapes, loc, attn)


@pytest.mark.parametrize("sizes", [SMALL, {**SMALL, "Q": 9, "D": 3}], ids=str)
def test_first_and_second_derivatives(backend: str, sizes: dict) -> None:
    case = draw(torch.float64, **sizes).leaves()
    assert torch.autograd.gradcheck(function(case), case[:3], fast_mode=True)
    assert torch.autograd.gradgradcheck(function(case), case[:3], fast_mode=True)


def test_third_derivatives_are_those_of_the_gather_path(backend: str) -> None:
    def third(run: Callable[..., Tensor], case: Case) -> list[Tensor]:
        tensors = case.leaves()[:3]
        found = run(*tensors).pow(2).sum()
        for _ in range(3):
            grads = torch.autograd.grad(found, tensors, create_graph=True, materialize_grads=True)
            found = sum((g.sin().sum() for g in grads), torch.zeros((), dtype=torch.float64))
        return [g.detach() for g in grads]

    case = draw(torch.float64, **SMALL)
    theirs = third(lambda v, x, a: gather_path(v, case.flat, x, a).flatten(2), case)
    for ours, other in zip(third(function(case), case), theirs, strict=True):
        assert distance(ours, other) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_create_graph_never_ends_in_none(backend: str, dtype: torch.dtype) -> None:
    """Gradients that only look differentiable would drop a gradient penalty without a word."""
    case = draw(dtype).leaves()
    grads = torch.autograd.grad(case.run().float().sum(), case[:3], create_graph=True)
    second = torch.autograd.grad(sum(g.float().pow(2).sum() for g in grads), case[:3])  # type: ignore[arg-type]
    assert all(g.any() for g in second)


# ---- fake kernels, compile, export -----------------------------------------------------------------------------------


def calls(case: Case) -> list[tuple[Any, tuple[Any, ...]]]:
    """Both operators with arguments."""
    grad_out = torch.randn_like(case.run()).requires_grad_()
    arguments = (case.value, case.flat, case.loc, case.attn)
    operators = torch.ops.refertrack
    return [(operators.msda_forward.default, arguments), (operators.msda_backward.default, (grad_out, *arguments))]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_real_and_fake_kernels_agree(backend: str, dtype: torch.dtype) -> None:
    """In shape, dtype and strides; and the real one leaves its inputs alone."""
    for operator, arguments in calls(draw(dtype, **SMALL).leaves()):
        torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


def test_registration() -> None:
    """Autograd where PyTorch looks for it, and tracing with symbolic sizes; the same for every kernel."""
    for operator, arguments in calls(draw(**SMALL).leaves()):
        torch.library.opcheck(
            operator, arguments, test_utils=("test_autograd_registration", "test_aot_dispatch_dynamic")
        )


class Graphs:
    """A compiler that counts, and runs what it is given as it is."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        self.count += 1
        return graph.forward


def twice(case: Case) -> Tensor:
    return deformable_attention(case.value * 2, case.shapes, case.loc, case.attn).sin()


SIZES = (((9, 7), (3, 4)), ((6, 11), (4, 5)), ((8, 5), (2, 7)))


@pytest.mark.parametrize("dynamic", [True, False])
def test_compiles_to_one_graph(backend: str, dynamic: bool) -> None:
    torch._dynamo.reset()
    graphs = Graphs()
    compiled = torch.compile(twice, fullgraph=True, dynamic=dynamic, backend=graphs)
    for shapes in SIZES if dynamic else SIZES[:1]:
        case, other = (draw(shapes=shapes).leaves() for _ in range(2))
        out = compiled(case)
        assert torch.equal(out, twice(other))
        out.sum().backward(), twice(other).sum().backward()
        for x, y in zip(case[:3], other[:3], strict=True):
            assert x.grad is not None and y.grad is not None and torch.equal(x.grad, y.grad)
    assert graphs.count == 1
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [True, False])
def test_compiles_with_inductor(backend: str, dynamic: bool) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(twice, fullgraph=True, dynamic=dynamic)
    for shapes in SIZES if dynamic else SIZES[:1]:
        case, other = (draw(shapes=shapes).leaves() for _ in range(2))
        out, expected = compiled(case), twice(other)
        torch.testing.assert_close(out, expected)
        out.sum().backward(), expected.sum().backward()
        for x, y in zip(case[:3], other[:3], strict=True):
            torch.testing.assert_close(x.grad, y.grad)


class Sampler(torch.nn.Module):
    def forward(self, value: Tensor, loc: Tensor, attn: Tensor) -> Tensor:
        return deformable_attention(value, FEW, loc, attn)


def exported() -> torch.export.ExportedProgram:
    """Any number of queries."""
    queries = {1: torch.export.Dim("queries", min=2, max=512)}
    return torch.export.export(Sampler(), draw()[:3], dynamic_shapes={"value": None, "loc": queries, "attn": queries})


def called(program: torch.export.ExportedProgram) -> list[str]:
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]


def test_export_is_one_node_and_chooses_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> None:
        raise AssertionError("tracing must not build or choose a kernel")

    with monkeypatch.context() as patch:
        patch.setattr(backends, "chosen", nothing)
        program = exported()
    names = called(program)
    assert sum("msda_forward" in name for name in names) == 1 and not any("grid" in name for name in names)
    more = draw(Q=40)
    assert torch.equal(program.module()(*more[:3]), more.run().flatten(2))


@pytest.mark.parametrize(("path", "operator"), [("grid", "grid_sampler"), ("gather", "gather")])
def test_export_in_operators_of_pytorch(path: Literal["grid", "gather"], operator: str) -> None:
    with export_path(path):
        program = exported()
    names = called(program)
    assert any(operator in name for name in names) and all(name.startswith("aten.") for name in names)
    more = draw(Q=40)
    torch.testing.assert_close(program.module()(*more[:3]), more.run().flatten(2), atol=2e-6, rtol=0)
    assert any("msda_forward" in name for name in called(exported()))


@pytest.mark.parametrize("path", ["grid", "gather"])
def test_onnx_runtime_agrees(path: Literal["grid", "gather"], tmp_path: Path) -> None:
    """Not in the lock file: `pip install onnx onnxscript onnxruntime` to run it."""
    runtime = pytest.importorskip("onnxruntime", reason="onnx, onnxscript and onnxruntime are not installed")
    with export_path(path):
        program = exported()
    torch.onnx.export(program, f=str(tmp_path / "msda.onnx"), opset_version=18, dynamo=True)
    more = draw(Q=40)
    session = runtime.InferenceSession(str(tmp_path / "msda.onnx"), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    (found,) = session.run(None, {name: x.numpy() for name, x in zip(names, more[:3], strict=True)})
    torch.testing.assert_close(torch.from_numpy(found), more.run().flatten(2), atol=2e-6, rtol=0)


# ---- precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_lowers_values_alone(backend: str, dtype: torch.dtype) -> None:
    case = draw(Q=64)
    with torch.autocast("cpu", dtype=dtype):
        out = case.run()
        assert out.dtype == dtype
        with pytest.raises(TypeError, match=r"MSDeformAttn\.forward"):
            case._replace(loc=case.loc.to(dtype)).run()
        assert draw(torch.float64).run().dtype == torch.float64
    assert distance(out, reference(case, torch.zeros_like(out))[0]) < (3e-3 if dtype == torch.bfloat16 else 5e-4)


def test_half_precision_locations_would_miss(backend: str) -> None:
    """Why half-precision locations are refused: rounding them costs over ten times what rounding values does."""
    case = draw(D=32, P=4, Q=200, shapes=((45, 80), (23, 40)))
    exact = reference(case, torch.zeros_like(case.run()))[0]
    values = distance(case._replace(value=case.value.bfloat16()).run(), exact)
    locations = distance(case._replace(loc=case.loc.bfloat16().float()).run(), exact)
    assert values < 4e-3 and locations > 10 * values


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_weights_of_the_values_type(backend: str, dtype: torch.dtype) -> None:
    case = draw(dtype)
    low = case._replace(attn=case.attn.to(dtype))
    grad_out = torch.randn_like(case.run())
    same = gradients(case._replace(attn=low.attn.float()), grad_out)
    for x, y in zip(gradients(low, grad_out), same, strict=True):
        assert torch.equal(x, y.to(x.dtype))


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (dict(shapes=((9, 7), (3, 5))), ValueError, r"hold 78 tokens but value has 75"),
        (dict(shapes=((9, 7),)), ValueError, r"have 2 levels but shapes name 2 sides"),
        (dict(shapes=((9, 7), (-3, -4))), ValueError, r"at least 1, but is -3"),
        (dict(value=torch.zeros(2, 75, 32)), ValueError, r"has 3 axes"),
        (dict(value=torch.zeros(3, 75, 2, 16)), ValueError, r"have 2 rows but value has 3"),
        (dict(value=torch.zeros(2, 75, 4, 16)), ValueError, r"have 2 heads but value has 4"),
        (dict(value=torch.zeros(2, 75, 2, 16, dtype=torch.int32)), TypeError, r"int32"),
        (dict(value=torch.zeros(2, 75, 2, 16, dtype=torch.float64)), TypeError, r"must be torch.float64"),
        (dict(value=torch.zeros(2, 75, 2, 16, device="meta")), RuntimeError, r"value is on meta, .* on cpu"),
        (dict(loc=torch.zeros(2, 11, 2, 2, 2, 3)), ValueError, r"size 2, but is 3"),
        (dict(loc=torch.zeros(2, 11, 2, 2, 4)), ValueError, r"have 5 axes"),
        (dict(loc=torch.zeros(2, 11, 2, 2, 2, 2, dtype=torch.float64)), TypeError, r"must be torch.float32"),
        (dict(attn=torch.zeros(2, 11, 2, 2, 1)), ValueError, r"\[2, 11, 2, 2, 2\] .* but are \[2, 11, 2, 2, 1\]"),
        (dict(attn=torch.zeros(2, 11, 2, 2, 2, dtype=torch.float16)), TypeError, r"weights are torch.float16"),
    ],
)
def test_what_does_not_fit_is_refused(backend: str, change: dict, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        draw()._replace(**change).run()


def test_gradients_of_another_shape_are_refused(backend: str) -> None:
    case = draw()
    with pytest.raises(ValueError, match=r"grad_out must be \[2, 11, 2, 16\]"):
        torch.ops.refertrack.msda_backward(torch.zeros(2, 11, 2, 8), case.value, case.flat, case.loc, case.attn)


def test_coordinates_are_checked_when_asked(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = draw()
    case.loc[0, 0, 0, 0, 0, 0] = torch.nan
    case.run()
    monkeypatch.setenv("REFERTRACK_OPS_CHECK", "1")
    with pytest.raises(InputError, match="1 of 352 sampling coordinates are not finite"):
        case.run()


# ---- which kernel runs -----------------------------------------------------------------------------------------------


def test_a_forced_kernel_runs_or_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    with use_backend("pytorch"):
        assert backends.chosen(device, torch.float32).name == "pytorch"
        assert [line.name for line in backends.status("cpu") if line.chosen] == ["pytorch"]
    monkeypatch.setenv("REFERTRACK_OPS", "pytorch")
    assert backends.chosen(device, torch.float32).name == "pytorch"
    monkeypatch.setenv("REFERTRACK_OPS", "cudnn")
    with pytest.raises(InputError, match="REFERTRACK_OPS: no kernel is called 'cudnn'; choose auto, native"):
        draw().run()
    monkeypatch.setenv("REFERTRACK_OPS", "triton")
    monkeypatch.setattr(backends._module("triton"), "unavailable", lambda device, dtype: "not today\nnor tomorrow")
    with pytest.raises(InputError, match=r"'triton' .* run on cpu with torch.float32: not today\nnor tomorrow"):
        draw().run()
    with pytest.raises(InputError, match="no kernel is called 'fast'"), use_backend("fast"):
        pass


def test_the_next_kernel_runs_and_one_line_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("REFERTRACK_OPS", raising=False)
    monkeypatch.setattr(backends, "_said", set())
    monkeypatch.setattr(backends._module("native"), "unavailable", lambda device, dtype: "no tools\nmore about it")
    backends.forget()
    try:
        for _ in range(3):
            draw().run()
            draw(torch.bfloat16).run()
        lines = backends.status("cpu")
    finally:
        backends.forget()
    assert caplog.messages == ["deformable attention on cpu: pytorch (native: no tools)"]
    assert [(line.name, line.available, line.chosen) for line in lines] == [
        ("native", False, False),
        ("pytorch", True, True),
    ]
    assert lines[0].note == "no tools"


def test_a_gpu_never_trains_on_the_slow_path_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda", 0)
    monkeypatch.setenv("REFERTRACK_OPS", "auto")
    monkeypatch.setattr(backends._module("native"), "unavailable", lambda device, dtype: "no nvcc; set CUDA_HOME")
    monkeypatch.setattr(backends._module("triton"), "unavailable", lambda device, dtype: "triton is not installed")
    with pytest.raises(InputError, match=r"native: no nvcc; set CUDA_HOME; triton: .*REFERTRACK_OPS=pytorch"):
        require(cuda)
    monkeypatch.setenv("REFERTRACK_OPS", "pytorch")
    assert require(cuda) == "pytorch"
    monkeypatch.setenv("REFERTRACK_OPS", "auto")
    monkeypatch.setattr(backends._module("triton"), "unavailable", lambda device, dtype: None)
    monkeypatch.setattr(backends._module("triton"), "describe", lambda device: "compiled when called", raising=False)
    assert require(cuda) == "triton"
    assert require(torch.device("mps")) == "pytorch"  # it has nothing else


def test_other_devices_run_on_pytorch() -> None:
    assert [line.name for line in backends.status("mps")] == ["pytorch"]


def test_the_shim_is_the_function(backend: str) -> None:
    case = draw()
    sizes = torch.tensor(case.shapes)
    starts = torch.tensor([0, 63])
    out = ms_deform_attn(case.value, sizes, starts, case.loc, case.attn, 64)
    assert torch.equal(out, case.run().flatten(2))
    assert torch.equal(out, ms_deform_attn(case.value, [[9, 7], [3, 4]], starts, case.loc, case.attn))
