"""Builds what the GPU check of deformable attention compares: the product, variants of it, the anchor, the probe."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.ops import build, tools

BENCH = Path(__file__).resolve().parents[1] / "bench"
ABSENT_ARCH = "12.0"  # a library for this one alone has to say that it cannot run here

# (name, block size, blocks on a multiprocessor, floats of a reduction, value as [N,H,S,D])
VARIANTS: dict[str, dict[str, int]] = {
    "block 64": {"MSDA_BLOCK": 64, "MSDA_MIN_BLOCKS": 16},
    "block 128": {"MSDA_BLOCK": 128, "MSDA_MIN_BLOCKS": 8},
    "block 256": {"MSDA_BLOCK": 256, "MSDA_MIN_BLOCKS": 4},  # what ships
    "block 512": {"MSDA_BLOCK": 512, "MSDA_MIN_BLOCKS": 2},
    "registers free": {"MSDA_MIN_BLOCKS": 1},
    "registers 48": {"MSDA_MIN_BLOCKS": 5},
    "registers 40": {"MSDA_MIN_BLOCKS": 6},
    "heads first": {"MSDA_HEAD_MAJOR": 1},
    "reductions of 2": {"MSDA_REDUCTION_WIDTH": 2},
    "reductions of 1": {"MSDA_REDUCTION_WIDTH": 1},
}


@dataclass(frozen=True)
class Built:
    """Files by name; what failed, with the compiler's last lines."""

    files: dict[str, Path]
    failed: dict[str, str]

    def operators(self, name: str) -> Any:
        """The namespace of a library; loads it."""
        torch.ops.load_library(self.files[name])
        return getattr(torch.ops, namespace(name))


def namespace(name: str) -> str:
    return "refertrack_check_" + name.replace(" ", "_").replace(".", "_")


def build_all(folder: Path, arch: str, variants: list[str], jobs: int) -> Built:
    """Compile everything for `arch` into `folder`, `jobs` at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    toolkit = tools.find_cuda()
    product = build.SOURCES / "msda.cu"
    commands = {"classic": _library(toolkit, BENCH / "classic_split.cu", "classic", arch, folder, {})}
    commands["absent"] = _library(toolkit, product, "absent", ABSENT_ARCH, folder, {"MSDA_SWEEP": 1})
    for name in variants:
        macros = {"MSDA_SWEEP": 1, **VARIANTS[name]}
        commands[name] = _library(toolkit, product, name, arch, folder, macros)
    rates = folder / "gpu_rates"
    number = arch.replace(".", "")
    commands["rates"] = [str(toolkit / "bin/nvcc"), "-O3", "-std=c++17", "-cudart=static", f"-arch=sm_{number}"]
    commands["rates"] += ["-o", str(rates), str(BENCH / "gpu_rates.cu")]
    with ThreadPoolExecutor(jobs) as pool:
        results = dict(zip(commands, pool.map(_run, commands.values()), strict=True))
    files = {name: Path(commands[name][commands[name].index("-o") + 1]) for name, wrong in results.items() if not wrong}
    return Built(files, {name: wrong for name, wrong in results.items() if wrong})


def _library(
    toolkit: Path, source: Path, name: str, arch: str, folder: Path, macros: dict[str, int]
) -> list[str]:  # fmt: skip
    number, root = arch.replace(".", ""), Path(torch.__file__).resolve().parent
    command = [str(toolkit / "bin/nvcc"), *build.CUDA_FLAGS, "-shared", "-cudart=static", "-Xlinker=--exclude-libs,ALL"]
    command += [f"-gencode=arch=compute_{number},code=sm_{number}", f"-DREFERTRACK_NS={namespace(name)}"]
    command += [f"-D{macro}={number}" for macro, number in macros.items()]
    command += [f"-I{root / 'include'}", f"-I{build.SOURCES}", "-o", str(folder / f"{namespace(name)}.so"), str(source)]
    return [*command, f"-L{root / 'lib'}", "-ltorch", "-ltorch_cpu"]


def _run(command: list[str]) -> str:
    """Empty, or what went wrong."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    return "" if done.returncode == 0 else (done.stderr or done.stdout)[-2000:] or f"status {done.returncode}"
