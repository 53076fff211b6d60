"""Building the native library: what is found, where it is kept, and what happens when something is missing or broken.

Most tests build with a script that stands for the compiler: it answers in no time and counts its calls.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.ops import backends, build, native, tools
from models.ops.__main__ import main as commands
from tests.conftest import ROOT

SCRIPT = """#!/bin/sh
if [ "$1" = --version ]; then echo "stand-in {version}"; exit 0; fi
echo "$@" >> "{calls}"
{action}
while [ $# -gt 1 ]; do if [ "$1" = -o ]; then echo built > "$2"; fi; shift; done
"""


class Compiler:
    """The stand-in: a command, and how often it was called."""

    def __init__(self, folder: Path, *, version: str = "1", action: str = "") -> None:
        folder.mkdir(exist_ok=True)
        self.command, self.calls = folder / "compiler", folder / "calls"
        self.command.write_text(SCRIPT.format(version=version, calls=self.calls, action=action))
        self.command.chmod(0o755)

    @property
    def count(self) -> int:
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(build.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(build, "SHIPPED", tmp_path / "shipped")
    return tmp_path / "cache"


@pytest.fixture
def compiler(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Compiler:
    made = Compiler(tmp_path / "tools")
    monkeypatch.setenv("CXX", str(made.command))
    return made


@pytest.fixture
def fresh() -> Iterator[None]:
    """The library is looked for anew, in the test and after it."""
    native.forget(), backends.forget()
    yield
    native.forget(), backends.forget()


# ---- the cache -------------------------------------------------------------------------------------------------------


def test_built_once_and_found_again(compiler: Compiler, cache: Path) -> None:
    recipe = build.recipe("cpu")
    path = build.library(recipe)
    assert path == cache / f"{recipe.name}.so" and path.read_text() == "built\n"
    calls = compiler.count
    assert calls == (5 if os.uname().machine == "x86_64" else 3)  # instruction sets, binding, link
    assert build.library(recipe) == path and build.find("cpu", (), recipe) == path
    assert compiler.count == calls
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert not list(cache.glob(".build-*"))


def test_key(compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources, flags, compiler and machine change it; torch's version does not."""
    first = build.recipe("cpu").name
    monkeypatch.setattr(torch, "__version__", "3.0.0")
    assert build.recipe("cpu").name == first
    changes = {
        "flags": (build, "KERNEL_FLAGS", ("-O1",)),
        "machine": (build.platform, "machine", lambda: "riscv64"),
        "C library": (build, "_libc", lambda: "9.9"),
    }
    for what, (owner, name, value) in changes.items():
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, value)
            assert build.recipe("cpu").name != first, what
    with monkeypatch.context() as patch:
        patch.setenv("CXX", str(Compiler(tmp_path / "newer", version="2").command))
        assert build.recipe("cpu").name != first
    copied = shutil.copytree(build.SOURCES, tmp_path / "csrc")
    monkeypatch.setattr(build, "SOURCES", copied)
    assert build.recipe("cpu").name == first
    (copied / "footprint.h").write_text("// changed")
    assert build.recipe("cpu").name != first


