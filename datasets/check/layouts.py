"""What only a look at a layout's files side by side shows: files nobody lists, parts that contradict each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from datasets import tree
from datasets.check.findings import Finding, fault, note, some
from datasets.check.frame_sets import compare_a2d, compare_jhmdb, compare_refcoco
from datasets.check.listing import readable, unlisted, unlisted_frames
from datasets.mevis import RunLengthMasks
from datasets.ref_youtube_vos import LabelMasks, sentences_path
from util.errors import InputError
from util.types import ReferringVideo

VALID_VIDEOS = 202  # of Ref-YouTube-VOS: 507 less the 305 of test
ANNOTATION_SETS = 4  # of Ref-DAVIS17, with a sentence of each object
PROPOSALS = 20  # objects that the unsupervised DAVIS evaluator takes at most


def compare_parts(kind: str, root: Path, split: str, videos: Sequence[ReferringVideo]) -> list[Finding]:
    """Findings of one split of a layout, beside those of its single videos; all are notes, as they hinder no reader."""
    found = []
    try:
        for finding in _COMPARE[kind](root, split, videos) if kind in _COMPARE else ():
            found.append(finding)
    except InputError as error:  # of a file that the reader does without
        found.append(replace(fault(error), fault=False))
    return found


# ---- layouts of label images -----------------------------------------------------------------------------------------


def _ref_youtube_vos(root: Path, split: str, videos: Sequence[ReferringVideo]) -> Iterator[Finding]:
    entries = tree.read_videos(sentences_path(root, split))
    for folder, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".png")):
        yield from unlisted(root / split / folder, entries, "videos")
        yield from unlisted_frames(root / split / folder, suffix, videos)
    yield from _mixed_ids(entries, "obj_id", sentences_path(root, split))
    if split == "valid" and any(video.masks is None for video in readable(videos)):
        test = sentences_path(root, "test")
        if not test.is_file():
            text = f"{test} is not there: all {len(videos)} videos of valid are taken; {VALID_VIDEOS} are scored"
            yield note("missing", text)
        elif len(videos) != VALID_VIDEOS:
            yield note("inconsistent", f"valid less test leaves {len(videos)} videos, where {VALID_VIDEOS} are scored")
    if split == "train":
        yield from _categories(root / split / "meta.json", videos)


def _categories(path: Path, videos: Sequence[ReferringVideo]) -> Iterator[Finding]:
    """meta.json against the sentences: ReferFormer and its kin look every object up there."""
    if not path.is_file():
        yield note("missing", f"{path} is not there; it is not needed here, but by ReferFormer's own loader")
        return
    listed = tree.read_videos(path)
    for video in readable(videos):
        entry = listed.get(video.id)
        objects = entry.get("objects") if isinstance(entry, dict) else None
        named = {str(i) for expression in video.expressions for i in expression.object_ids or ()}
        if not isinstance(objects, dict):
            yield note("inconsistent", f"{path} has no objects of video {video.id}")
        elif named - set(objects):
            unknown = some(named - set(objects))
            yield note("inconsistent", f"{path}: video {video.id} lacks object {unknown}, of which there are sentences")


def _ref_davis17(root: Path, split: str, videos: Sequence[ReferringVideo]) -> Iterator[Finding]:
    masks = root / "DAVIS/Annotations_unsupervised/480p"
    fewer = set()
    for video in readable(videos):
        # the frames are found by looking into their folder
        yield from unlisted(masks / video.id, (f"{name}.png" for name in video.frame_names), "masks")
        ids = {i for expression in video.expressions for i in expression.object_ids or ()}
        if not isinstance(video.masks, LabelMasks) or not ids:
            continue
        if len(video.expressions) != ANNOTATION_SETS * len(ids):
            fewer.add(video.id)
        if max(ids) > PROPOSALS:
            yield note("inconsistent", f"video {video.id} has object {max(ids)}; the DAVIS evaluator takes {PROPOSALS}")
        try:
            first = tree.read_labels(video.masks.path(0), video.frames.size)
        except InputError:
            continue
        counted = max(set(first.ravel().tolist()) - {255}, default=0)
        late = [str(i) for i in ids if i > counted]
        if late:
            text = (
                f"{video.masks.path(0)} lacks object {some(late)}: the DAVIS evaluator counts objects in first frames"
            )
            yield note("inconsistent", f"{text}, and leaves that one out")
    if fewer:
        texts = root / "davis_text_annotations"
        yield note("inconsistent", f"{texts}: objects of {some(fewer)} lack sentences in some of the annotation sets")


# ---- layouts of run lengths ------------------------------------------------------------------------------------------


def _mevis(root: Path, split: str, videos: Sequence[ReferringVideo]) -> Iterator[Finding]:
    folder = root / split
    path = folder / "meta_expressions.json"
    entries = tree.read_videos(path)
    yield from unlisted(folder / "JPEGImages", entries, "videos")
    yield from unlisted_frames(folder / "JPEGImages", ".jpg", videos)
    yield from unlisted(folder, _MEVIS_PARTS, "files or folders")
    yield from _mixed_ids(entries, "anno_id", path)
    users: dict[int, str] = {}
    for video in readable(videos):
        for expression in video.expressions:
            entry = entries[video.id]["expressions"][expression.id]
            pair = [entry.get("obj_id"), entry.get("anno_id")]
            if all(isinstance(ids, list) for ids in pair) and len(pair[0]) != len(pair[1]):
                counts = f"{len(pair[0])} obj_id and {len(pair[1])} anno_id"
                yield note("inconsistent", f"{path}: video {video.id}, expression {expression.id} has {counts}")
            for i in expression.object_ids or ():
                if users.setdefault(i, video.id) != video.id:
                    yield note("inconsistent", f"{path}: videos {users[i]} and {video.id} share annotation {i}")
    masks = next((v.masks for v in readable(videos) if isinstance(v.masks, RunLengthMasks)), None)
    if users and masks is not None:
        unused = set(masks.annotations.content) - {str(i) for i in users}
        if unused:
            text = f"{masks.annotations.path} holds annotations that no sentence names ({len(unused)}): {some(unused)}"
            yield note("unlisted", text)


_MEVIS_PARTS = (
    "JPEGImages", "meta_expressions.json", "mask_dict.json",
    "frame_state.json", "quality.jsonl", "rejected.jsonl", "parquet",
)  # fmt: skip


def _mixed_ids(entries: dict[str, object], key: str, path: Path) -> Iterator[Finding]:
    """A note when ids are text in one place of a file and numbers in another: `"1" == 1` is false in most readers."""
    types: Counter[str] = Counter()
    for entry in entries.values():
        sentences = entry.get("expressions") if isinstance(entry, dict) else None
        for sentence in sentences.values() if isinstance(sentences, dict) else ():
            value = sentence.get(key) if isinstance(sentence, dict) else None
            types.update(type(one).__name__ for one in (value if isinstance(value, list) else [value]))
    if types["str"] and types["int"]:
        text = f"{path}: {types['str']} {key} are text and {types['int']} are numbers; both are read as numbers"
        yield note("inconsistent", text)


_COMPARE: dict[str, Callable[[Path, str, Sequence[ReferringVideo]], Iterator[Finding]]] = {
    "ref_youtube_vos": _ref_youtube_vos,
    "ref_davis17": _ref_davis17,
    "mevis": _mevis,
    "masklets": _mevis,
    "a2d": compare_a2d,
    "jhmdb": compare_jhmdb,
    "refcoco": compare_refcoco,
}
