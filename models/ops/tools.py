"""The compilers of this machine, and the GPU architectures to compile for."""

from __future__ import annotations

import glob
import logging
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch

LOG = logging.getLogger(__name__)
USUAL = ("/usr/local/cuda", "/usr/local/cuda-*")  # the newest of several


class BuildError(Exception):
    """The first line says what is missing or failed, and what to do; the compiler's output may follow."""


def find_compiler() -> str:
    """The C++ compiler: CXX, else g++, c++ or clang++ on the PATH. Raises BuildError."""
    named = os.environ.get("CXX")
    for command in [named] if named else ["g++", "c++", "clang++"]:
        if shutil.which(command):
            return command
    wrong = f"CXX names {named}, which is not on the PATH" if named else "no C++ compiler"
    raise BuildError(f"{wrong}; install g++ (on Debian and Ubuntu: apt install g++), or set CXX")


def find_cuda() -> Path:
    """The CUDA toolkit's folder, the first that has both nvcc and the runtime's headers. Raises BuildError.

    A script called nvcc on the PATH may stand anywhere, so its own folder says nothing.
    """
    found = shutil.which("nvcc")
    named = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    beside = [str(Path(found).resolve().parent.parent)] if found else []
    usual = [path for pattern in USUAL for path in sorted(glob.glob(pattern), key=numbers, reverse=True)]
    for folder in map(Path, [*named, *beside, *usual]):
        if (folder / "bin/nvcc").exists() and (folder / "include/cuda_runtime.h").exists():
            return folder
    if found:
        raise BuildError(f"{found} stands in no CUDA toolkit; set CUDA_HOME to the folder with bin/nvcc and include")
    raise BuildError("no nvcc; install the CUDA toolkit or set CUDA_HOME")


def wanted_archs() -> tuple[str, ...]:
    """Compute capabilities in TORCH_CUDA_ARCH_LIST, else of the visible devices. Raises BuildError for none."""
    named = os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").replace("+PTX", "").split()
    if named:
        return tuple(named)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    seen = {".".join(map(str, torch.cuda.get_device_capability(n))) for n in range(count)}
    if not seen:
        raise BuildError("no GPU to build for; name the architectures: python -m models.ops build cuda --cuda-arch 9.0")
    return tuple(seen)


def supported(toolkit: Path, archs: Sequence[str]) -> tuple[str, ...]:
    listed = _output([str(toolkit / "bin/nvcc"), "--list-gpu-arch"]).split()
    known = [arch for arch in archs if f"compute_{arch.replace('.', '')}" in listed]
    if not known:
        raise BuildError(f"{toolkit} builds for {', '.join(listed)}, not for {', '.join(archs)}; use another toolkit")
    if len(known) < len(archs):
        LOG.warning("%s does not build for %s", toolkit, ", ".join(sorted(set(archs) - set(known))))
    return tuple(sorted(set(known), key=numbers))


def version_of(command: str) -> str:
    """What `command --version` prints."""
    return _output([command, "--version"])


def numbers(text: str) -> list[int]:
    """The numbers in a version or path, for comparison."""
    return [int(part) for part in "".join(c if c.isdigit() else " " for c in text).split()]


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
