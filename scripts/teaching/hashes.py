"""`main.py teach hashes`: what evaluation videos look like, so that `teach run` can refuse them under any name."""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.teaching.run import FAILED

HELP = "write hashes of evaluation videos' frames; `teach run --eval-hashes` refuses what shows the same"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="FOLDER",
        help="of video files or folders of frames, such as the JPEGImages of a data set's split",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")


def run(options: argparse.Namespace) -> int:
    """Hash every video. Exit status 3 where some could not be read. Raises InputError where there is none."""
    from tqdm import tqdm

    from datasets.likeness import video_hashes, write_hashes
    from datasets.video import open_video
    from datasets.video_folder import videos_in
    from util.errors import InputError

    paths = {
        f"{folder.resolve().name}/{name}": p for folder in options.folders for name, p in videos_in(folder).items()
    }
    if not paths:
        raise InputError(f"no videos in {options.folders[0]}; give a folder of video files or of folders of frames")
    found, failed = {}, []
    for name, path in tqdm(paths.items(), desc="hashing", unit="video", disable=None, dynamic_ncols=True):
        try:
            found[name] = video_hashes(open_video(path))
        except InputError as error:
            failed.append(f"failed: {name}: {error}")
    write_hashes(options.out, found)
    print("\n".join([*failed, f"wrote the hashes of {len(found)} videos to {options.out}"]))
    return FAILED if failed else 0
