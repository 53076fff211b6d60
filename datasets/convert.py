"""`main.py data convert`: official releases that come in parts, assembled once into a tree that readers take.

What is finished in the output folder is not done again, so an interrupted run is repeated with the same command.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datasets import tree
from datasets.ref_davis17 import FPS, read_ref_davis17
from datasets.ref_youtube_vos import sentences_path
from util.errors import InputError
from util.types import ReferringVideo

Say = Callable[[str], None]


def convert(kind: str, source: str | Path, out: str | Path, say: Say = print) -> None:
    """Assemble the release of `kind` that was unpacked in `source`, and `say` what was read and written.

    Raises InputError for a kind that needs no assembling, and for a release that is incomplete or malformed.
    """
    source, out = Path(source), Path(out)
    if kind == "ref_davis17":
        convert_ref_davis17(source, out, say)
    elif kind == "refcoco":
        from datasets.convert_refcoco import convert_refcoco

        convert_refcoco(source, out, say)
    elif kind in ("a2d", "jhmdb"):
        from datasets import convert_a2d

        (convert_a2d.convert_a2d if kind == "a2d" else convert_a2d.convert_jhmdb)(source, out, say)
    else:
        raise InputError(f"{kind} needs no assembling: its official layout is read as it is")


def convert_ref_davis17(source: Path, out: Path, say: Say = print) -> None:
    """Ref-DAVIS17's texts, frames and masks as one tree in Ref-YouTube-VOS layout, which that family of programs takes.

    `datasets/ref_davis17.py` reads the release itself, so nothing here needs this tree. Files are copied, never moved;
    `val` is called `valid`. Raises InputError as the reader does, and when no split is there.
    """
    if source.resolve() == out.resolve():
        raise InputError(f"{out} is the release itself; give another folder for the assembled tree")
    lists = source / "DAVIS/ImageSets/2017"
    splits = [split for split in ("train", "val") if (lists / f"{split}.txt").is_file()]
    if not splits:
        raise InputError(f"{lists} holds neither train.txt nor val.txt; unpack DAVIS-2017-Unsupervised-trainval-480p")
    categories = _categories(source / "DAVIS/davis_semantics.json")
    for split in splits:
        name = "valid" if split == "val" else split
        videos, sentences = read_ref_davis17(source, split), sentences_path(out, name)
        if sentences.exists():
            say(f"{split}: {sentences} is there already")
            continue
        listed: dict[str, Any] = {}
        objects: dict[str, Any] = {}
        for video in tqdm(videos, desc=split, unit="video", disable=None):
            _copy(source, out / name, video)
            expressions = {e.id: {"exp": e.text, "obj_id": str((e.object_ids or (0,))[0])} for e in video.expressions}
            listed[video.id] = {"expressions": expressions, "frames": list(video.frame_names), "fps": FPS}
            ids = sorted({expression["obj_id"] for expression in expressions.values()})
            named = categories.get(video.id, {})
            objects[video.id] = {"objects": {i: {"category": named.get(i, "object")} for i in ids}}
        tree.write_json(out / name / "meta.json", {"videos": objects})
        tree.write_json(sentences, {"videos": listed})
        count = sum(len(entry["expressions"]) for entry in listed.values())
        say(f"{split}: read {len(listed)} videos with {count} sentences from {source}, wrote {out / name}")


def _categories(path: Path) -> dict[str, dict[str, str]]:
    """What DAVIS calls each object of each video, where its file of categories was unpacked too."""
    if not path.exists():
        return {}
    content = tree.read_json(path, "the categories (davis_semantics.json)")
    if not isinstance(content, dict) or not all(isinstance(named, dict) for named in content.values()):
        raise InputError(f"{path} is not a mapping of videos to categories; download it again")
    return content


def _copy(source: Path, out: Path, video: ReferringVideo) -> None:
    """The frames and masks of a video; a file that is there in its full size is not copied again."""
    for folder, official, suffix in (
        ("JPEGImages", "JPEGImages", "jpg"),
        ("Annotations", "Annotations_unsupervised", "png"),
    ):
        (out / folder / video.id).mkdir(parents=True, exist_ok=True)
        for name in video.frame_names:
            path = source / "DAVIS" / official / "480p" / video.id / f"{name}.{suffix}"
            copied = out / folder / video.id / path.name
            if not path.is_file():
                raise InputError(f"missing {path}; unpack DAVIS-2017-Unsupervised-trainval-480p.zip again")
            if not copied.exists() or copied.stat().st_size != path.stat().st_size:
                shutil.copyfile(path, copied)
