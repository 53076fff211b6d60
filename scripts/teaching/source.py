"""The videos of a teaching job: a data set that is known here, or any folder of videos with sentences."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from util.errors import InputError

if TYPE_CHECKING:
    from datasets.tree import LazyVideos


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, metavar="SOURCE",
        help="folder of videos (files or folders of frames) with sentences.json, or of a data set",
    )  # fmt: skip
    parser.add_argument(
        "--sentences", type=Path, metavar="FILE",
        help='JSON of {"video": ["sentence", ...]}, or a meta_expressions.json (default: SOURCE/sentences.json)',
    )  # fmt: skip
    parser.add_argument("--layout", help="which data set it is (default: found out)")
    parser.add_argument("--split", help="of the data set (default: train, or the only one)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N videos")


def open_source(options: argparse.Namespace) -> LazyVideos:
    """The videos, read when they are indexed. Raises InputError where there are none."""
    from datasets import tree

    videos = _read(options)
    if options.limit is not None and options.limit < 1:
        raise InputError(f"--limit {options.limit} leaves no video; give at least 1")
    ids = videos.ids[: options.limit]
    if not ids:
        raise InputError(f"no videos in {options.source}; give a folder that holds some")
    place = {name: number for number, name in enumerate(videos.ids)}
    return tree.LazyVideos(ids, lambda name: videos.video(place[name]))


def _read(options: argparse.Namespace) -> LazyVideos:
    from datasets.video_folder import SENTENCES, read_video_folder

    root = options.source
    if options.layout is None and (options.sentences or (root / SENTENCES).is_file()):
        return read_video_folder(root, options.sentences)
    try:
        return open_data_set(root, options.layout, options.split)
    except InputError as error:
        raise InputError(
            f"{error}; or put the sentences into {root / SENTENCES}: {{'video': ['sentence', ...]}}"
        ) from None


def open_data_set(root: Path, layout: str | None, split: str | None) -> LazyVideos:
    """The videos of a split of a known data set: the one named, else train, else the only one."""
    from datasets.check.detect import detect
    from datasets.sources import LAYOUTS, reader

    if layout is not None and layout not in LAYOUTS:
        raise InputError(f"no layout {layout!r}; there are {', '.join(LAYOUTS)}")
    kind, splits = detect(root, layout, split)
    named = [item for item in splits if item[1] == "train"] or splits
    return reader(kind)(*named[0])
