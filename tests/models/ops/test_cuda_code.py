"""The CUDA library as nvcc makes it for sm_90: it loads without a GPU, nothing spills, its machine code is as meant."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from models.ops import build, tools

ROOT = Path(__file__).resolve().parents[3]
OTHER_ARCHS = ("7.5", "8.0", "8.6", "8.9", "10.0", "12.0")
# a warp's instructions per query and head at 32 channels, 4 levels of 4 points; measured 249, 246, 546, 424
BUDGET = {("forward", "float"): 270, ("forward", "bf16"): 270, ("backward", "float"): 600, ("backward", "bf16"): 470}
ROUNDS = {"float": 2, "bf16": 4}  # 16 points in groups of 8 or 4 lanes
ROWS = {"float": 4, "bf16": 8}  # of a warp


class Kernel(NamedTuple):
    name: str  # demangled
    code: list[tuple[int, str, str]]  # address, operation, operands

    def count(self, pattern: str) -> int:
        return sum(bool(re.match(pattern, operation)) for _, operation, _ in self.code)

    def per_row(self, element: str) -> float:
        """Instructions a warp executes for one (q, h), its longest loop run once a round."""
        loops = []
        for address, operation, operands in self.code:
            target = re.search(r"0x([0-9a-f]+)", operands) if operation.startswith("BRA") else None
            if target and int(target[1], 16) < address:
                loops.append((address - int(target[1], 16)) // 16)
        return (len(self.code) + max(loops) * (ROUNDS[element] - 1)) / ROWS[element]


def cuobjdump() -> str:
    beside = [str(tools.find_cuda() / "bin")]
    triton = importlib.util.find_spec("triton")
    if triton and triton.origin:
        beside.append(str(Path(triton.origin).parent / "backends/nvidia/bin"))
    for folder in (None, *beside):
        found = shutil.which("cuobjdump", path=folder)
        if found:
            return found
    pytest.skip("needs cuobjdump, of the CUDA toolkit or of Triton's package")


def built(arch: str, folder: Path) -> Path:
    try:
        return build.library(build.recipe("cuda", (arch,)), folder)
    except tools.BuildError as error:
        if "failed with status" in str(error):
            raise
        pytest.skip(f"needs nvcc: {error}")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("9.0", tmp_path_factory.mktemp("cuda"))


def dump(library: Path, what: str) -> str:
    """Without the newer options' noise; names demangled."""
    text = subprocess.run([cuobjdump(), what, str(library)], check=True, capture_output=True, text=True).stdout
    return subprocess.run(["c++filt"], input=text, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def kernels(library: Path) -> list[Kernel]:
    found = []
    for part in dump(library, "-sass").split("Function : ")[1:]:
        name, _, body = part.partition("\n")
        lines = re.findall(r"^\s+/\*([0-9a-f]{4,5})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*?);", body, re.M)
        code = [(int(address, 16), operation, rest) for address, operation, rest in lines if operation != "NOP"]
        found.append(Kernel(name.replace("(anonymous namespace)::", ""), code))
    assert len(found) > 60  # value types, channels, ways to share a row, ways to sum
    return found


def kernel(kernels: list[Kernel], which: str, element: str, sums: str = "FloatSums") -> Kernel:
    """The one for 32 channels and one group of lanes to a row."""
    element = {"float": "float", "bf16": "__nv_bfloat16"}[element]
    end = f", {sums}<float>" if which == "backward" else ""
    pattern = rf"vector_{which}<{element}, (\(int\))?32, (\(int\))?1{end}\s*>"
    (found,) = [k for k in kernels if re.search(pattern, k.name)]
    return found


def resources(library: Path) -> list[tuple[str, dict[str, int]]]:
    pairs = re.findall(r"Function (.*?):\n\s*(REG:.*)", dump(library, "-res-usage"))
    return [(name, {k: int(v) for k, v in re.findall(r"(\w+):(\d+)", usage)}) for name, usage in pairs]


def test_nothing_spills(library: Path) -> None:
    found = resources(library)
    assert len(found) > 60
    for name, used in found:
        assert used["STACK"] == 0 and used["LOCAL"] == 0, name
        assert used["REG"] <= (64 if "vector_forward" in name else 128), (name, used["REG"])


@pytest.mark.parametrize("element", ["float", "bf16"])
def test_forward_gathers_16_bytes_at_a_time(kernels: list[Kernel], element: str) -> None:
    group = 16 // ROUNDS[element]
    found = kernel(kernels, "forward", element)
    assert found.count(r"LDG\.E\.128") == 4 * group, "four corners for each point of a round"
    assert found.count(r"SHFL") == 6 * group, "four weights and two places"
    assert found.count(r"STG\.E\.128") == 1
    assert found.count(r"LDG\.E\.64") == 1, "a location is one load"
    assert found.per_row(element) <= BUDGET["forward", element]


@pytest.mark.parametrize("element", ["float", "bf16"])
def test_backward_adds_16_bytes_at_a_time(kernels: list[Kernel], element: str) -> None:
    group = 16 // ROUNDS[element]
    found = kernel(kernels, "backward", element)
    assert found.count(r"LDG\.E\.128") == 4 * group + 1, "the corners, and grad_out"
    assert found.count(r"RED(G)?\.E\.ADD\.F32x4") == 32, (
        "32 channels of 4 corners, 4 at a time, in 8 or 4 points a round"
    )
    assert found.count(r"SHFL\.BFLY") == 4 * (group - 1), "a transposed sum of four dot products"
    assert found.per_row(element) <= BUDGET["backward", element]


@pytest.mark.parametrize("element", ["float", "bf16"])
def test_deterministic_backward_adds_integers(kernels: list[Kernel], element: str) -> None:
    found = kernel(kernels, "backward", element, "FixedSums")
    assert found.count(r"RED(G)?\.E\.ADD\.64") == 128
    assert found.count(r"RED(G)?\.E\.ADD\.F") == 0


def test_no_kernel_reduces_in_a_loop(kernels: list[Kernel]) -> None:
    for found in kernels:
        operations = Counter(operation for _, operation, _ in found.code)
        assert not [o for o in operations if "CAS" in o or o.startswith(("LDL", "STL"))], found.name


def test_loads_without_a_gpu_and_needs_only_torch(library: Path) -> None:
    torch.ops.load_library(library)
    loaded = getattr(torch.ops, build.namespace(library.stem))
    assert "bool deterministic" in str(loaded.msda_backward.default._schema)
    needed = subprocess.run(["readelf", "-d", str(library)], check=True, capture_output=True, text=True).stdout
    shared = set(re.findall(r"NEEDED.*\[(.*?)\.so", needed))
    assert shared <= {
        "libtorch",
        "libtorch_cpu",
        "libstdc++",
        "libgcc_s",
        "libc",
        "ld-linux-x86-64",
        "libm",
        "libpthread",
    }


def nvcc(source: str, *options: str) -> None:
    """Compiles a benchmark's source for sm_90."""
    try:
        toolkit = tools.find_cuda()
    except tools.BuildError as error:
        pytest.skip(f"needs nvcc: {error}")
    command = [str(toolkit / "bin/nvcc"), *build.CUDA_FLAGS, "-gencode=arch=compute_90,code=sm_90", *options]
    command.append(str(ROOT / "scripts" / "bench" / source))
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]


