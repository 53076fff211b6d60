"""`main.py eval`: answer every sentence of a split, score it by the data set's protocol, print and write the numbers.

The answers are a network's, a baseline's, or files of any program (`--predictions`). Under `torchrun` the videos are
dealt out to the ranks; the numbers are those of one process. Beside the network's own answer stand the controls that a
good score must beat (`--baseline`, `--sentence other`, `--control`) or approach (`--key true`).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

from datasets.skipping import GoodVideos
from datasets.sources import LAYOUTS, SourceConfig, eval_videos
from datasets.synthetic import SyntheticConfig
from datasets.synthetic.controls import Control, ControlledVideos
from datasets.synthetic.scenes import SPLITS, usual_frames
from datasets.synthetic.sentences import HeldOut
from scripts.answers import (
    Answers,
    BaselineAnswers,
    FileAnswers,
    ImageId,
    NetworkAnswers,
    add_network_arguments,
    network_settings,
)
from util.controls import with_other_sentences
from util.davis_scores import ObjectScore, score_davis_video
from util.distributed import World, join_world, leave_world
from util.errors import InputError
from util.image_scores import ImageScore, coco_results, score_images
from util.report import provenance, write_json
from util.score_report import ScoreReport, davis_report, image_report, video_report
from util.scoring import score_videos
from util.sharing import share
from util.types import ReferringVideo

HELP = "score weights or PNG files on a split, by the data set's protocol"

# Baselines that read sentences, which only the synthetic world has as programs.
READERS = ("static-track", "single-frame")
IMAGES: dict[str, Literal["masks", "boxes"]] = {"a2d": "masks", "jhmdb": "masks", "refcoco": "boxes"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    answer = parser.add_mutually_exclusive_group(required=True)
    answer.add_argument("--weights", help="checkpoint folder, .safetensors, released .pth, or hub id")
    answer.add_argument("--baseline", choices=("largest", "random", *READERS), help="no network: objects' true masks")
    answer.add_argument(
        "--predictions", type=Path, metavar="PATH",
        help="no network: a folder or zip of PNGs (a2d, jhmdb, refcoco: or COCO results, .json) of any program",
    )  # fmt: skip
    parser.add_argument("--data", choices=("synthetic", *LAYOUTS), default="synthetic")
    parser.add_argument("--root", type=Path, help="the data set's folder")
    parser.add_argument("--split", help="split of the data set, for example valid or valid_u")
    parser.add_argument("--limit", type=int, help="score only the first N videos")
    parser.add_argument("--skip-bad", action="store_true", help="set videos aside that cannot be read, and list them")
    parser.add_argument("--key", choices=("found", "true"), default="found", help="true: track from the true mask")
    parser.add_argument(
        "--sentence", choices=("own", "other"), default="own", help="other: ask another sentence of the same video"
    )
    parser.add_argument("--processes", type=int, help="that score, without a network (default: one for each core)")
    parser.add_argument("--out", type=Path, help="folder for results.json, expressions.csv, videos.csv and scores.png")
    add_network_arguments(parser)
    world = parser.add_argument_group("synthetic world")
    world.add_argument("--videos", type=int, default=50)
    world.add_argument("--seed", type=int, default=1_000_000, help="training uses small seeds")
    world.add_argument("--size", default="96x160", help="HEIGHTxWIDTH")
    world.add_argument("--frames", type=int, help="default: 24, or 96 of the split long")
    world.add_argument("--world", choices=(*SPLITS, "mixed"), help="a split of the world (default: the plain world)")
    world.add_argument(
        "--held-out", choices=get_args(HeldOut), default="any",
        help="phrasings and combinations that training can be kept from: sentences without them, or of them only",
    )  # fmt: skip
    world.add_argument("--hard", action="store_true", help="videos that are hard to see")
    world.add_argument(
        "--control", choices=get_args(Control),
        help="score copies: played backwards or in pairs with one first frame, asked what has another answer then; or "
        "with frames shuffled",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Evaluate, print, write. Raises InputError for bad options, weights, predictions or data."""
    _check(options)
    world = join_world(options.device if options.weights else "cpu")
    try:
        videos = _videos(options)
        answers = _answers(options, world, videos)
        report, extra = _scored(options, answers, videos, world)
        if world.is_main:
            protocol = answers.about.get("protocol", "none (no network)")
            print(f"{report.text}\nprotocol of the network: {protocol}")
            skipped = videos.listing() if isinstance(videos, GoodVideos) else ""
            print(skipped, end="\n" if skipped else "")
            if options.out is not None:
                about = {"data": options.data, "split": options.split or options.world, "hard": options.hard,
                         "held out": options.held_out, "control": options.control, "key": options.key,
                         "sentence": options.sentence, "skipped": skipped.splitlines()[1:],
                         "ranks": world.size}  # fmt: skip
                written = report.write(options.out, answers.about | about | provenance(world.device))
                if extra:
                    written.append(write_json(options.out / "detections.json", extra))
                print("wrote " + ", ".join(map(str, written)))
    finally:
        leave_world()
    return 0