def test_processes_that_race_end_with_one_file(compiler: Compiler, cache: Path, tmp_path: Path) -> None:
    slow = Compiler(tmp_path / "tools", action="sleep 0.2")
    context = multiprocessing.get_context("fork")
    recipe = build.Recipe("cpu", str(slow.command))
    workers = [context.Process(target=build.library, args=(recipe,)) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 6
    assert sorted(path.name for path in cache.iterdir()) == [f"{recipe.name}.json", f"{recipe.name}.so"]
    assert build.find("cpu", (), recipe) is not None


def test_a_killed_build_leaves_nothing_that_looks_finished(compiler: Compiler, cache: Path, tmp_path: Path) -> None:
    slow = Compiler(tmp_path / "tools", action="sleep 30")
    recipe = build.Recipe("cpu", str(slow.command))
    worker = multiprocessing.get_context("fork").Process(target=_in_own_group, args=(recipe,))
    worker.start()
    while slow.count == 0:
        time.sleep(0.02)
    assert worker.pid is not None
    os.killpg(worker.pid, signal.SIGKILL)
    worker.join(10)
    left = list(cache.glob(".build-*"))
    assert len(left) == 1 and build.find("cpu", (), recipe) is None
    Compiler(tmp_path / "tools")
    old = time.time() - 2 * build.DAY
    os.utime(left[0], (old, old))
    assert build.library(recipe).exists()
    assert not left[0].exists()


def _in_own_group(recipe: build.Recipe) -> None:
    os.setsid()
    build.library(recipe)


def test_a_file_that_was_cut_off_is_built_anew(compiler: Compiler) -> None:
    recipe = build.recipe("cpu")
    path = build.library(recipe)
    path.write_text("bui")
    assert build.find("cpu", (), recipe) is None
    assert build.library(recipe).read_text() == "built\n"


def test_a_cache_that_cannot_be_written(compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the user's own is taken; one that others may write to is not."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(build.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(build.tempfile, "gettempdir", lambda: str(tmp_path))
    own = tmp_path / f"refertrack-{os.getuid()}"
    path = build.library(build.recipe("cpu"))
    assert path.parent == own and build.find("cpu", (), build.recipe("cpu")) == path
    own.chmod(0o777)
    assert build.find("cpu", (), build.recipe("cpu")) is None
    with pytest.raises(tools.BuildError, match=f"set {build.CACHE_VARIABLE} to a folder"):
        build.cache_folder()


def test_a_library_built_ahead_needs_no_compiler(
    compiler: Compiler, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build.library(build.recipe("cpu"), tmp_path / "shipped")
    assert build.find("cpu", (), None) == path
    about = json.loads(path.with_suffix(".json").read_text())

    def found(**changes: object) -> Path | None:
        path.with_suffix(".json").write_text(json.dumps(about | changes))
        return build.find("cpu", (), None)

    assert found() == path and found(libc="2.1") == path
    assert found(sources="of another version") is None
    assert found(machine="aarch64") is None
    assert found(libc="99.0") is None  # it would not load
    cuda = path.with_name(path.name.replace("_cpu-", "_cuda-"))
    for suffix in (".so", ".json"):
        shutil.copy(path.with_suffix(suffix), cuda.with_suffix(suffix))
    cuda.with_suffix(".json").write_text(
        json.dumps(about | {"sources": build.source_hash("cuda"), "archs": ["8.0", "9.0"]})
    )
    assert build.find("cuda", ("9.0",), None) == cuda
    assert build.find("cuda", ("10.0",), None) is None


def test_a_cache_from_another_machine_is_left_alone(compiler: Compiler, cache: Path) -> None:
    cache.mkdir()
    other = cache / "refertrack_cpu-0123456789abcdef.so"
    other.write_text("foreign")
    about = {"sources": build.source_hash("cpu"), "machine": "aarch64", "libc": "2.17", "archs": [], "bytes": 7}
    other.with_suffix(".json").write_text(json.dumps(about))
    assert build.find("cpu", (), build.recipe("cpu")) is None and build.find("cpu", (), None) is None
    assert build.library(build.recipe("cpu")) != other
    assert other.read_text() == "foreign"


def test_other_ranks_wait_for_the_first(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = build.recipe("cpu")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(build, "WAIT", 60.0)
    first = multiprocessing.get_context("fork").Process(target=_build_later, args=(recipe,))
    first.start()
    build.library(recipe)
    first.join(10)
    assert compiler.count == (5 if os.uname().machine == "x86_64" else 3)
    monkeypatch.setattr(build, "WAIT", 0.1)
    newer = build.Recipe("cpu", str(Compiler(compiler.command.parent / "other").command))
    assert build.library(newer).exists()  # nobody came, so it is built here


def _build_later(recipe: build.Recipe) -> None:
    os.environ["LOCAL_RANK"] = "0"
    time.sleep(0.3)
    build.library(recipe)


# ---- tools -----------------------------------------------------------------------------------------------------------


def test_compiler_errors(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    """The reason is one line; who forces the kernel sees what the compiler said."""
    broken = Compiler(tmp_path / "tools", action='echo "no such header" >&2; exit 1')
    monkeypatch.setenv("CXX", str(broken.command))
    reason = native.unavailable(torch.device("cpu"), torch.float32)
    assert reason is not None and "failed with status 1" in reason.splitlines()[0]
    assert "no such header" in reason
    calls = broken.count
    assert native.unavailable(torch.device("cpu"), torch.float32) == reason
    assert broken.count == calls  # not tried at every call
    assert not list(cache.iterdir())


def test_no_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CXX", raising=False)
    assert "no C++ compiler; install g++" in (native.unavailable(torch.device("cpu"), torch.float32) or "")
    monkeypatch.setenv("CXX", "icc")
    native.forget()
    assert "CXX names icc" in (native.unavailable(torch.device("cpu"), torch.float32) or "")


def test_no_library_for_other_systems_and_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no kernel for mps" in (native.unavailable(torch.device("mps"), torch.float32) or "")
    monkeypatch.setattr(build.platform, "system", lambda: "Darwin")
    with pytest.raises(tools.BuildError, match="not on Darwin"):
        build.recipe("cpu")


def toolkit(folder: Path, archs: str = "compute_80 compute_90") -> Path:
    """A folder that looks like a CUDA toolkit."""
    (folder / "bin").mkdir(parents=True)
    (folder / "include").mkdir()
    (folder / "include/cuda_runtime.h").write_text("")
    nvcc = folder / "bin/nvcc"
    nvcc.write_text(f'#!/bin/sh\nif [ "$1" = --list-gpu-arch ]; then echo {archs}; else echo nvcc 1; fi\n')
    nvcc.chmod(0o755)
    return folder


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No toolkit is found, and a PATH on which a script may be laid."""
    for name in ("CUDA_HOME", "CUDA_PATH", "TORCH_CUDA_ARCH_LIST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tools, "USUAL", ())
    path = tmp_path / "path"
    path.mkdir()
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")
    if shutil.which("nvcc"):
        pytest.skip("this machine has nvcc in /usr/bin")
    return path


def test_cuda_toolkits(no_cuda: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(tools.BuildError, match="no nvcc; install the CUDA toolkit or set CUDA_HOME"):
        tools.find_cuda()
    real = toolkit(tmp_path / "cuda")
    wrapper = no_cuda / "nvcc"
    wrapper.write_text(f'#!/bin/sh\nexec {real}/bin/nvcc "$@"\n')
    wrapper.chmod(0o755)
    # the folder above a script on the PATH is no toolkit, whatever the script calls
    with pytest.raises(tools.BuildError, match="stands in no CUDA toolkit; set CUDA_HOME"):
        tools.find_cuda()
    monkeypatch.setattr(tools, "USUAL", (str(real),))
    assert tools.find_cuda() == real
    monkeypatch.setattr(tools, "USUAL", ())
    wrapper.unlink()
    wrapper.symlink_to(real / "bin/nvcc")
    assert tools.find_cuda() == real
    monkeypatch.setenv("CUDA_HOME", str(toolkit(tmp_path / "newer")))
    assert tools.find_cuda() == tmp_path / "newer"


def test_cuda_architectures(no_cuda: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = toolkit(tmp_path / "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(tools.BuildError, match="no GPU to build for; name the architectures"):
        tools.wanted_archs()
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0+PTX")
    assert tools.wanted_archs() == ("8.0", "9.0")
    assert tools.supported(home, ("9.0", "7.0", "8.0")) == ("8.0", "9.0")
    with pytest.raises(tools.BuildError, match=r"not for 7\.0; use another toolkit"):
        tools.supported(home, ("7.0",))
    assert build.arch_flags(("8.0", "9.0")) == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_90,code=compute_90",
    ]


# ---- the whole way ---------------------------------------------------------------------------------------------------

SAMPLE = """
import torch
from models.ops import deformable_attention
out = deformable_attention(torch.ones(1, 6, 1, 16), ((2, 3),), torch.full((1, 1, 1, 1, 1, 2), 0.5),
                           torch.ones(1, 1, 1, 1, 1))
assert torch.equal(out, torch.ones(1, 1, 16))
"""


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "REFERTRACK_OPS": "auto", **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_a_machine_without_a_compiler_works_and_says_so(tmp_path: Path) -> None:
    bare = {"PATH": "/nonexistent", "CXX": "", "REFERTRACK_OPS_CACHE": str(tmp_path)}
    if build.SHIPPED.exists():
        pytest.skip("a library was built ahead in this checkout")
    run = python(SAMPLE, **bare)
    assert run.returncode == 0, run.stderr
    said = [line for line in run.stderr.splitlines() if "deformable attention" in line]
    assert len(said) == 1 and said[0].startswith("deformable attention on cpu: pytorch (native: no C++ compiler;")
    run = python(SAMPLE, **{**bare, "REFERTRACK_OPS": "native"})
    assert run.returncode != 0 and "cannot run on cpu" in run.stderr and "no C++ compiler" in run.stderr


def test_build_ahead_command(compiler: Compiler, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands(["build", "cpu", "--into", str(tmp_path / "here")]) == 0
    path = tmp_path / "here" / f"{build.recipe('cpu').name}.so"
    assert capsys.readouterr().out == f"cpu: {path}\n" and path.exists()
    Compiler(tmp_path / "tools", version="3", action='echo "no such header" >&2; exit 1')
    assert commands(["build", "cpu"]) == 1
    assert "no such header" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        commands(["build", "tpu"])


def test_status_command(backend: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert commands(["status"]) == 0
    lines = {line.split()[1]: line.split()[2] for line in capsys.readouterr().out.splitlines()}
    assert lines[backend] == "runs" and set(lines) == {"native", "pytorch"}


def test_setup_builds_ahead(compiler: Compiler, tmp_path: Path) -> None:
    """In a copy of what it needs, so that nothing is left in this checkout."""
    copy = tmp_path / "checkout"
    for name in ("setup.py", "util/__init__.py", "util/errors.py", "models/__init__.py"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    shutil.copytree(ROOT / "models/ops", copy / "models/ops", ignore=shutil.ignore_patterns("lib", "__pycache__"))

    def setup(command: str, wanted: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "REFERTRACK_BUILD_OPS": wanted}
        call = [sys.executable, "setup.py", "-q", command]
        return subprocess.run(call, cwd=copy, env=environment, capture_output=True, text=True, timeout=300)

    library = copy / "models/ops/lib"
    assert "must be cpu, cuda or 0" in setup("build", "yes").stderr
    assert setup("build", "0").returncode == 0 and not library.exists()
    run = setup("build", "cpu")
    assert run.returncode == 0, run.stderr
    assert [path.suffix for path in sorted(library.iterdir())] == [".json", ".so"]
    Compiler(tmp_path / "tools", version="4", action="exit 1")
    run = setup("build", "cpu")
    assert run.returncode != 0 and "could not be built" in run.stderr


def test_importing_starts_no_process() -> None:
    code = """
import subprocess, torch
def refuse(*arguments, **options):
    raise AssertionError(f"started {arguments}")
subprocess.Popen = subprocess.run = refuse
import models.ops, models.ops.native, models.ops.build
"""
    run = python(code)
    assert run.returncode == 0, run.stderr


def test_a_library_that_does_not_load_is_built_anew(
    native: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh: None
) -> None:
    """Once; the real one is put in its place."""
    from models.ops import native as module

    good = module._loaded_library(torch.device("cpu")).path
    module.forget()
    bad = tmp_path / "refertrack_cpu-0000000000000000.so"
    bad.write_bytes(b"\x7fELF and nothing more")
    built = []
    monkeypatch.setattr(build, "find", lambda kind, archs, made: bad)
    monkeypatch.setattr(build, "library", lambda made: built.append(made) or good)
    assert module.unavailable(torch.device("cpu"), torch.float32) is None
    assert len(built) == 1 and not bad.exists()


@pytest.mark.slow
def test_two_builds_in_one_process_and_real_races(tmp_path: Path) -> None:
    """Six processes build the real library at once, all compute; two keys live in one process."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    environment = {**os.environ, "REFERTRACK_OPS_CACHE": str(tmp_path), "REFERTRACK_OPS": "native"}
    workers = [subprocess.Popen([sys.executable, "-c", SAMPLE], cwd=ROOT, env=environment) for _ in range(6)]
    assert [worker.wait(900) for worker in workers] == [0] * 6
    assert len(list(tmp_path.glob("*.so"))) == 1
    second = "from models.ops import backends, build, native\nnative.forget(); backends.forget()\n"
    second += "build.KERNEL_FLAGS = (*build.KERNEL_FLAGS, '-DOTHER')\n"
    run = python(SAMPLE + second + SAMPLE, **environment)
    assert run.returncode == 0, run.stderr
    assert len(list(tmp_path.glob("*.so"))) == 2
