"""`main.py experiments`: train and evaluate the grid of `scripts/evidence/rows.py`, and write docs/evidence.md from it.

`run` does what is missing, can be stopped at any time, and leaves a small JSON file for every finished row and seed;
`report` makes tables and pictures from those files alone.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from util.errors import InputError
from util.report import table

if TYPE_CHECKING:
    from scripts.evidence.grid import Grid

HELP = "train and evaluate the grid of experiments, and report it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    listed = actions.add_parser("list", help="the grid: what is done, what is missing")
    run_ = actions.add_parser("run", help="train and evaluate what is missing")
    motion = actions.add_parser("motion", help="can movements be learned at all? curves of four variants")
    report = actions.add_parser("report", help="tables and pictures from finished runs; needs no network")
    for action in (listed, run_):
        action.add_argument("rows", nargs="*", metavar="ROW", help="rows of the grid (default: all)")
        action.add_argument(
            "--config", type=Path, default=Path("configs/ablation.yaml"), help="all trainings' settings"
        )
        action.add_argument("--seeds", type=int, nargs="+", help="default: 0 up to the number that the row asks for")
        action.add_argument("--videos", type=int, default=12, help="held-out videos of each split")
        action.add_argument("--out", type=Path, default=Path("output/experiments"), help="folder for trainings")
    motion.add_argument("variants", nargs="*", metavar="VARIANT", help="of the network (default: all)")
    motion.add_argument("--config", type=Path, default=Path("configs/ablation.yaml"), help="whose network is taken")
    motion.add_argument("--steps", type=int, default=500, help="of each training")
    motion.add_argument("--out", type=Path, default=Path("output/experiments"), help="folder for tokenizers")
    for action in (listed, run_, motion, report):
        action.add_argument(
            "--results", type=Path, default=Path("docs/evidence/results"), help="folder of what is done"
        )
    run_.add_argument("--minutes", type=float, default=math.inf, help="stop in time; the same command goes on")
    run_.add_argument("--processes", type=int, help="that train, and that evaluate (default: 2 on a CPU, 1 on a GPU)")
    run_.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    report.add_argument("--document", type=Path, default=Path("docs/evidence.md"), help="whose tables are written anew")


def run(options: argparse.Namespace) -> int:
    """Exit status 0, also of a run that stopped for --minutes, which says so. Raises InputError."""
    from scripts.evidence.results import Results

    results = Results(options.results)
    if options.action == "report":
        from scripts.evidence.report import write_report

        print("wrote " + ", ".join(map(str, write_report(results, options.document))))
        return 0
    if options.action == "motion":
        from scripts.evidence.movements import curves

        curves(options.config, options.variants, options.steps, results, options.out / "motion")
        return 0
    from scripts.evidence.grid import Grid

    grid = Grid(options.config, options.out, results, options.videos)
    if options.action == "list":
        print(table(grid.overview(options.rows, options.seeds)))
        return 0
    return _run(options, grid)


def _run(options: argparse.Namespace, grid: Grid) -> int:
    import torch

    from scripts.evidence.sitting import Sitting
    from util.distributed import join_world

    device = join_world(options.device).device
    processes = options.processes or (1 if device.type == "cuda" else min(2, os.cpu_count() or 1))
    if processes < 1 or options.minutes <= 0:
        raise InputError("--processes must be 1 or more, and --minutes above 0")
    if device.type == "cpu":
        torch.set_num_threads(1)  # evaluation forks: the processes share the cores
        torch.set_flush_denormal(True)
    sitting = Sitting(grid, processes, device, time.monotonic() + 60 * options.minutes)
    if sitting.work_off(grid.missing(options.rows, options.seeds)):
        print("all of it is done; `main.py experiments report` writes the tables")
    else:
        print(f"{options.minutes:g} minutes are over; the same command goes on")
    return 0
