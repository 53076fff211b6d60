"""Where videos come from: the synthetic world, or a data set on disk in one of seven layouts.

A layout NAME is one file, `datasets/NAME.py`, with `read_NAME(root, split)` and `write_NAME(videos, root, split)`; it
is imported when it is used. Nothing else in the repository knows how a data set lies on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args

from datasets import tree
from datasets.skipping import GoodVideos
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from util.errors import InputError
from util.types import ReferringVideo

Layout = Literal["ref_youtube_vos", "ref_davis17", "mevis", "a2d", "jhmdb", "refcoco", "masklets"]
Kind = Literal["synthetic", Layout]
LAYOUTS: tuple[str, ...] = get_args(Layout)


@dataclass(frozen=True)
class SourceConfig:
    """One set of videos. `weight` is its share of the clips beside the other sources' weights."""

    kind: Kind = "synthetic"
    root: str = ""  # folder of the data set, for the kinds that are read from disk
    split: str = "train"
    weight: float | None = 1.0  # None, for all sources: as many as one pass has, so that the sources are concatenated
    pseudo_videos: bool = False  # training makes clips of several frames from each image, of which the source consists
    synthetic: SyntheticConfig | None = None  # the world, for kind synthetic
    skip_bad: bool = False  # set videos aside that cannot be read from end to end; all are read once, before the first


@cache
def eval_videos(source: SourceConfig) -> Sequence[ReferringVideo]:
    """All videos of a source, read when they are indexed; with `skip_bad` as `GoodVideos`.

    The list is kept, because training asks for the same source several times and a large one takes seconds to read.
    Raises InputError when the source is not there, and without `skip_bad` when a video is not described properly.
    """
    if source.kind == "synthetic":
        return SyntheticVideos(source.synthetic or SyntheticConfig())
    if not source.root:
        raise InputError(f"the {source.kind} source has no root; set it to the folder of the data set")
    videos = reader(source.kind)(source.root, source.split)
    return GoodVideos(videos) if source.skip_bad else videos.check()


def reader(kind: str) -> Callable[[str | Path, str], tree.LazyVideos]:
    """`read_NAME(root, split)` of a layout."""
    return getattr(import_module(f"datasets.{kind}"), f"read_{kind}")


def write_layout(
    kind: Layout, videos: Iterable[ReferringVideo], root: str | Path, split: str, quality: int = tree.JPEG_QUALITY
) -> tree.Written:
    """Write videos as a new split of the tree at `root`, in that layout. Raises InputError as the layout's writer does.

    quality: of the JPEG frames, where the layout has them.
    """
    return getattr(import_module(f"datasets.{kind}"), f"write_{kind}")(videos, root, split, quality=quality)