def _check(options: argparse.Namespace) -> None:
    controls = options.key == "true" or options.sentence == "other"
    if not options.weights and (options.mode or controls):
        kind = "--baseline" if options.baseline else "--predictions"
        raise InputError(f"{kind} asks no network; leave out --mode, --key and --sentence")
    if controls and (options.data in IMAGES or options.data == "ref_davis17"):
        raise InputError(
            f"--key and --sentence are controls of sentences about videos; leave them out for {options.data}"
        )
    of_world = options.baseline in READERS or options.world or options.hard or options.control
    if of_world and options.data != "synthetic":
        raise InputError(
            f"--world, --hard, --control and the baselines {' and '.join(READERS)} are of the synthetic world; leave "
            f"them out for {options.data}"
        )
    if options.processes is not None and (options.weights or options.processes < 1):
        raise InputError("--processes is 1 or more, and for scoring without a network; a network is shared by torchrun")


def _answers(options: argparse.Namespace, world: World, videos: Sequence[ReferringVideo]) -> Answers:
    if options.weights:
        return NetworkAnswers(options.weights, world, true_key=options.key == "true", **network_settings(options))
    if options.baseline:
        return BaselineAnswers(options.baseline, videos if isinstance(videos, ControlledVideos) else None)
    ids = [video.id for video in videos]
    return FileAnswers(options.predictions, ids, davis=options.data == "ref_davis17")


def _scored(
    options: argparse.Namespace, answers: Answers, videos: Sequence[ReferringVideo], world: World
) -> tuple[ScoreReport, list[dict[str, Any]]]:
    """The report, and for single frames all detections."""
    processes = 1 if options.weights else options.processes or os.cpu_count() or 1
    if options.data in IMAGES:
        image_id = _image_id(options.data)

        def images(number: int) -> list[ImageScore]:
            video = videos[number]
            return score_images(answers.detections(number, video, image_id), video, image_id)

        found = share(images, len(videos), world, limit=options.limit, processes=processes, progress=True)
        scores = [score for part in found for score in part]
        return image_report(scores, IMAGES[options.data]), coco_results(scores)
    if options.data == "ref_davis17":

        def objects(number: int) -> list[ObjectScore]:
            return score_davis_video(answers.labels(number, videos[number]), videos[number])

        parts = share(objects, len(videos), world, limit=options.limit, processes=processes, progress=True)
        return davis_report([score for part in parts for score in part]), []
    prepare = with_other_sentences if options.sentence == "other" else None
    return video_report(score_videos(
        answers.masks, videos, world, limit=options.limit, prepare=prepare, processes=processes, progress=True
    )), []  # fmt: skip


def _image_id(data: str) -> ImageId:
    """What the published ground truth calls a sentence in a frame; RefCOCO numbers its sentences."""
    if data == "refcoco":
        return lambda video, expression, index: expression.id
    return import_module(f"datasets.{data}").image_id


def _videos(options: argparse.Namespace) -> Sequence[ReferringVideo]:
    if options.data == "synthetic":
        return ControlledVideos(_synthetic(options), options.control)
    if options.root is None or options.split is None:
        raise InputError(f"--data {options.data} needs --root (its folder) and --split; docs/data.md shows the layout")
    source = SourceConfig(kind=options.data, root=str(options.root), split=options.split, skip_bad=options.skip_bad)
    return eval_videos(source)


def _synthetic(options: argparse.Namespace) -> SyntheticConfig:
    height, width = read_size(options.size)
    return SyntheticConfig(
        seed=options.seed, videos=options.videos, frames=options.frames or usual_frames(options.world), height=height,
        width=width, split=options.world, hard=options.hard, held_out=options.held_out,
    )  # fmt: skip


def read_size(text: str) -> tuple[int, int]:
    """Height and width of "HEIGHTxWIDTH". Raises InputError for anything else."""
    try:
        height, width = (int(side) for side in text.lower().split("x"))
    except ValueError:
        raise InputError(f"--size is {text!r}; write HEIGHTxWIDTH, for example 96x160") from None
    return height, width
