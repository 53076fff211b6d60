"""The operator's GPU check as far as a machine without a GPU can take it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from models.ops import tools, use_backend
from scripts.bench.ops_cases import CASES, REFERENCE, TINY, draw
from scripts.gpu import ops_check, ops_correctness, ops_measure
from scripts.gpu.ops_measure import Chip

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
CHIP = Chip(processors=132, clock=1.755e9, bytes_per_second=4.3e12)


def test_floors_at_the_reference_size() -> None:
    """86.4 and 61.7 MB, weights float32 in both; 192,800 rows of 249 instructions, four a clock and processor."""
    assert REFERENCE.rows == 5 * 4820 * 8
    assert REFERENCE.traffic(torch.float32)["forward"] == pytest.approx(86.4e6, rel=0.01)
    assert REFERENCE.traffic(torch.bfloat16)["forward"] == pytest.approx(61.7e6, rel=0.01)
    floors = CHIP.floors(REFERENCE, "forward", torch.float32)
    assert floors["memory"] == pytest.approx(0.0201, rel=0.01)
    assert floors["issue"] == pytest.approx(192800 * 249 / (4 * 132 * 1.755e6), rel=1e-6)


@pytest.mark.parametrize("case", [c for c in CASES if c.frames < 36], ids=lambda c: c.name)
def test_cases_are_what_the_operator_takes(case: object) -> None:
    x = draw(case, torch.bfloat16, CPU)  # type: ignore[arg-type]
    assert x.loc.dtype == x.attn.dtype == torch.float32 and x.value.dtype == x.grad_out.dtype == torch.bfloat16
    assert x.attn.sum((-1, -2)).allclose(torch.ones(()))
    inside = ((x.loc > 0) & (x.loc < 1)).all(-1).float().mean()
    assert inside > 0.5, "points lie near their pixels"


def test_checks_hold_without_a_gpu_and_find_a_wrong_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = ops_correctness.Bench(CPU, ("pytorch",))
    results = ops_correctness.run_checks(bench)
    assert len(results) == 5 and all(line["ok"] for line in results), results
    right = ops_correctness.forward
    monkeypatch.setattr(ops_correctness, "forward", lambda x: right(x) * 1.001)
    results = ops_correctness.run_checks(bench)
    assert not results[0]["ok"] and "out is 1.00e-03 from float64" in results[0]["error"]


def test_table_and_goals() -> None:
    with use_backend("pytorch"):
        rows = ops_measure.table_rows(CPU, CHIP, None, time.monotonic() + 1000, (TINY,))
        assert [(row["value"], row["points"]) for row in rows][:2] == [("float32", "encoder"), ("bfloat16", "encoder")]
        assert len(rows) == 6 and all(row["forward ms"] > 0 and row["backward GB/s"] > 0 for row in rows)
        assert ops_measure.table_rows(CPU, CHIP, None, time.monotonic() - 1, (TINY,)) == []
    found = {f"classic {d} torch.float32": 0.4 for d in ("forward", "backward")}
    found |= {f"native {d} {t}": 0.1 for d in ("forward", "backward") for t in ("torch.float32", "torch.bfloat16")}
    goals = ops_measure.goals(found, CHIP)
    assert [row["reached"] for row in goals] == [True, True, True, True, False, False, False, False, False]
    assert goals[0]["got"] == pytest.approx(4) and goals[4]["got"] is None
    assert goals[7]["got"] == pytest.approx(0.518, rel=0.01)


def test_without_a_gpu_it_says_how_to_try(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ops_check.main([]) == 2
    assert "--dry-run" in capsys.readouterr().err


@pytest.mark.slow
def test_dry_run(tmp_path: Path) -> None:
    try:
        tools.find_cuda()
    except tools.BuildError as error:
        pytest.skip(f"needs nvcc: {error}")
    environment = {**os.environ, "PYTHON": sys.executable}
    command = [str(ROOT / "scripts/gpu/ops.sh"), "--dry-run", "--out", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "7 profiler" in run.stdout and not any(tmp_path.iterdir())
