"""Training batches on disk, so that the step they broke can be run again: safetensors for tensors, JSON for words."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from util.distributed import World
from util.errors import InputError
from util.types import ClipBatch, Targets


def save_repro(
    folder: Path, batches: Sequence[ClipBatch], tensors: Mapping[str, Mapping[str, Tensor]], **facts: object
) -> Path:
    """Write batch_0.safetensors, ..., a file for each of `tensors`, and batches.json into `folder`.

    The last holds captions, identities and `facts`. A batch's neighbours are in its file too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for index, batch in enumerate(batches):
        beside = {} if batch.neighbours is None else _tensors(batch.neighbours)
        content = _tensors(batch) | {_BESIDE + name: tensor for name, tensor in beside.items()}
        _write(folder / f"batch_{index}.safetensors", content)
    for stem, named in tensors.items():
        _write(folder / f"{stem}.safetensors", named)
    words = [{"captions": batch.captions, "identity": batch.identity} for batch in batches]
    (folder / "batches.json").write_text(json.dumps({"batches": words, **facts}, indent=1), encoding="utf-8")
    return folder


def stop_unless_finite(
    parts: Sequence[tuple[ClipBatch, float]],
    gradient_norm: float,
    world: World,
    *,
    folder: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Raise InputError on every rank when a loss of any rank, or the gradient they share, is not finite.

    `parts` are this rank's micro-batches and their losses. The ranks whose loss is to blame save those batches with
    `tensors` (all ranks save all of theirs where none is: gradients mix everybody's) below `folder`.
    """
    suspects = [(batch, loss) for batch, loss in parts if not math.isfinite(loss)]
    blamed, broken = world.sum([bool(suspects), not math.isfinite(gradient_norm)])
    if not blamed and not broken:
        return
    if blamed and not suspects:
        raise InputError("the loss of another rank is not finite; that rank has saved its batch")
    chosen = suspects or parts
    place = save_repro(
        folder / f"rank_{world.rank}",
        [batch for batch, _ in chosen],
        tensors,
        losses=[str(loss) for _, loss in chosen],
        gradient_norm=str(gradient_norm),
    )
    raise InputError(
        f"the loss or its gradient is not finite (losses {[loss for _, loss in chosen]}, gradient {gradient_norm}). "
        f"Batch: {'; '.join(line for batch, _ in chosen for line in batch.identity)}. It is saved with the weights and "
        f"generator states in {place}. Look at these clips, or lower optim.lr, lengthen optim.warmup_steps or set amp "
        "false; the same command goes on from the last checkpoint"
    )


def load_batches(folder: Path) -> list[ClipBatch]:
    """The batches that `save_repro` wrote, on the CPU."""
    words = json.loads((folder / "batches.json").read_text(encoding="utf-8"))["batches"]
    batches = []
    for index, said in enumerate(words):
        tensors = load_file(folder / f"batch_{index}.safetensors")
        beside = {name: tensors.pop(name) for name in list(tensors) if name.startswith(_BESIDE)}
        neighbours = {name.removeprefix(_BESIDE): tensor for name, tensor in beside.items()}
        batch = _batch(tensors, said)
        batches.append(replace(batch, neighbours=_batch(neighbours, said)) if neighbours else batch)
    return batches


_FIELDS = ("frames_BTCHW", "sizes_B2", "times_BT")
_BESIDE = "neighbours."


def _tensors(batch: ClipBatch) -> dict[str, Tensor]:
    return {**{name: getattr(batch, name) for name in _FIELDS}, **vars(batch.targets)}


def _batch(tensors: dict[str, Tensor], said: Mapping[str, Any]) -> ClipBatch:
    frames, sizes, times = (tensors.pop(name) for name in _FIELDS)
    return ClipBatch(frames, sizes, times, said["captions"], Targets(**tensors), said["identity"])


def _write(path: Path, named: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}, path)
