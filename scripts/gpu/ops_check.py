"""Deformable attention on a GPU in one call of at most nine minutes: is it right, how fast, against what.

    scripts/gpu/ops.sh              # on the GPU; the JSON and the table go to docs/benchmarks
    scripts/gpu/ops.sh --dry-run    # anywhere: compiles and loads what it can, and walks through every step

Steps: 0 the machine, 1 build, 2 correctness, 3 rates of caches and atomics, 4 anchors, 5 variants, 6 the table,
7 profiler. The JSON is written after each; only a failure in step 2 ends it early. A step that time no longer allows
is left out and says so.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from models.ops import backends, build, status, tools, use_backend
from scripts.bench.ops_cases import CASES, REFERENCE, TINY
from scripts.gpu import ops_measure
from scripts.gpu.ops_correctness import Bench, run_checks
from scripts.gpu.ops_libraries import VARIANTS, Built, build_all
from util.report import provenance, table, write_json

SECONDS = 520.0
DRY_ARCH = "9.0"
DRY_VARIANTS = ["reductions of 2"]  # one compile is enough to try the path
SANITIZERS = ("memcheck", "racecheck")


@dataclass
class Plan:
    """One run: where it writes, what it has found, how long it may go on."""

    device: torch.device
    out: Path
    dry: bool
    work: Path
    began: float = field(default_factory=time.monotonic)
    found: dict[str, Any] = field(default_factory=dict)
    built: Built | None = None
    classic: Any = None
    chip: ops_measure.Chip | None = None

    @property
    def left(self) -> float:
        return SECONDS - (time.monotonic() - self.began)

    @property
    def case(self) -> Any:
        return TINY if self.dry else REFERENCE

    @property
    def kernels(self) -> tuple[str, ...]:
        return backends.ORDER[self.device.type]


def machine(plan: Plan) -> dict[str, Any]:
    """0 the machine"""
    query = "driver_version,clocks.sm,clocks.mem,clocks.max.sm,temperature.gpu"
    smi = _output(["nvidia-smi", f"--query-gpu={query}", "--format=csv"]) if shutil.which("nvidia-smi") else None
    nvcc = _output([str(tools.find_cuda() / "bin/nvcc"), "--version"]).splitlines()[-2:]
    return {"nvidia-smi": smi, "nvcc": nvcc, "triton": version("triton") if find_spec("triton") else None}


def libraries(plan: Plan) -> dict[str, Any]:
    """1 build: product, anchor, probe and variants, in parallel"""
    arch = DRY_ARCH if plan.dry else ".".join(map(str, torch.cuda.get_device_capability(plan.device)))
    began = time.monotonic()
    jobs = 1 if plan.dry else os.cpu_count() or 1
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(build.library, build.recipe("cuda", (arch,)), plan.work if plan.dry else None)
        plan.built = build_all(plan.work, arch, DRY_VARIANTS if plan.dry else list(VARIANTS), jobs)
        product = waiting.result()
    torch.ops.load_library(product)
    if "classic" in plan.built.files:
        plan.classic = plan.built.operators("classic")
    loaded = {name: str(plan.built.operators(name).msda_forward.default._schema) for name in _variants(plan)}
    return {
        "seconds": time.monotonic() - began,
        "product": product.name,
        "loaded": sorted(loaded),
        "failed": plan.built.failed,
        "kernels": [asdict(line) for line in status(plan.device)],
    }


def correctness(plan: Plan) -> dict[str, Any]:
    """2 correctness"""
    assert plan.built is not None
    absent = plan.built.operators("absent") if "absent" in plan.built.files else None
    checks = run_checks(Bench(plan.device, plan.kernels, absent))
    for line in checks:
        print(f"  {'ok  ' if line['ok'] else 'FAIL'} {line['check']} ({line['seconds']} s)\n{line['error']}", end="")
    return {"ok": all(line["ok"] for line in checks), "checks": checks, "sanitizer": _sanitize(plan)}


def rates(plan: Plan) -> dict[str, Any]:
    """3 rates of caches and atomics"""
    assert plan.built is not None
    copied = ops_measure.copy_rate(plan.device)
    clock, processors = 1.0e9, 1
    measured: dict[str, Any] = {}
    if not plan.dry and "rates" in plan.built.files:
        measured = json.loads(_output([str(plan.built.files["rates"])]))
        processors, clock = measured["processors"], measured["clock_khz"] * 1e3
    plan.chip = ops_measure.Chip(processors, clock, copied)
    return {"copy_gbps": copied * 1e-9, **measured}


def anchors(plan: Plan) -> dict[str, Any]:
    """4 anchors"""
    assert plan.chip is not None
    found: dict[str, Any] = ops_measure.anchors(plan.device, None if plan.dry else plan.classic, plan.case)
    plan.found["goals"] = ops_measure.goals(found, plan.chip, plan.case)
    return found


def variants(plan: Plan) -> list[dict[str, Any]]:
    """5 variants"""
    assert plan.built is not None
    if plan.dry:
        return []  # their kernels need a GPU
    return ops_measure.sweep(plan.device, {name: plan.built.operators(name) for name in _variants(plan)})


def full_table(plan: Plan) -> list[dict[str, Any]]:
    """6 the table"""
    assert plan.chip is not None
    until = time.monotonic() + plan.left - 60
    cases = (TINY,) if plan.dry else CASES
    return ops_measure.table_rows(plan.device, plan.chip, None if plan.dry else plan.classic, until, cases)


def profiler(plan: Plan) -> Any:
    """7 profiler"""
    if plan.dry:
        ops_measure.run_once(plan.device, plan.case)
        return "not without a GPU"
    return ops_measure.profile(min(90.0, plan.left))


# each step, and the seconds it needs at least
STEPS: tuple[tuple[Callable[[Plan], Any], float], ...] = (
    (machine, 0), (libraries, 0), (correctness, 0), (rates, 10), (anchors, 30), (variants, 40), (full_table, 70),
    (profiler, 20),
)  # fmt: skip


def run(plan: Plan) -> int:
    """Exit status: 1 where correctness or a step failed."""
    for step, needs in STEPS:
        name = (step.__doc__ or "").strip()
        if plan.left < needs:
            plan.found[name] = "left out: no time"
            continue
        print(f"== {name}", flush=True)
        began = time.monotonic()
        try:
            plan.found[name] = step(plan)
        except Exception as error:  # the next steps may still have something to say
            logging.exception("step %s", name)
            plan.found[name] = f"failed: {type(error).__name__}: {error}"
        plan.found[f"seconds of {name}"] = round(time.monotonic() - began, 1)
        if not plan.dry:
            write_json(plan.out / "ops_cuda.json", {**provenance(plan.device), **plan.found})
        result = plan.found[name]
        if step is correctness and not (isinstance(result, dict) and result["ok"]):
            print("stopped: what is wrong need not be measured")
            return 1
    _print(plan)
    return int(any(isinstance(result, str) and result.startswith("failed") for result in plan.found.values()))


def _print(plan: Plan) -> None:
    for step in (anchors, variants, full_table):
        result = plan.found[(step.__doc__ or "").strip()]
        if isinstance(result, dict):
            result = [{"kernel": name, "ms": value} for name, value in result.items()]
        if isinstance(result, list) and result:
            print(table(result), end="\n\n")
    if "goals" in plan.found and not plan.dry:
        print(table(plan.found["goals"]), end="\n\n")
    print(f"{time.monotonic() - plan.began:.0f} s")


def _variants(plan: Plan) -> list[str]:
    assert plan.built is not None
    return [name for name in VARIANTS if name in plan.built.files]


def _sanitize(plan: Plan) -> dict[str, str]:
    """compute-sanitizer on the smallest case, where there is one and it supports the device."""
    tool = shutil.which("compute-sanitizer")
    if plan.dry or tool is None:
        return {}
    found = {}
    for kind in SANITIZERS:
        command = [tool, "--tool", kind, sys.executable, "-m", "scripts.gpu.ops_check", "--once", "--tiny"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=45)
            found[kind] = next((x for x in reversed(done.stdout.splitlines()) if "ERROR SUMMARY" in x), "no summary")
        except subprocess.TimeoutExpired:
            found[kind] = "took more than 45 s"
    return found


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    logging.basicConfig(format="%(message)s")
    device = torch.device("cpu" if options.dry_run else "cuda")
    if not options.dry_run and not torch.cuda.is_available():
        print("no GPU is visible to torch; --dry-run tries everything that needs none", file=sys.stderr)
        return 2
    if options.once:
        case = TINY if options.tiny else REFERENCE
        with use_backend("native"):
            ops_measure.run_once(device, case)
            if options.tiny:
                ops_measure.run_exact(device, case)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return run(Plan(device, options.out, options.dry_run, Path(folder)))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="without a GPU: compile, load, tiny cases on the CPU")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="folder of the JSON result")
    parser.add_argument("--once", action="store_true", help="run the native kernels once, for a profiler")
    parser.add_argument("--tiny", action="store_true", help="with --once: the smallest case, for a sanitizer")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
