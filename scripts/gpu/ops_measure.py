"""Times of the deformable attention operator on a GPU, against the anchors and the floors of the hardware."""

from __future__ import annotations

import csv
import functools
import io
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.ops import backends, use_backend
from models.ops.paths import grid_path
from scripts.bench.ops_cases import CASES, REFERENCE, Case, Inputs, Spread, draw
from scripts.gpu.ops_correctness import backward, deterministic, forward

WARM_UP, REPEATS = 20, 100
FLUSH_BYTES = 2**28  # written between two calls, it leaves nothing of theirs in L2
ISSUE = {  # warp instructions per query and head at 32 channels and 16 points, counted in the code for sm_90
    ("forward", torch.float32): 249,
    ("forward", torch.bfloat16): 246,
    ("backward", torch.float32): 546,
    ("backward", torch.bfloat16): 424,
}
METRICS = (
    "smsp__inst_executed.sum",
    "l1tex__t_sector_hit_rate.pct",
    "lts__t_sectors.sum.per_second",
    "lts__t_sectors_op_red.sum",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "gpu__time_duration.sum",
)


@dataclass(frozen=True)
class Chip:
    """What the floors are computed from. bytes_per_second: a device copy, bytes read plus bytes written."""

    processors: int
    clock: float
    bytes_per_second: float

    def floors(self, case: Case, direction: str, dtype: torch.dtype) -> dict[str, float]:
        """Milliseconds below which memory traffic, and issuing the instructions, cannot bring a call."""
        memory = case.traffic(dtype)[direction] / self.bytes_per_second
        instructions = ISSUE.get((direction, dtype), ISSUE[direction, torch.bfloat16])
        issue = case.rows * instructions / (4 * self.processors * self.clock)
        return {"memory": memory * 1e3, "issue": issue * 1e3}


def timed(call: Callable[[], Any], device: torch.device, *, flush: Tensor | None = None, limit: float = 0.6) -> float:
    """Median milliseconds of `call`; fewer repeats where they would take longer than `limit` seconds."""
    if device.type != "cuda":
        began = time.perf_counter()
        call()
        return (time.perf_counter() - began) * 1e3
    call()
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    call()
    torch.cuda.synchronize(device)
    once = time.perf_counter() - began
    for _ in range(min(WARM_UP, int(limit / 2 / once))):
        call()
    repeats = max(5, min(REPEATS, int(limit / once)))
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for begin, end in events:
        if flush is not None:
            flush.zero_()
        begin.record()
        call()
        end.record()
    torch.cuda.synchronize(device)
    return statistics.median(begin.elapsed_time(end) for begin, end in events)


def extra_memory(call: Callable[[], Any], device: torch.device) -> float | None:
    """MiB that a call allocates at its peak, its result included; None without a GPU."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20


def copy_rate(device: torch.device) -> float:
    """Bytes a second of a copy within the device, read plus written."""
    source = torch.empty(2**28 if device.type == "cuda" else 2**20, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / (timed(lambda: target.copy_(source), device) * 1e-3)


def available(name: str, device: torch.device) -> bool:
    return backends._module(name).unavailable(device, torch.float32) is None


# ---- anchors ---------------------------------------------------------------------------------------------------------


def anchors(device: torch.device, classic: Any, case: Case = REFERENCE) -> dict[str, float | str]:
    """Milliseconds at the reference size: classic split, grid_sample eager and compiled, Triton, native."""
    found: dict[str, float | str] = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = draw(case, dtype, device)
        for name in ("native", "triton", "pytorch"):
            if available(name, device):
                with use_backend(name):
                    found[f"{name} forward {dtype}"] = timed(functools.partial(forward, x), device)
                    found[f"{name} backward {dtype}"] = timed(functools.partial(backward, x), device)
    x = draw(case, torch.float32, device)
    if classic is not None:
        for name, call in classic_calls(classic, x).items():
            found[f"classic {name} torch.float32"] = timed(call, device)
    if device.type == "cuda":
        try:
            compiled = torch.compile(grid_path, dynamic=False)
            found["pytorch compiled forward torch.float32"] = timed(lambda: compiled(x.value, *x[1:4]), device)
        except Exception as error:  # an anchor that does not compile is a row of the report, not its end
            found["pytorch compiled forward torch.float32"] = f"{type(error).__name__}: {error}"[:200]
    return found


def goals(found: dict[str, Any], chip: Chip, case: Case = REFERENCE) -> list[dict[str, Any]]:
    """What the operator set out to reach at the reference size, and what it reached; ratios of milliseconds."""
    single, half = torch.float32, torch.bfloat16
    old = {direction: found.get(f"classic {direction} {single}") for direction in ("forward", "backward")}
    grid = found.get(f"pytorch forward {single}")
    wanted = [
        ("float32 forward, times the classic split", old["forward"], f"native forward {single}", 3.0),
        ("float32 backward, times the classic split", old["backward"], f"native backward {single}", 1.7),
        ("bfloat16 forward, times the classic split", old["forward"], f"native forward {half}", 4.0),
        ("bfloat16 backward, times the classic split", old["backward"], f"native backward {half}", 2.0),
        ("float32 forward, times grid_sample", grid, f"native forward {single}", 6.0),
        ("bfloat16 forward, times grid_sample", grid, f"native forward {half}", 10.0),
        ("Triton float32 forward, times the classic split", old["forward"], f"triton forward {single}", 2.0),
    ]
    rows = []
    for what, slow, name, least in wanted:
        fast = found.get(name)
        got = slow / fast if isinstance(slow, float) and isinstance(fast, float) else None
        rows.append(_goal(what, least, got))
    for dtype in (single, half):
        taken, floor = found.get(f"native forward {dtype}"), chip.floors(case, "forward", dtype)["issue"]
        what = f"{str(dtype).removeprefix('torch.')} forward, share of the issue floor"
        rows.append(_goal(what, 1 / 1.6, floor / taken if taken else None))
    return rows


def _goal(what: str, least: float, got: float | None) -> dict[str, Any]:
    return {"goal": what, "at least": least, "got": got, "reached": got is not None and got >= least}


def classic_calls(classic: Any, x: Inputs) -> dict[str, Callable[[], Any]]:
    """The classic split's two directions on these inputs."""
    sizes = torch.tensor(x.shapes, device=x.value.device).view(-1, 2)
    starts = torch.cat([sizes.new_zeros(1), sizes.prod(1).cumsum(0)[:-1]])
    return {
        "forward": lambda: classic.forward(x.value, sizes, starts, x.loc, x.attn),
        "backward": lambda: classic.backward(x.grad_out, x.value, sizes, starts, x.loc, x.attn),
    }


