"""A training batch on disk, so that the step it broke can be run again: safetensors for tensors, JSON for words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from util.types import ClipBatch, Targets


def save_batches(folder: Path, batches: Sequence[ClipBatch], **facts: object) -> Path:
    """Write batch_0.safetensors, ... and batches.json (captions, identities and `facts`) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, batch in enumerate(batches):
        tensors = {name: getattr(batch, name) for name in _TENSORS} | vars(batch.targets)
        save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, folder / f"batch_{index}.safetensors")
    words = [{"captions": batch.captions, "identity": batch.identity} for batch in batches]
    (folder / "batches.json").write_text(json.dumps({"batches": words, **facts}, indent=1), encoding="utf-8")
    return folder


def load_batches(folder: Path) -> list[ClipBatch]:
    """The batches `save_batches` wrote, on the CPU."""
    words = json.loads((folder / "batches.json").read_text(encoding="utf-8"))["batches"]
    batches = []
    for index, said in enumerate(words):
        tensors = load_file(folder / f"batch_{index}.safetensors")
        own = {name: tensors.pop(name) for name in _TENSORS}
        batches.append(
            ClipBatch(**own, captions=said["captions"], targets=Targets(**tensors), identity=said["identity"])
        )
    return batches


_TENSORS = ("frames_BTCHW", "sizes_B2", "times_BT")
