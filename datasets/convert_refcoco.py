"""RefCOCO/+/g's releases, a pickle of references beside COCO's annotations, made into JSON with one image per sentence.

    SOURCE/SET/refs(unc).p      references; refs(umd).p for refcocog
    SOURCE/SET/instances.json   COCO's annotations

The pickle is the only one of a data set that is read, and nothing but lists, mappings, texts and numbers out of it: a
pickle that names a function or a class is refused.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import tree
from datasets.refcoco import IMAGES, SETS, annotation_path
from util.errors import InputError

REFERENCES = {"refcoco": "refs(unc).p", "refcoco+": "refs(unc).p", "refcocog": "refs(umd).p"}

_Plain = dict[str, Any]


class _PlainUnpickler(pickle.Unpickler):
    """Reads data and nothing that could run."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not plain data")


def convert_refcoco(source: Path, out: Path, say: Callable[[str], None] = print) -> None:
    """Write OUT/SET/instances_SET_SPLIT.json for every set and split that `source` holds; what is there is kept.

    Images, annotations and their ids are in the order of ReferFormer's converter. `out` may be `source`. Raises
    InputError for a release that is missing, malformed or unsafe.
    """
    found = [name for name in SETS if (source / name / REFERENCES[name]).is_file()]
    if not found:
        raise InputError(f"{source} holds no {SETS[0]}/{REFERENCES[SETS[0]]} nor another set; unpack a release there")
    for name in found:
        _convert_set(source, out, name, say)
    images, linked = source / IMAGES, out / IMAGES
    if not linked.exists() and images.is_dir():
        linked.symlink_to(images.resolve(), target_is_directory=True)
        say(f"linked {linked} to {images}")
    elif not linked.exists():
        say(f"put COCO's images into {linked}, where the reader looks for them")


def _convert_set(source: Path, out: Path, name: str, say: Callable[[str], None]) -> None:
    path = source / name / REFERENCES[name]
    by_split: dict[str, list[_Plain]] = {}
    for reference in _read_references(path):
        by_split.setdefault(reference["split"], []).append(reference)
    written = {split: annotation_path(out, f"{name}/{split}") for split in by_split}
    if all(target.exists() for target in written.values()):
        say(f"{name}: {', '.join(by_split)} are in {out / name} already")
        return
    instances = source / name / "instances.json"
    coco = tree.read_json(instances, "COCO's annotations")
    images, annotations = (_by_id(coco, key, instances) for key in ("images", "annotations"))
    for split, references in by_split.items():
        if written[split].exists():
            continue
        content: dict[str, Any] = {key: coco.get(key, []) for key in ("info", "licenses", "categories")}
        content |= {"images": [], "annotations": []}
        for reference in references:
            _add(content, reference, images, annotations, name, path)
        tree.write_text(written[split], json.dumps(content))
        count = len(content["images"])
        say(f"{name}/{split}: read {len(references)} objects with {count} sentences, wrote {written[split]}")


def _read_references(path: Path) -> list[_Plain]:
    """The references of a release, each with the fields that are used here."""
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file, encoding="utf-8", errors="replace").load()
    except (OSError, MemoryError, RecursionError, OverflowError, EOFError, LookupError, TypeError, ValueError,
            AttributeError, ImportError, pickle.UnpicklingError) as error:  # fmt: skip
        raise InputError(f"cannot read {path}: {error}; download it again") from error
    for number, reference in enumerate(content if isinstance(content, list) else [None]):
        try:
            whole = isinstance(reference["split"], str) and isinstance(reference["sentences"], list)
            ids = {isinstance(reference[key], int) and abs(reference[key]) < 2**53 for key in ("ann_id", "image_id")}
            texts = {isinstance(sentence["sent"], str) for sentence in reference["sentences"]}
        except (TypeError, KeyError, IndexError):
            whole, ids, texts = False, set(), set()
        if not whole or False in ids | texts:
            raise InputError(f"{path}: reference {number} has no split, ids or sentences; download it again")
    return content


def _by_id(content: Any, key: str, path: Path) -> dict[int, _Plain]:
    try:
        return {entry["id"]: entry for entry in content[key]}
    except (TypeError, KeyError):
        raise InputError(f'{path} has no list of "{key}" with ids; download it again') from None


def _add(
    content: _Plain, reference: _Plain, images: dict[int, _Plain], annotations: dict[int, _Plain], name: str, path: Path
) -> None:
    """Append an image and an annotation for each sentence of a reference."""
    try:
        image, annotation = images[reference["image_id"]], annotations[reference["ann_id"]]
        pictured = {key: image[key] for key in ("file_name", "height", "width")} | {"original_id": image["id"]}
        marked = {key: annotation[key] for key in ("segmentation", "area", "iscrowd", "bbox", "category_id")}
    except KeyError as error:
        raise InputError(
            f"{path}: annotation {reference['ann_id']} of image {reference['image_id']} has no {error} in "
            "instances.json; download both again"
        ) from None
    for sentence in reference["sentences"]:
        number = len(content["images"]) + 1
        content["images"].append(pictured | {"id": number, "caption": sentence["sent"], "dataset_name": name})
        content["annotations"].append(marked | {"image_id": number, "id": number, "original_id": annotation["id"]})