# ---- variants --------------------------------------------------------------------------------------------------------


def sweep(device: torch.device, variants: dict[str, Any], case: Case = REFERENCE) -> list[dict[str, Any]]:
    """A row a variant: milliseconds of both directions for float32 and bfloat16 values, and of the exact backward."""
    rows = []
    for name, ops in variants.items():
        row: dict[str, Any] = {"variant": name}
        for dtype in (torch.float32, torch.bfloat16):
            x = draw(case, dtype, device)
            if name == "heads first":
                x = x._replace(value=x.value.transpose(1, 2).contiguous())
            both = (x.value, x.shapes, x.loc, x.attn)
            short = str(dtype).removeprefix("torch.")
            row[f"forward {short}"] = timed(functools.partial(ops.msda_forward, *both), device)
            row[f"backward {short}"] = timed(functools.partial(ops.msda_backward, x.grad_out, *both, False), device)
            row[f"exact {short}"] = timed(functools.partial(ops.msda_backward, x.grad_out, *both, True), device)
        rows.append(row)
    return rows


# ---- the table -------------------------------------------------------------------------------------------------------


def table_rows(device: torch.device, chip: Chip, classic: Any, until: float, cases: tuple[Case, ...] = CASES) -> list:
    """A row a case, value type and spread, as many as fit before `until` (time.monotonic)."""
    flush = torch.empty(FLUSH_BYTES // 4, device=device) if device.type == "cuda" else None
    rows: list[dict[str, Any]] = []
    spreads: tuple[Spread, ...] = ("encoder", "uniform")
    for case in cases:
        for spread in spreads:
            old = _classic_times(device, classic, draw(case, torch.float32, device, spread)) if classic else {}
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                if time.monotonic() > until:
                    return rows
                rows.append(_row(device, chip, case, dtype, spread, old, flush))
    return rows


def _classic_times(device: torch.device, classic: Any, x: Inputs) -> dict[str, float]:
    return {name: timed(call, device, limit=0.3) for name, call in classic_calls(classic, x).items()}


def _row(
    device: torch.device, chip: Chip, case: Case, dtype: torch.dtype, spread: Spread, old: dict[str, float],
    flush: Tensor | None,
) -> dict[str, Any]:  # fmt: skip
    x = draw(case, dtype, device, spread)
    row: dict[str, Any] = {"case": case.name, "value": str(dtype).removeprefix("torch."), "points": spread}
    row["kernel"] = backends.chosen(device, dtype).name
    for direction, call in (("forward", forward), ("backward", backward)):
        run = functools.partial(call, x)
        warm = timed(run, device, limit=0.3)
        floors = chip.floors(case, direction, dtype)
        row |= {
            f"{direction} ms": warm,
            f"{direction} flushed ms": timed(run, device, flush=flush, limit=0.3) if flush is not None else None,
            f"{direction} vs classic": old[direction] / warm if direction in old else None,
            f"{direction} of memory floor": floors["memory"] / warm,
            f"{direction} of issue floor": floors["issue"] / warm,
            f"{direction} GB/s": case.traffic(dtype)[direction] / warm * 1e-6,
            f"{direction} MiB": extra_memory(run, device),
        }
    return row


# ---- the profiler ----------------------------------------------------------------------------------------------------


def profile(limit: float) -> list[dict[str, str]] | str:
    """ncu's metrics of the four kernels at the reference size, or why there are none."""
    ncu = shutil.which("ncu")
    if ncu is None:
        return "ncu is not on the PATH"
    command = [ncu, "--csv", "--clock-control", "none", "--kernel-name", "regex:vector_", "--launch-count", "4"]
    command += ["--metrics", ",".join(METRICS), sys.executable, "-m", "scripts.gpu.ops_check", "--once"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"ncu took more than {limit:.0f} s"
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    if not lines:
        return (done.stderr or done.stdout)[-600:] or "ncu printed nothing"
    return list(csv.DictReader(io.StringIO("\n".join(lines))))


def run_once(device: torch.device, case: Case = REFERENCE) -> None:
    """Both directions for float32 and bfloat16: what the profiler and the sanitizer watch."""
    for dtype in (torch.float32, torch.bfloat16):
        x = draw(case, dtype, device)
        forward(x), backward(x)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run_exact(device: torch.device, case: Case) -> None:
    with deterministic():
        run_once(device, case)
