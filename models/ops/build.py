"""Makes the native libraries: names the flags, compiles, and keeps what was built in a cache.

A library is `refertrack_cpu-<key>.so` or `refertrack_cuda-<key>.so`; the key is a hash of sources, flags, compilers,
architectures, machine and C library, and not of torch's version: libtorch's stable ABI serves 2.11 and newer. Beside it
lies a .json that says what it is, so that a machine without a compiler can take one that was built ahead.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from models.ops.tools import BuildError, find_compiler, find_cuda, numbers, supported, version_of, wanted_archs

LOG = logging.getLogger(__name__)
SOURCES = Path(__file__).resolve().parent / "csrc"
SHIPPED = Path(__file__).resolve().parent / "lib"  # where setup.py puts what it builds ahead
CACHE_VARIABLE = "REFERTRACK_OPS_CACHE"
TIMEOUT = 900.0  # seconds for one compiler call
WAIT = 180.0  # seconds that other ranks of a machine wait for the first one's build
DAY = 86400.0

# 2.10 is the first version whose stable ABI has new_empty and parallel_for
STABLE = ("-DTORCH_STABLE_ONLY", "-DTORCH_TARGET_VERSION=0x020a000000000000", "-std=c++17")
KERNEL_FLAGS = ("-O3", "-std=c++17", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
BINDING_FLAGS = ("-O2", "-fPIC", *STABLE)
AVX2 = ("-mavx2", "-mfma")
AVX512 = (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq")
ISA_FLAGS: dict[str, tuple[str, ...]] = {"base": (), "avx2": AVX2, "avx512": AVX512}
LINK_FLAGS = ("-shared", "-Wl,--exclude-libs,ALL")
CUDA_FLAGS = ("-O3", *STABLE, "-Xcompiler", "-fPIC")

Kind = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is built."""

    kind: Kind
    compiler: str  # command of the C++ compiler
    cuda: Path | None = None  # toolkit
    archs: tuple[str, ...] = ()  # CUDA compute capabilities, "9.0"; the last one also as PTX

    @cached_property
    def name(self) -> str:
        """File name without ending."""
        tools = [version_of(self.compiler), *([version_of(str(self.cuda / "bin/nvcc"))] if self.cuda else [])]
        key = hashlib.sha256(repr((tools, self.archs, platform.machine(), _libc())).encode())
        key.update(source_hash(self.kind).encode())
        return f"refertrack_{self.kind}-{key.hexdigest()[:16]}"


def source_hash(kind: Kind) -> str:
    """Of the sources and flags alone."""
    flags = CUDA_FLAGS if kind == "cuda" else (KERNEL_FLAGS, BINDING_FLAGS, sorted(ISA_FLAGS.items()))
    digest = hashlib.sha256(repr((kind, flags, LINK_FLAGS)).encode())
    for path in sources(kind):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def sources(kind: Kind) -> list[Path]:
    """Every file that the library is compiled from."""
    patterns = ("*.cu", "*.cuh", "footprint.h") if kind == "cuda" else ("*.cpp", "*.h")
    return sorted(path for pattern in patterns for path in SOURCES.glob(pattern))


def recipe(kind: Kind, archs: Sequence[str] | None = None) -> Recipe:
    """How to build `kind` here; CUDA for `archs`, or TORCH_CUDA_ARCH_LIST, or the devices of this machine.

    Raises BuildError where a tool is missing.
    """
    if platform.system() != "Linux":
        raise BuildError(f"native kernels are built on Linux, not on {platform.system()}")
    compiler = find_compiler()
    if kind == "cpu":
        return Recipe(kind, compiler)
    toolkit = find_cuda()
    return Recipe(kind, compiler, toolkit, supported(toolkit, archs or wanted_archs()))


