"""`main.py teach export`: masklets in another layout, for readers that do not know theirs."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write masklets in Ref-YouTube-VOS's layout (MeViS's they have already)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", type=Path, metavar="FOLDER", help="of the masklets")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the data set")
    parser.add_argument("--compat", choices=["ytvos"], default="ytvos", help="the layout")
    parser.add_argument("--split", default="train", help="of the masklets (train)")
    parser.add_argument("--paint-order", choices=["quality"], help="keep things that overlap, the best on top")


def run(options: argparse.Namespace) -> int:
    """Write it, and list what the layout cannot hold. Raises InputError where there are no masklets."""
    from datasets.masklets import read_masklets
    from datasets.masklets_compat import write_compat

    videos = read_masklets(options.root, options.split)
    written = write_compat(videos, options.out, options.split, paint=options.paint_order == "quality")
    for text in written.left_out:
        print(f"left out: {text}")
    print(f"wrote {written.videos} videos with {written.expressions} sentences to {written.folder}")
    return 0
