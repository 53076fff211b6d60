"""Deformable attention on the CPU, measured: each kernel against `grid_sample` eager and compiled, and transformers'.

    python -m scripts.bench.ops --quick
    python -m scripts.bench.ops --threads 1 2 --out docs/benchmarks

Candidates take turns in one process, so that what else the machine does hits all of them; the smallest of the times is
shown, and the load average with them. On a GPU it is `scripts/gpu/ops.sh`.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.ops import status, use_backend
from scripts.bench.ops_cases import CASES, TINY, Case, Inputs, Spread, draw
from util.report import provenance, table, write_json

WARM_UP = 2
DIRECTIONS = ("forward", "forward+backward")
BASELINE = "grid_sample"  # eager, with float32 values whatever the others get: half types are broken in it on the CPU
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
HF_MODULE = "transformers.models.deformable_detr.modeling_deformable_detr"

Run = Callable[[Inputs], Tensor]


@dataclass(frozen=True)
class Setting:
    """What one group of rows has in common."""

    case: Case
    dtype: torch.dtype
    spread: Spread
    threads: int
    direction: str


@dataclass(frozen=True)
class Time:
    """Smallest of the repeats, in seconds, and MiB that the process needed beyond what it had before."""

    wall: float
    process: float
    peak_mib: float | None


# ---- candidates ------------------------------------------------------------------------------------------------------


def candidates(names: Sequence[str]) -> dict[str, Run]:
    """Functions of the inputs, differentiable; those that this machine lacks are left out with a line."""
    made: dict[str, Run] = {}
    for name in names:
        try:
            made[name] = _candidate(name)
        except ImportError as error:
            print(f"{name}: left out: {error}")
    for line in status("cpu"):
        if line.name in made and not line.available:
            del made[line.name]
            print(f"{line.name}: left out: {line.note}")
    return made


def _candidate(name: str) -> Run:
    if name in ("native", "pytorch"):
        return lambda x: torch.ops.refertrack.msda_forward(x.value, x.shapes, x.loc, x.attn)
    if name == "transformers":
        return _transformers()
    return torch.compile(plain, dynamic=False) if name == "grid_sample compiled" else plain


def plain(x: Inputs) -> Tensor:
    """What there is without an operator: a `grid_sample` per level, and a sum of the samples by weight."""
    N, Q, H = x.loc.shape[:3]
    rows = x.value.permute(0, 2, 3, 1).flatten(0, 1)
    grid = (2 * x.loc - 1).transpose(1, 2).flatten(0, 1)
    sampled, start = [], 0
    for level, (h, w) in enumerate(zip(x.shapes[::2], x.shapes[1::2], strict=True)):
        plane = rows[..., start : start + h * w].unflatten(-1, (h, w))
        sampled.append(F.grid_sample(plane, grid[:, :, level], align_corners=False))
        start += h * w
    weight = x.attn.transpose(1, 2).reshape(N * H, 1, Q, -1)
    out = (torch.stack(sampled, -2).flatten(-2) * weight).sum(-1)
    return out.view(N, H, -1, Q).permute(0, 3, 1, 2)


def _transformers() -> Run:
    """Hugging Face's plain PyTorch path, which takes float32 alone on the CPU."""
    path = importlib.import_module(HF_MODULE).MultiScaleDeformableAttention()

    def run(x: Inputs) -> Tensor:
        sizes = list(zip(x.shapes[::2], x.shapes[1::2], strict=True))
        starts = torch.tensor([0, *(h * w for h, w in sizes[:-1])]).cumsum(0)
        out = path(x.value, torch.tensor(sizes), sizes, starts, x.loc, x.attn, 64)
        return out.unflatten(-1, x.grad_out.shape[2:])

    return run


# ---- measuring -------------------------------------------------------------------------------------------------------


def measure(setting: Setting, runs: dict[str, Run], repeats: int) -> dict[str, Time]:
    """Each candidate's time in this setting, taking turns."""
    torch.set_num_threads(setting.threads)
    inputs = {name: draw(setting.case, _type_of(name, setting), torch.device("cpu"), setting.spread) for name in runs}
    for _ in range(WARM_UP):
        for name, run in runs.items():
            _call(name, run, inputs[name], setting.direction)
    peaks = {name: _peak(name, run, inputs[name], setting.direction) for name, run in runs.items()}
    walls: dict[str, list[float]] = {name: [] for name in runs}
    processes: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            began = time.perf_counter(), time.process_time()
            _call(name, run, inputs[name], setting.direction)
            walls[name].append(time.perf_counter() - began[0])
            processes[name].append(time.process_time() - began[1])
    return {name: Time(min(walls[name]), min(processes[name]), peaks[name]) for name in runs}