# ---- the cache -------------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where libraries are kept: REFERTRACK_OPS_CACHE, ~/.cache/refertrack, or a folder of this user's in /tmp.

    Raises BuildError where none can be written.
    """
    named = os.environ.get(CACHE_VARIABLE)
    wanted = Path(named).expanduser() if named else Path("~/.cache/refertrack").expanduser()
    own = Path(tempfile.gettempdir()) / f"refertrack-{os.getuid()}"
    for folder in (wanted, own):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and _is_ours(folder):
            return folder
    raise BuildError(f"neither {wanted} nor {own} can be written by this user alone; set {CACHE_VARIABLE} to a folder")


def _is_ours(folder: Path) -> bool:
    """A library from a folder that others may write to could be anything."""
    about = folder.stat()
    return about.st_uid == os.getuid() and not about.st_mode & stat.S_IWOTH


def find(kind: Kind, archs: Sequence[str], made: Recipe | None) -> Path | None:
    """A library that fits: built ahead by setup.py, or in the cache, where with a compiler the key must agree.

    Without one (`made` is None) any that was built from these sources for this kind of machine will do.
    """
    named = os.environ.get(CACHE_VARIABLE)
    folders = [SHIPPED, Path(named or "~/.cache/refertrack").expanduser()]
    folders += [Path(tempfile.gettempdir()) / f"refertrack-{os.getuid()}"]
    for folder in folders:
        if not folder.is_dir() or not (folder == SHIPPED or _is_ours(folder)):
            continue
        for path in sorted(folder.glob(f"refertrack_{kind}-*.so")):
            wanted = path.stem == made.name if made is not None and folder != SHIPPED else _fits(path, kind, archs)
            if wanted and _whole(path):
                return path
    return None


def _fits(path: Path, kind: Kind, archs: Sequence[str]) -> bool:
    about = _about(path)
    here = (source_hash(kind), platform.machine())
    newer_libc = numbers(about.get("libc", "")) > numbers(_libc())
    return (about.get("sources"), about.get("machine")) == here and not newer_libc and set(archs) <= set(about["archs"])


def _whole(path: Path) -> bool:
    """Whether the file is as long as it was: mapping one that was cut off kills the process."""
    return _about(path).get("bytes") == path.stat().st_size


def archs_of(path: Path) -> tuple[str, ...]:
    """CUDA compute capabilities that a library was compiled for."""
    return tuple(_about(path).get("archs", ()))


def _about(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def library(made: Recipe, folder: Path | None = None) -> Path:
    """Build into `folder` (the cache) and return the file; one that is there already is returned as it is.

    Written under another name and renamed, so a killed build leaves nothing that looks finished, and of several
    processes the last one wins with the same contents. Raises BuildError.
    """
    folder = (folder or cache_folder()).resolve()  # the compilers run elsewhere
    out = folder / f"{made.name}.so"
    if out.exists() and _whole(out):
        return out
    _wait_for_first_rank(out)
    if out.exists() and _whole(out):
        return out
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _sweep(folder)
    LOG.warning("building the %s kernels of deformable attention into %s, once", made.kind, folder)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as temporary:
        partial = Path(temporary)
        _compile(made, partial)
        (partial / "out.json").write_text(json.dumps(_describe(made, partial / "out.so")), encoding="utf-8")
        os.replace(partial / "out.json", out.with_suffix(".json"))
        os.replace(partial / "out.so", out)
    LOG.warning("built %s in %.0f s", out.name, time.monotonic() - began)
    return out


def _describe(made: Recipe, built: Path) -> dict[str, Any]:
    return {
        "sources": source_hash(made.kind),
        "machine": platform.machine(),
        "libc": _libc(),
        "archs": made.archs,
        "compiler": version_of(made.compiler).splitlines()[0],
        "bytes": built.stat().st_size,
    }


def _compile(made: Recipe, to: Path) -> None:
    torch_root = Path(torch.__file__).resolve().parent
    includes = ["-I", str(torch_root / "include")]
    space = f"-DREFERTRACK_NS={namespace(made.name)}"
    link = [made.compiler, *LINK_FLAGS, "-o", str(to / "out.so")]
    if made.cuda is not None:
        nvcc = [str(made.cuda / "bin/nvcc"), *CUDA_FLAGS, space, *includes, *arch_flags(made.archs)]
        names = [path.name for path in sources("cuda") if path.suffix == ".cu"]
        jobs = [[*nvcc, "-c", name, "-o", str(to / f"{name}.o")] for name in names]
        runtime = [f"-L{made.cuda}/lib64", "-lcudart_static", "-lrt", "-ldl", "-lpthread"]
    else:
        isas = ISA_FLAGS if platform.machine() == "x86_64" else {"base": ISA_FLAGS["base"]}
        jobs = [
            [made.compiler, *KERNEL_FLAGS, *flags, f"-DMSDA_ISA={isa}", "-c", "cpu_isa.cpp", "-o", str(to / f"{isa}.o")]
            for isa, flags in isas.items()
        ]
        jobs.append([made.compiler, *BINDING_FLAGS, space, *includes, "-c", "binding.cpp", "-o", str(to / "binding.o")])
        runtime = []
    with ThreadPoolExecutor(min(len(jobs), os.cpu_count() or 1)) as pool:
        list(pool.map(_run, jobs))
    objects = sorted(str(path) for path in to.glob("*.o"))
    _run([*link, *objects, f"-L{torch_root / 'lib'}", "-ltorch", "-ltorch_cpu", *runtime])


def arch_flags(archs: Sequence[str]) -> list[str]:
    """nvcc's flags for these compute capabilities, ascending: machine code for each, and PTX of the last."""
    numbers = [arch.replace(".", "") for arch in archs]
    code = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in numbers]
    return [*code, f"-gencode=arch=compute_{numbers[-1]},code=compute_{numbers[-1]}"]


def namespace(stem: str) -> str:
    """The operators' namespace in the library of that name: two libraries that share one crash the loader."""
    return stem.replace("-", "_")


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} took more than {TIMEOUT:.0f} s; free the CPU and try again") from error
    if done.returncode:
        raise BuildError(
            f"{command[0]} failed with status {done.returncode}; `python -m models.ops build` shows its output\n"
            f"{' '.join(command)}\n{done.stderr[-6000:]}"
        )


def _wait_for_first_rank(out: Path) -> None:
    """The other processes of a training job on this machine let the first one build."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        return
    until = time.monotonic() + WAIT
    while not out.exists() and time.monotonic() < until:
        time.sleep(0.2)


def _sweep(folder: Path) -> None:
    """Remove what killed builds left."""
    for path in folder.glob(".build-*"):
        if time.time() - path.stat().st_mtime > DAY:
            shutil.rmtree(path, ignore_errors=True)


def _libc() -> str:
    return platform.libc_ver()[1]
