"""The learning curves of `pointing.py`, one small result for each variant, skipped where it is there already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from engine import TrainConfig
from scripts.evidence.pointing import VARIANTS, Schedule, learning_curve
from scripts.evidence.results import Results
from scripts.evidence.training import hash_of
from util.config import load_config, to_dict
from util.errors import InputError
from util.report import provenance


def curves(config: Path, variants: Sequence[str], steps: int, results: Results, folder: Path) -> None:
    """Train what is missing of the variants (all when none is named), on the CPU, one after the other.

    Raises InputError for an unknown variant, fewer than one step, and what training raises.
    """
    unknown = [name for name in variants if name not in VARIANTS]
    if unknown or steps < 1:
        raise InputError(
            f"no variant is called {', '.join(unknown)}; there are {', '.join(VARIANTS)}" if unknown
            else f"{steps} steps train nothing; give at least 1"
        )  # fmt: skip
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    base = load_config(TrainConfig, config)
    schedule = Schedule(steps=steps)
    key = hash_of([to_dict(base.model), asdict(schedule)])
    kept = results.movements
    for variant in variants or VARIANTS:
        if kept.state(variant, base.seed, key) == "done":
            print(f"{variant}: done")
            continue
        found = learning_curve(
            replace(base, device="cpu"), variant, schedule, folder, lambda line: print(line, flush=True)
        )
        about = {"key": key, "config": config.as_posix(), **found, **provenance(torch.device("cpu"))}
        print(f"wrote {kept.write(variant, base.seed, about)}")
