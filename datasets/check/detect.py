"""Which data set lies in a folder, and which splits of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from datasets.a2d import SUBSETS, VIDEOSET, single_frame_path
from datasets.jhmdb import SAMPLES
from datasets.refcoco import SETS
from util.errors import InputError

Splits = list[tuple[Path, str]]  # (root, split) as the layout's reader takes them

EXPECTED = {
    "ref_youtube_vos": "meta_expressions/SPLIT/meta_expressions.json beside SPLIT/JPEGImages",
    "ref_davis17": "davis_text_annotations/ beside DAVIS/ImageSets/2017",
    "mevis": "SPLIT/meta_expressions.json beside SPLIT/JPEGImages",
    "a2d": "Release/videoset.csv, text_annotations/",
    "jhmdb": "jhmdb_sentences_samples_metadata.json",
    "refcoco": "SET/instances_SET_SPLIT.json, train2014/",
    "masklets": "dataset.json with the schema rvos-masklets/1",
}


def detect(root: Path, kind: str | None = None, split: str | None = None) -> tuple[str, Splits]:
    """The kind of data set at `root`, and the (root, split) of each of its splits, or only of `split`.

    `root` may be the folder of a single split. A given `kind` is taken as it is. Raises InputError when nothing is
    recognised, or the split is not there.
    """
    if root.is_file():
        raise InputError(f"{root} is a file; unpack it, and give the folder")
    if not root.is_dir():
        raise InputError(f"no folder {root}; give the folder of a data set")
    for name in _FINDERS if kind is None else (kind,):
        found = _FINDERS[name](root)
        if found:
            chosen = [item for item in found if split in (None, item[1])]
            if not chosen:
                there = ", ".join(item[1] for item in found)
                raise InputError(f"{root} holds {name} with the splits {there}, and not {split!r}; give one of them")
            return name, chosen
    if kind is not None and split is not None:
        return kind, [(root, split)]  # its reader says what is missing
    looked = "; ".join(f"{name}: {EXPECTED[name]}" for name in (_FINDERS if kind is None else (kind,)))
    raise InputError(f"{root} is no data set that is known here; expected one of: {looked}")


def _split_folders(root: Path, name: str) -> list[str]:
    """Folders directly below `root` that hold a file `name`."""
    return sorted(path.parent.name for path in root.glob(f"*/{name}") if path.is_file())


def _ref_youtube_vos(root: Path) -> Splits:
    splits = [(root, split) for split in _split_folders(root / "meta_expressions", "meta_expressions.json")]
    # the list of `test` also serves to make the validation list shorter, and comes without frames then
    return [(path, split) for path, split in splits if split != "test" or (path / split).is_dir()]


def _ref_davis17(root: Path) -> Splits:
    if not (root / "davis_text_annotations").is_dir():
        return []
    listed = sorted(path.stem for path in (root / "DAVIS/ImageSets/2017").glob("*.txt"))
    return [(root, split) for split in listed if split in ("train", "val")] or [(root, "val")]


def _mevis(root: Path) -> Splits:
    if (root / "meta_expressions.json").is_file():
        named = root if root.name not in ("", "..") else root.resolve()
        return [(named.parent, named.name)]
    return [(root, split) for split in _split_folders(root, "meta_expressions.json") if split != "meta_expressions"]


def _masklets(root: Path) -> Splits:
    try:
        described = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    if not isinstance(described, dict) or not str(described.get("schema", "")).startswith("rvos-masklets/"):
        return []
    return _mevis(root) or [(root, "train")]


def _a2d(root: Path) -> Splits:
    if not (root / "Release").is_dir() and not (root / "text_annotations").is_dir():
        return []
    try:
        subsets = {line.split(",")[-1].strip() for line in (root / VIDEOSET).read_text(encoding="utf-8").splitlines()}
    except (OSError, ValueError):
        subsets = set()  # the reader says what is wrong with the list
    found = [s for s, subset in SUBSETS.items() if subset in subsets or single_frame_path(root, s).is_file()]
    return [(root, split) for split in found or SUBSETS]


def _jhmdb(root: Path) -> Splits:
    return [(root, "test")] if (root / SAMPLES).is_file() else []


def _refcoco(root: Path) -> Splits:
    paths = sorted(path for name in SETS for path in root.glob(f"{name}/instances_{name}_*.json"))
    splits = [f"{path.parent.name}/{path.stem.removeprefix(f'instances_{path.parent.name}_')}" for path in paths]
    if not splits and any((root / name / "instances.json").is_file() for name in SETS):
        raise InputError(
            f"{root} is the release of RefCOCO; assemble it first: main.py data convert refcoco {root} OUT"
        )
    return [(root, split) for split in splits]


_FINDERS: dict[str, Callable[[Path], Splits]] = {  # in the order in which they are tried
    "ref_youtube_vos": _ref_youtube_vos,
    "ref_davis17": _ref_davis17,
    "masklets": _masklets,  # before MeViS, whose tree it extends
    "mevis": _mevis,
    "a2d": _a2d,
    "jhmdb": _jhmdb,
    "refcoco": _refcoco,
}