def test_the_anchor_is_what_it_stands_for(tmp_path: Path) -> None:
    """The classic split loads and adds one float at a time, and nothing of it spills."""
    torch_root = Path(torch.__file__).parent
    out = tmp_path / "classic.cubin"
    include = [f"-I{torch_root}/include", f"-I{build.SOURCES}", "-DREFERTRACK_NS=refertrack_classic"]
    nvcc("classic_split.cu", *include, "-cubin", "-o", str(out))
    code = dump(out, "-sass")
    assert len(re.findall(r"REDG?\.E\.ADD\.F32\.", code)) == 4
    assert not re.search(r"LDG\.E\.128|F32x[24]|LDL|STL", code)


def test_the_rates_compile_with_the_reductions_they_compare(tmp_path: Path) -> None:
    out = tmp_path / "rates.cubin"
    nvcc("gpu_rates.cu", "-cubin", "-o", str(out))
    code = dump(out, "-sass")
    for reduction in (r"ADD\.F32x4", r"ADD\.F32x2", r"ADD\.F32\.", r"ADD\.64"):
        assert re.search(r"REDG?\.E\." + reduction, code), reduction
    assert re.search(r"ATOMS\.(POPC\.INC|ADD)", code) and re.search(r"LDG\.E\.128", code)


@pytest.mark.slow
@pytest.mark.parametrize("arch", OTHER_ARCHS)
def test_other_architectures(arch: str, tmp_path: Path) -> None:
    for name, used in resources(built(arch, tmp_path)):
        assert used["STACK"] == 0 and used["LOCAL"] == 0, name
