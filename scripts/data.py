"""`main.py data`: make, check and assemble data sets; the work is done in datasets/."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from datasets.sources import LAYOUTS, Layout, write_layout
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.synthetic.scenes import SPLITS, usual_frames
from util.errors import InputError
from util.types import ReferringVideo

HELP = "check a data set, assemble an official release, or write the synthetic world in a data set's layout"

ASSEMBLED = ("ref_davis17", "a2d", "jhmdb", "refcoco")  # official releases that come in parts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `data`: one sub-parser for each action."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="find which data set lies in a folder, read all of it, report on one page")
    check.add_argument("root", type=Path, metavar="ROOT", help="folder of the data set, or of one split")
    check.add_argument("--layout", choices=LAYOUTS, help="what it is (default: found out)")
    check.add_argument("--split", help="check this split only (default: all that are there)")
    check.add_argument("--workers", type=int, help="threads that read (default: one for each core)")
    convert = actions.add_parser("convert", help="assemble an official release into the tree that the readers take")
    convert.add_argument("layout", choices=ASSEMBLED, help="which data set")
    convert.add_argument("source", type=Path, metavar="SOURCE", help="folder of the release, as it was unpacked")
    convert.add_argument("out", type=Path, metavar="OUT", help="folder to write; what is finished there is not redone")
    synth = actions.add_parser("synth", help="write synthetic videos with exact masks and true sentences")
    synth.add_argument("--layout", choices=LAYOUTS, required=True, help="how the tree is laid out")
    synth.add_argument("--out", type=Path, required=True, help="root of the tree; the split must not be there yet")
    synth.add_argument("--split", default="train", help="which split of the tree to write (default: %(default)s)")
    synth.add_argument("--videos", type=int, default=20, help="how many videos (default: %(default)s)")
    synth.add_argument("--seed", type=int, default=0, help="which videos (default: %(default)s)")
    synth.add_argument("--size", default="96x160", help="height x width in pixels (default: %(default)s)")
    synth.add_argument("--frames", type=int, help="frames per video (default: 24, or 96 of the split long)")
    synth.add_argument("--world", choices=(*SPLITS, "mixed"), help="a split of the world (default: the plain world)")
    synth.add_argument("--hard", action="store_true", help="videos that are hard to see")
    synth.add_argument("--quality", type=int, default=95, help="of the JPEG frames, 1 to 100 (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Run the action asked for; returns the exit status (`check`: 1 where it found faults)."""
    if options.action == "check":
        from datasets.check.run import check

        report = check(options.root, kind=options.layout, split=options.split, workers=options.workers, progress=True)
        print(report.page())
        return int(report.faulty)
    if options.action == "convert":
        from datasets.convert import convert

        convert(options.layout, options.source, options.out)
        return 0
    height, width = _size(options.size)
    config = SyntheticConfig(
        seed=options.seed, videos=options.videos, frames=options.frames or usual_frames(options.world), height=height,
        width=width, split=options.world, hard=options.hard,
    )  # fmt: skip
    return synth(options.layout, options.out, config, split=options.split, quality=options.quality)


def synth(layout: Layout, out: Path, config: SyntheticConfig, *, split: str, quality: int) -> int:
    """Write a synthetic tree and say what is in it. Raises InputError for a bad quality, split or folder."""
    if not 1 <= quality <= 100:
        raise InputError(f"--quality {quality} is not between 1 and 100")
    written = write_layout(layout, _counted(SyntheticVideos(config)), out, split, quality=quality)
    print(f"wrote {written.videos} videos with {written.expressions} sentences to {written.folder}")
    if written.left_out:
        print(f"not written, for {layout} has no place for them: {', '.join(written.left_out)}")
    return 0


def _size(text: str) -> tuple[int, int]:
    sides = re.fullmatch(r"(\d+)x(\d+)", text)
    if not sides:
        raise InputError(f"--size {text} is not height x width; give for example 96x160")
    return int(sides[1]), int(sides[2])


def _counted(videos: Sequence[ReferringVideo]) -> Iterator[ReferringVideo]:
    """The videos, with a bar of progress where someone watches."""
    yield from tqdm(videos, desc="videos", unit="video", disable=None)