def _type_of(name: str, setting: Setting) -> torch.dtype:
    return setting.dtype if name in ("native", "pytorch") else torch.float32


def _call(name: str, run: Run, x: Inputs, direction: str) -> None:
    forced = use_backend(name) if name in ("native", "pytorch") else contextlib.nullcontext()
    with forced:
        if direction == "forward":
            with torch.no_grad():
                run(x)
            return
        leaves = [tensor.detach().requires_grad_() for tensor in (x.value, x.loc, x.attn)]
        out = run(x._replace(value=leaves[0], loc=leaves[1], attn=leaves[2]))
        torch.autograd.grad(out, leaves, x.grad_out)


def _peak(name: str, run: Run, x: Inputs, direction: str) -> float | None:
    """MiB of memory beyond what is held before the call, results included; None where Linux does not tell."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed must not hide what is needed
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest mark starts anew
        before = _memory("VmRSS")
    except OSError:
        return None
    _call(name, run, x, direction)
    return (_memory("VmHWM") - before) / 1024


def _memory(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(field)))


def copy_bandwidth(threads: int) -> float:
    """Bytes per second, read and written, of copying 256 MB."""
    torch.set_num_threads(threads)
    source = torch.ones(2**25)
    target = torch.empty_like(source)
    times = []
    for _ in range(7):
        began = time.perf_counter()
        target.copy_(source)
        times.append(time.perf_counter() - began)
    return 2 * source.nbytes / min(times)


def rows(setting: Setting, times: dict[str, Time], bandwidth: float) -> list[dict[str, Any]]:
    """One row a candidate: its time, how many times faster than the baseline, what it reads a second, its floor."""
    case = setting.case
    baseline = times.get(BASELINE)
    found = []
    for name, taken in times.items():
        dtype = _type_of(name, setting)
        traffic = case.traffic(dtype)
        moved = traffic["forward"] + (traffic["backward"] if setting.direction != "forward" else 0)
        passes = 1 if setting.direction == "forward" else 2
        gathered = passes * case.rows * len(case.shapes) * case.points * 4 * case.dim * 4  # float32, once packed
        found.append(
            {
                "case": case.name,
                "values": str(dtype).removeprefix("torch."),
                "points": setting.spread,
                "threads": setting.threads,
                "direction": setting.direction,
                "candidate": name,
                "ms": 1e3 * taken.wall,
                "process ms": 1e3 * taken.process,
                "times grid_sample": baseline.wall / taken.wall if baseline else None,
                "gathered GB/s": gathered / taken.wall / 1e9,
                "share of memory floor": moved / bandwidth / taken.wall,
                "peak MiB": taken.peak_mib,
            }
        )
    return found


# ---- the command -----------------------------------------------------------------------------------------------------


def main() -> None:
    options = _options()
    chosen = [TINY] if options.quick else [case for case in CASES if case.name in options.cases]
    runs = candidates(options.candidates)
    load = os.getloadavg()
    print(f"load average {load[0]:.2f} {load[1]:.2f} {load[2]:.2f}, {os.cpu_count()} CPUs")
    found: list[dict[str, Any]] = []
    bandwidths = {threads: copy_bandwidth(threads) for threads in options.threads}
    for threads in options.threads:
        for case in chosen:
            for name in options.types:
                for direction in DIRECTIONS:
                    setting = Setting(case, TYPES[name], options.points, threads, direction)
                    found += rows(setting, measure(setting, runs, options.repeats), bandwidths[threads])
                    print(table(found[-len(runs) :]), flush=True)
    if options.out is not None:
        about = {"repeats": options.repeats, "warm-up": WARM_UP, "load average": load, "copy bytes/s": bandwidths}
        kernels = {line.name: line.note.split(",")[:2] for line in status("cpu")}
        result = {**about, "kernels": kernels, **provenance("cpu"), "rows": found}
        print(f"wrote {write_json(options.out / 'ops_cpu.json', result)}")


def _options() -> argparse.Namespace:
    everything = ["native", "pytorch", "grid_sample", "grid_sample compiled", "transformers"]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=["enc-1f", "enc-5f", "dec-5q", "dec-20q", "dec-300q"],
                        choices=[case.name for case in CASES])  # fmt: skip
    parser.add_argument("--types", nargs="+", default=["float32", "bfloat16"], choices=TYPES, help="of the values")
    parser.add_argument("--points", default="encoder", choices=("encoder", "uniform"), help="where they lie")
    parser.add_argument("--threads", type=int, nargs="+", default=[os.cpu_count() or 1])
    parser.add_argument("--candidates", nargs="+", default=everything, choices=everything)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it works, not how fast")
    parser.add_argument("--out", type=Path, help="folder for the JSON result")
    return parser.parse_args()


if __name__ == "__main__":
    main()
