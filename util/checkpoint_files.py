"""Training checkpoints on disk: a folder of safetensors and JSON that is either whole or not there.

    OUTPUT/step_0001000/   *.safetensors, state.json
    OUTPUT/last, best      {"folder": "step_0001000", ...}: small JSON pointer files

A checkpoint is written into `step_0001000.tmp`, flushed to the disk and renamed; then the pointer is replaced. A
process that dies at any point leaves the previous checkpoint and at most a `.tmp` folder, which the next run removes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from util.atomic import FULL, flush, swap_folder
from util.errors import InputError

STATE = "state.json"


def write_checkpoint(
    root: Path,
    step: int,
    tensors: dict[str, dict[str, Tensor]],
    state: dict[str, Any],
    *,
    keep: int = 2,
    best: bool = False,
) -> Path:
    """Write `tensors` (file stem -> name -> tensor) and `state` as `root/step_0000500`; point `last` (`best`) at it.

    Afterwards the newest `keep` checkpoints and those of `last` and `best` remain. Raises InputError where the disk is
    full or not writable; the earlier checkpoints are then untouched.
    """
    final = root / f"step_{step:07d}"
    unfinished = final.with_suffix(".tmp")
    try:
        root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for stem, named in tensors.items():
            _write_tensors(unfinished / f"{stem}.safetensors", named)
        _write_text(unfinished / STATE, json.dumps({"step": step, **state}))
        swap_folder(unfinished, final)
        for name in ("last", "best")[: 1 + best]:
            point(root, name, final, step=step)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise InputError(_explain(error, final)) from error
    _prune(root, keep)
    return final


def read_checkpoint(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """What `write_checkpoint` was given: tensors by file stem, and the state with its "step".

    Raises InputError for a folder that is not a whole checkpoint.
    """
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        tensors = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder} is not a readable checkpoint: {error}; give another one with --resume") from error
    return tensors, state


def last_checkpoint(root: Path) -> Path | None:
    """The checkpoint `last` points at, else the one of the highest step; None where there is none."""
    pointed = pointed_at(root, "last")
    return pointed or max(_finished(root), default=None)


def pointed_at(root: Path, name: str) -> Path | None:
    """The folder the pointer file `name` ("last" or "best") names, where both exist."""
    try:
        folder = root / Path(json.loads((root / name).read_text(encoding="utf-8"))["folder"]).name
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return folder if (folder / STATE).exists() else None


def point(root: Path, name: str, folder: Path, **facts: float | int | str) -> None:
    """Make the pointer file `root/name` name `folder`, in one atomic step."""
    unfinished = root / f".{name}.tmp"
    _write_text(unfinished, json.dumps({"folder": folder.name, **facts}))
    unfinished.replace(root / name)
    flush(root)


def remove_unfinished(root: Path) -> None:
    """Delete what a killed process left half-written."""
    for path in (*root.glob("step_*.tmp"), *root.glob(".step_*.stale")):
        shutil.rmtree(path, ignore_errors=True)


def _finished(root: Path) -> list[Path]:
    return sorted(p for p in root.glob("step_*") if p.suffix != ".tmp" and (p / STATE).exists())


def _prune(root: Path, keep: int) -> None:
    pinned = {pointed_at(root, "last"), pointed_at(root, "best")}
    finished = _finished(root)
    for folder in finished[: max(len(finished) - keep, 0)]:
        if folder not in pinned:
            shutil.rmtree(folder, ignore_errors=True)


def _write_tensors(path: Path, named: dict[str, Tensor]) -> None:
    save_file({name: tensor.detach().contiguous() for name, tensor in named.items()}, path)
    flush(path)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    flush(path)


def _explain(error: Exception, final: Path) -> str:
    # safetensors reports the system's error number only in its text
    if getattr(error, "errno", None) in FULL or any(f"os error {number}" in str(error) for number in FULL):
        return (
            f"no space left on the disk for the checkpoint {final}; earlier checkpoints are intact. Free some space "
            "(or lower keep_checkpoints) and run the same command again to go on from the last one"
        )
    return f"cannot write the checkpoint {final}: {error}; earlier checkpoints are intact"
