"""Videos that no data set describes: a folder of video files and folders of frames, with sentences in one JSON file.

ROOT/clip.mp4, ROOT/other/00001.jpg ...   a video each; its id is the name without suffix
SENTENCES                                 {"clip": ["the dog on the left", ...], ...}, or a meta_expressions.json
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from datasets import tree
from datasets.video import IMAGE_SUFFIXES, natural_order, open_video
from util.errors import InputError
from util.types import Expression, ReferringVideo

SENTENCES = "sentences.json"


def read_video_folder(root: str | Path, sentences: str | Path | None = None) -> tree.LazyVideos:
    """The videos under `root` that `sentences` (default: ROOT/sentences.json) speaks of, in the order of their ids.

    Raises InputError where the sentences are missing, malformed, or of a video that is not there.
    """
    root = Path(root)
    path = Path(sentences) if sentences else root / SENTENCES
    paths = videos_in(root)
    told = _read_sentences(path)
    strange = sorted(set(told) - set(paths))
    if strange:
        raise InputError(f"{path} speaks of {', '.join(strange[:5])}, and {root} has no such videos; correct the names")
    return tree.LazyVideos(sorted(told), partial(_video, paths, told))


def videos_in(root: Path) -> dict[str, Path]:
    """Video files and folders of frames by their names. Raises InputError where two have one name, or no folder is."""
    tree.require_folder(root, "the videos")
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir(), key=lambda p: natural_order(p.name)):
        if path.name.startswith(".") or path.suffix in (".json", ".txt", ".md"):
            continue
        if path.is_dir() and not any(p.suffix.lower() in IMAGE_SUFFIXES for p in path.iterdir()):
            continue
        name = path.name if path.is_dir() else path.stem
        if name in found:
            raise InputError(f"{found[name]} and {path} would both be video {name}; rename one")
        found[name] = path
    return found


def _read_sentences(path: Path) -> dict[str, dict[str, str]]:
    """Sentences by their ids, by video."""
    content = tree.read_json(path, 'the sentences, {"video": ["sentence", ...]}')
    videos = content.get("videos", content) if isinstance(content, dict) else None
    if not isinstance(videos, dict) or not videos:
        raise InputError(f'{path} is not a mapping of videos to sentences: {{"video": ["the dog on the left"]}}')
    return {tree.plain_name(video, path): _texts(entry, f"{path}: video {video!r}") for video, entry in videos.items()}


def _texts(entry: Any, where: str) -> dict[str, str]:
    items: dict[str, Any]
    if isinstance(entry, Mapping) and isinstance(entry.get("expressions"), Mapping):
        items = {
            key: value.get("exp") if isinstance(value, dict) else value for key, value in entry["expressions"].items()
        }
    elif isinstance(entry, list):
        items = {str(place): text for place, text in enumerate(entry)}
    else:
        items = {"0": entry}
    for key, text in items.items():
        tree.plain_name(key, Path(where))
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{where}, sentence {key!r} is no text; write it, or leave it out")
    return items


def _video(paths: Mapping[str, Path], told: Mapping[str, Mapping[str, str]], video: str) -> ReferringVideo:
    frames = open_video(paths[video])
    names = tuple(getattr(frames, "names", ()))
    for name in names:
        tree.plain_name(name, paths[video])
    if names != tuple(sorted(names)):  # frame2 before frame10: readers that sort names would mix them up
        names = tuple(f"{index:05d}" for index in range(len(frames)))
    expressions = tuple(Expression(key, text, None) for key, text in told[video].items())
    return ReferringVideo(video, frames, names, expressions)
