"""`main.py submit`: the zip that a benchmark's server takes, checked file by file before it is done.

Masks come from weights, or from PNG files that are there (`--predictions`). With weights an interrupted run goes
on where it ended; under `torchrun` the videos are dealt out to the ranks.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from tqdm import tqdm

from datasets import tree
from datasets.predictions import PngFiles, prefix_of
from datasets.sources import SourceConfig, eval_videos
from datasets.submission import PREFIX, Benchmark, Values, folders_of, is_written, pack, write_video
from scripts.answers import NetworkAnswers, add_network_arguments, network_settings
from util import rle
from util.distributed import World, join_world, leave_world
from util.errors import InputError
from util.types import ReferringVideo

HELP = "write the zip that a benchmark's server takes, and check it"

SPLITS = {"ref_youtube_vos": "valid", "mevis": "valid", "ref_davis17": "val"}
ABOUT = "submission.json"  # what the PNGs beside it were made with


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", choices=get_args(Benchmark), metavar="DATASET", help=", ".join(get_args(Benchmark)))
    answer = parser.add_mutually_exclusive_group(required=True)
    answer.add_argument("--weights", help="checkpoint folder, .safetensors, released .pth, or hub id")
    answer.add_argument("--predictions", type=Path, metavar="PATH", help="folder or zip of PNGs of any program")
    parser.add_argument("--root", type=Path, required=True, help="the data set's folder")
    parser.add_argument("--split", help="default: valid (Ref-DAVIS17: val)")
    parser.add_argument("--out", type=Path, required=True, help="folder for submission.zip and the PNGs")
    add_network_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Segment what is missing, pack, check. Raises InputError for bad options, weights, data, or PNGs."""
    split = options.split or SPLITS[options.dataset]
    videos = eval_videos(SourceConfig(kind=options.dataset, root=str(options.root), split=split))
    world = join_world(options.device if options.weights else "cpu")
    try:
        if options.weights:
            _segment(options, split, videos, world)
        if world.is_main:
            files, prefix = _files(options, videos)
            zipped = options.out / "submission.zip"
            count = pack(options.dataset, files, prefix, videos, zipped, progress=True)
            sentences = sum(len(video.expressions) for video in videos)
            print(f"checked {len(videos)} videos, {sentences} sentences, {count} PNGs: all there, of the frames' size")
            print(f"wrote {zipped}")
        world.barrier()
    finally:
        leave_world()
    return 0


def _files(options: argparse.Namespace, videos: Sequence[ReferringVideo]) -> tuple[PngFiles, str]:
    if options.weights:
        return PngFiles(options.out), PREFIX[options.dataset]
    files = PngFiles(options.predictions)
    return files, prefix_of(files, [folder for video in videos for folder in folders_of(options.dataset, video)])


def _segment(options: argparse.Namespace, split: str, videos: Sequence[ReferringVideo], world: World) -> None:
    """Write the PNGs of this rank's videos that are not there yet."""
    answers = NetworkAnswers(options.weights, world, **network_settings(options))
    about = {"dataset": options.dataset, "split": split, **answers.about}
    if world.is_main:
        _same_run(options.out / ABOUT, about)
    world.barrier()
    numbers = range(world.rank, len(videos), world.size)
    for number in tqdm(numbers, "videos", disable=None if world.is_main else True):
        video = videos[number]
        if video.expressions and not is_written(options.dataset, options.out, video):
            write_video(options.dataset, options.out, video, _values(options.dataset, answers, number, video))
    world.barrier()


def _values(dataset: Benchmark, answers: NetworkAnswers, number: int, video: ReferringVideo) -> Values:
    if dataset == "ref_davis17":
        return answers.labels(number, video)
    masks = answers.masks(number, video)

    def mask(expression: int, frame: int) -> np.ndarray:
        return rle.decode(masks[expression][frame])

    return mask


def _same_run(path: Path, about: dict[str, object]) -> None:
    """Write what the PNGs are made with; raises InputError when those beside it were made with something else."""
    if path.is_file():
        before = tree.read_json(path, "what the PNGs were made with")
        if before != about:
            raise InputError(f"{path.parent} holds masks of another run ({path.name} tells which); choose a new --out")
    elif path.parent.is_dir() and any(path.parent.iterdir()):
        raise InputError(f"{path.parent} is not empty and not a submission begun earlier; choose a new --out")
    tree.write_json(path, about)
