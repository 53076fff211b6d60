"""The Triton backend without a GPU: its kernels in Triton's interpreter, and what they compile to for sm_90."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from models.ops import triton_msda

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def test_kernels_in_the_interpreter() -> None:
    """In a process of its own: the variable is read when Triton is first imported and changes every kernel in it."""
    pytest.importorskip("triton", reason="triton is not installed")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", str(HERE / "triton_cases.py")]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert re.search(r"\b\d\d+ passed", run.stdout) and "skipped" not in run.stdout


def test_absent_triton_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_msda, "_installed", lambda: False)
    assert "pip install triton" in (triton_msda.unavailable(torch.device("cuda"), torch.float32) or "")


def test_reasons_without_a_gpu() -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    assert "TRITON_INTERPRET" in (triton_msda.unavailable(torch.device("cpu"), torch.float32) or "")
    assert "meta" in (triton_msda.unavailable(torch.device("meta"), torch.float32) or "")


def compiled(kernel_name: str, dtype: torch.dtype, tmp_path: Path) -> str:
    """SASS for sm_90 of the kernel at D = 32, 8 heads, 4 levels of 4 points."""
    triton = pytest.importorskip("triton", reason="triton is not installed")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from models.ops import triton_kernels

    kernel: Any = getattr(triton_kernels, kernel_name)
    value = torch.empty(1, 1, 8, 32, dtype=dtype, device="meta")
    loc = torch.empty(1, 16, 8, 4, 4, 2, device="meta")
    element = {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]
    signature: dict[str, Any] = dict.fromkeys(kernel.arg_names, "*fp32")
    signature |= {name: f"*{element}" for name in ("value", "out", "grad_out") if name in signature}
    signature |= {"sides": ("fp32",) * 8, "S": "i32", "Q": "i32"}
    constants = triton_msda.options(value, loc)
    signature |= dict.fromkeys(constants, "constexpr")
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if signature[name][0] == "*"}
    source = ASTSource(kernel, signature, constants, aligned)
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(triton.compile(source, target=GPUTarget("cuda", 90, 32), options=triton_msda.LAUNCH).asm["cubin"])
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    return subprocess.run([tools / "nvdisasm", "-c", cubin], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kernel", ["forward_kernel", "backward_kernel"])
def test_machine_code_for_sm_90(kernel: str, dtype: torch.dtype, tmp_path: Path) -> None:
    sass = compiled(kernel, dtype, tmp_path)
    assert "LDL" not in sass and "STL" not in sass, "registers spill to local memory"
    assert "BAR" not in sass and "LDS" not in sass, "sums over channels go through shared memory"
    vector = r"LDG\.E\.128" if dtype == torch.float32 else r"LDG\.E\.(64|128)"
    assert len(re.findall(vector, sass)) >= 16, "the four corners of a point are not vector loads"
    if kernel == "backward_kernel":
        assert re.search(r"(RED|ATOM)G?\.E\.ADD\.F32x[24]", sass), "value gradients are added one float at a time"
