"""What must agree in a tree of masklets beside what its reader asks for: numbers, rows of quality, licences."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import tree
from datasets.check.findings import Finding, note, some
from datasets.check.listing import readable
from util import rle
from util.errors import InputError
from util.types import ReferringVideo

AGAIN = "make the masklets again"
SAME = 1e-6  # weights are written with six digits


def compare_masklets(root: Path, split: str, videos: Sequence[ReferringVideo]) -> Iterator[Finding]:
    """Everything that contradicts itself between dataset.json, the sentences, the masks and quality.jsonl."""
    folder = root / split
    entries = tree.read_videos(folder / "meta_expressions.json")
    masks = tree.read_json(folder / "mask_dict.json", "the masks (mask_dict.json)")
    yield from _description(root / "dataset.json", split, entries, len(masks))
    yield from _sizes(folder / "meta_expressions.json", entries, videos)
    yield from _numbers(folder / "mask_dict.json", masks)
    if (folder / "quality.jsonl").exists():
        yield from _rows(folder / "quality.jsonl", entries)


def _description(path: Path, split: str, entries: dict[str, Any], masklets: int) -> Iterator[Finding]:
    described = tree.read_json(path, "the description of the masklets (dataset.json)")
    if not isinstance(described.get("licence_tags"), list):
        yield _wrong(f"{path} has no licence_tags, so that nobody can tell what may be done with it; {AGAIN}")
    for model in described.get("models", ()):
        if not isinstance(model, dict) or not model.get("licence"):
            yield _wrong(f"{path}: a model states no licence ({model}); {AGAIN}")
    sentences = sum(len(entry.get("expressions", ())) for entry in entries.values())
    true = {"videos": len(entries), "expressions": sentences, "masklets": masklets}
    counted = described.get("counts", {}).get(split)
    if counted != true:
        yield _wrong(f"{path} counts {counted} in {split}, but there are {true}; {AGAIN}")


def _sizes(path: Path, entries: dict[str, Any], videos: Sequence[ReferringVideo]) -> Iterator[Finding]:
    for video in readable(videos):
        try:
            size = list(video.frames.size)
        except InputError:
            continue  # which reading the frames has found
        if entries[video.id].get("size") != size:
            said = entries[video.id].get("size")
            yield Finding("mis-sized", f"{path}: video {video.id} has the size {said}, but its frames have {size}")


def _numbers(path: Path, masks: dict[str, Any]) -> Iterator[Finding]:
    """Annotation ids follow each other, and an empty mask is null."""
    gaps = set(map(str, range(len(masks)))) - set(masks)
    if gaps:
        yield _wrong(f"{path}: annotations are numbered from 0 without a gap, and lack {some(gaps)}; {AGAIN}")
    for number, runs in masks.items():
        for frame, run in enumerate(runs if isinstance(runs, list) else ()):
            try:
                empty = run is not None and not rle.area(run)
            except InputError:
                continue  # which reading the masks has found
            if empty:
                yield _wrong(f"{path}: annotation {number}, frame {frame} is a mask of nothing; write null")


def _rows(path: Path, entries: dict[str, Any]) -> Iterator[Finding]:
    """Each sentence has one row, and its weight is the same in both."""
    weights: dict[tuple[str, str], Any] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            key = row["video_id"], row["expression_id"]
            weights[key], again = row["weight"], key in weights
        except (ValueError, KeyError, TypeError):
            yield _wrong(f"{path}, line {number}: no row of a sentence; {AGAIN}")
            continue
        if again:
            yield note("inconsistent", f"{path}, line {number}: a second row of {key[0]}/{key[1]}")
    known = {
        (video, key): sentence.get("weight", 1.0)
        for video, entry in entries.items()
        for key, sentence in entry.get("expressions", {}).items()
        if isinstance(sentence, dict)
    }
    for missing in sorted(known.keys() - weights.keys()):
        yield _wrong(f"{path}: there is no row of {missing[0]}/{missing[1]}; {AGAIN}")
    for key in sorted(known.keys() & weights.keys()):
        if not isinstance(weights[key], int | float) or abs(weights[key] - known[key]) > SAME:
            yield _wrong(f"{path}: {key[0]}/{key[1]} weighs {weights[key]} here and {known[key]} there; {AGAIN}")


def _wrong(text: str) -> Finding:
    return Finding("inconsistent", text)
