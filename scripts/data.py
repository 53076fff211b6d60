"""`main.py data`: make and handle data sets. `data synth` writes the synthetic world as a tree on disk."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from util.errors import InputError
from util.types import ReferringVideo

HELP = "write the synthetic world in a data set's layout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `data`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    synth = actions.add_parser("synth", help="write synthetic videos with exact masks and true sentences")
    synth.add_argument("--layout", choices=("ref_youtube_vos", "mevis"), required=True, help="how the tree is laid out")
    synth.add_argument("--out", type=Path, required=True, help="root of the tree; the split must not be there yet")
    synth.add_argument("--split", default="train", help="which split of the tree to write (default: %(default)s)")
    synth.add_argument("--videos", type=int, default=20, help="how many videos (default: %(default)s)")
    synth.add_argument("--seed", type=int, default=0, help="which videos (default: %(default)s)")
    synth.add_argument("--size", default="96x160", help="height x width in pixels (default: %(default)s)")
    synth.add_argument("--frames", type=int, default=24, help="frames per video (default: %(default)s)")
    synth.add_argument("--quality", type=int, default=95, help="of the JPEG frames, 1 to 100 (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Run the action asked for."""
    return synth(
        options.layout,
        options.out,
        split=options.split,
        videos=options.videos,
        seed=options.seed,
        size=options.size,
        frames=options.frames,
        quality=options.quality,
    )


def synth(layout: str, out: Path, *, split: str, videos: int, seed: int, size: str, frames: int, quality: int) -> int:
    """Write a synthetic tree and say what is in it. Raises InputError for a bad size, quality, split or folder."""
    from datasets.mevis import write_mevis
    from datasets.ref_youtube_vos import write_ref_youtube_vos
    from datasets.synthetic import SyntheticConfig, SyntheticVideos

    sides = re.fullmatch(r"(\d+)x(\d+)", size)
    if not sides:
        raise InputError(f"--size {size} is not height x width; give for example 96x160")
    if not 1 <= quality <= 100:
        raise InputError(f"--quality {quality} is not between 1 and 100")
    height, width = (int(side) for side in sides.groups())
    world = SyntheticVideos(SyntheticConfig(seed=seed, videos=videos, frames=frames, height=height, width=width))
    write = write_ref_youtube_vos if layout == "ref_youtube_vos" else write_mevis
    written = write(_counted(world), out, split, quality=quality)
    print(f"wrote {written.videos} videos with {written.expressions} sentences to {written.folder}")
    if written.left_out:
        print(f"not written, for {layout} holds one object per sentence: {', '.join(written.left_out)}")
    return 0


def _counted(videos: Sequence[ReferringVideo]) -> Iterator[ReferringVideo]:
    """The videos, with a line of progress where someone watches."""
    for number, video in enumerate(videos, 1):
        if sys.stderr.isatty():
            print(f"\rvideo {number} of {len(videos)}", end="\n" if number == len(videos) else "", file=sys.stderr)
        yield video
