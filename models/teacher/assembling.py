"""From finished videos to the data set: written once all workers are done, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from datasets import tree
from models.teacher.masklet_writer import ExportConfig, Provenance, export
from models.teacher.pipeline import Taught, Teacher
from models.teacher.stages import Stopwatch
from models.teacher.workers import video_ids
from util import atomic
from util.config import to_dict
from util.errors import InputError
from util.types import ReferringVideo

DESCRIPTION = "dataset.json"


def run_key(teacher: Teacher, export_config: ExportConfig, provenance: Provenance) -> str:
    """Tells runs apart: models, settings, source, and what is written."""
    models = {role: asdict(model) for role, model in provenance.models.items()}
    told = [teacher.settings, models, to_dict(export_config), provenance.source]
    return atomic.sha256(atomic.canonical(told))


def check_place(root: Path, source: str) -> None:
    """Raises InputError where `root` holds anything but masklets of the same source, which are then replaced."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    description = root / DESCRIPTION
    known = tree.read_json(description, "a description") if description.is_file() else {}
    if known.get("source") != source:
        raise InputError(f"{root} holds something else than masklets of {source}; give another --out")


def assemble(
    teacher: Teacher,
    videos: Sequence[ReferringVideo],
    noted: Mapping[str, Mapping[str, Any]],
    root: Path,
    split: str,
    provenance: Provenance,
    config: ExportConfig,
) -> tree.Written | None:
    """Write the data set from what the stages left; None where it is there already, made of the same answers.

    noted  what became of each video, by id; those that failed are listed in rejected.jsonl. Raises as `export` does.
    """
    ids = sorted(noted)
    keys = {name: noted[name]["key"] for name in ids}
    run = run_key(teacher, config, provenance)
    key = atomic.sha256(atomic.canonical([run, split, provenance.calibration, keys]))
    mark = teacher.work / "export.json"
    if _is_written(mark, key, root):
        return None
    unfinished = root.with_name(f".{root.name}{atomic.PARTIAL}")
    shutil.rmtree(unfinished, ignore_errors=True)
    failed = [
        {"video_id": name, "reason": "error", "detail": noted[name]["error"]["message"]}
        for name in ids
        if noted[name]["status"] == "error"
    ]
    answered = partial(_answers, teacher, videos, noted)
    written = export(answered(), unfinished, split, provenance, config, failed)
    atomic.swap_folder(unfinished, root)
    described = atomic.sha256((root / DESCRIPTION).read_bytes())
    atomic.write_bytes(mark, atomic.canonical({"key": key, "described": described}).encode())
    return tree.Written(root / split, written.videos, written.expressions, written.left_out)


def _answers(
    teacher: Teacher, videos: Sequence[ReferringVideo], noted: Mapping[str, Mapping[str, Any]]
) -> Iterator[Taught]:
    """The videos in the order of their ids, answered from what the stages left."""
    places = {name: place for place, name in enumerate(video_ids(videos))}
    for name in sorted(noted):
        if noted[name]["status"] != "error":
            yield teacher.teach(videos[places[name]], Stopwatch())


def _is_written(mark: Path, key: str, root: Path) -> bool:
    try:
        known = tree.read_json(mark, "what was exported")
        return known == {"key": key, "described": atomic.sha256((root / DESCRIPTION).read_bytes())}
    except (InputError, OSError):
        return False
