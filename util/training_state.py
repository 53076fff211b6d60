"""Training checkpoints on disk: a folder of safetensors and JSON that is either whole or not there.

    OUTPUT/step_0001000/   *.safetensors, state.json
    OUTPUT/last, best      {"folder": "step_0001000", ...}: small JSON pointer files

A checkpoint is written into `step_0001000.tmp`, flushed to the disk and renamed; then the pointer is replaced. A
process that dies at any point leaves the previous checkpoint and at most a `.tmp` folder, which the next run removes.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from util.errors import InputError

STATE = "state.json"


def write_checkpoint(
    root: Path, step: int, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any], *, keep: int = 2
) -> Path:
    """Write `tensors` (file stem -> name -> tensor) and `state` as `root/step_XXXXXXX`, and point `last` at it.

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
        _flush(unfinished)
        _replace_folder(unfinished, final)
        point(root, "last", final, step=step)
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
    _flush(root)


def remove_unfinished(root: Path) -> None:
    """Delete what a killed process left half-written."""
    for path in root.glob("step_*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The state_dict without aliases: a tensor that two modules share appears once, under its first name."""
    first_name: dict[int, str] = {}
    state = module.state_dict(keep_vars=True)
    for name, tensor in state.items():
        first_name.setdefault(id(tensor), name)
    return {name: state[name].detach() for name in first_name.values()}


def load_named_tensors(module: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Copy `tensors` into the module, in place and strictly. Raises InputError that lists every differing key."""
    own = named_tensors(module)
    missing, unexpected = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    reshaped = sorted(name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape)
    if missing or unexpected or reshaped:
        raise InputError(
            f"{source} is of another network: missing {missing}, unexpected {unexpected}, other shapes {reshaped}; "
            "use the config it was trained with, or another output_dir"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[nn.Parameter, str]) -> dict[str, Tensor]:
    """The optimizer's state as "parameter name/key" -> tensor (for AdamW: step, exp_avg, exp_avg_sq)."""
    return {f"{name}/{key}": value for p, name in names.items() for key, value in optimizer.state.get(p, {}).items()}


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: dict[nn.Parameter, str], tensors: dict[str, Tensor]
) -> None:
    """Give the optimizer the state `optimizer_tensors` took. Raises InputError where a parameter is unknown."""
    parameters = {name: parameter for parameter, name in names.items()}
    for key, tensor in tensors.items():
        name, _, entry = key.rpartition("/")
        if name not in parameters:
            raise InputError(f"the checkpoint's optimizer knows {name}, which this config does not train")
        # AdamW keeps its step count on the CPU and moments beside the parameter
        device = tensor.device if entry == "step" else parameters[name].device
        optimizer.state[parameters[name]][entry] = tensor.to(device)


def random_tensors(device: torch.device) -> dict[str, Tensor]:
    """The states of Python's, numpy's and torch's global generators, and of `device`'s where it is CUDA."""
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    states = {
        "python": torch.tensor([version, *words], dtype=torch.int64),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
        "numpy_position": torch.tensor([position, has_gauss], dtype=torch.int64),
        "numpy_gauss": torch.tensor([cached], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random(states: dict[str, Tensor], device: torch.device) -> None:
    """Put the generators back to where `random_tensors` found them."""
    version, *words = states["python"].tolist()
    gauss = states["python_gauss"].tolist()
    random.setstate((version, tuple(words), gauss[0] if gauss else None))
    position, has_gauss = states["numpy_position"].tolist()
    keys = states["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, position, has_gauss, states["numpy_gauss"].item()))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def _finished(root: Path) -> list[Path]:
    return sorted(p for p in root.glob("step_*") if p.suffix != ".tmp" and (p / STATE).exists())


def _prune(root: Path, keep: int) -> None:
    pinned = {pointed_at(root, "last"), pointed_at(root, "best")}
    finished = _finished(root)
    for folder in finished[: max(len(finished) - keep, 0)]:
        if folder not in pinned:
            shutil.rmtree(folder, ignore_errors=True)


def _replace_folder(unfinished: Path, final: Path) -> None:
    """Rename; a checkpoint of the same step, left from before a resume at an earlier one, makes room."""
    if final.exists():
        stale = final.with_suffix(".stale.tmp")
        shutil.rmtree(stale, ignore_errors=True)
        final.rename(stale)
        unfinished.rename(final)
        shutil.rmtree(stale, ignore_errors=True)
    else:
        unfinished.rename(final)
    _flush(final.parent)


def _write_tensors(path: Path, named: dict[str, Tensor]) -> None:
    save_file({name: tensor.detach().contiguous() for name, tensor in named.items()}, path)
    _flush(path)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _flush(path)


def _flush(path: Path) -> None:
    """Wait until the file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _explain(error: Exception, final: Path) -> str:
    # safetensors reports the system's error number only in its text
    full = {errno.ENOSPC, errno.EDQUOT}
    if getattr(error, "errno", None) in full or any(f"os error {number}" in str(error) for number in full):
        return (
            f"no space left on the disk for the checkpoint {final}; earlier checkpoints are intact. Free some space "
            "(or lower keep_checkpoints) and run the same command again to go on from the last one"
        )
    return f"cannot write the checkpoint {final}: {error}; earlier checkpoints are intact"
