"""`main.py teach requests`: what to ask a matcher that runs elsewhere; `--matcher external` then reads its answers."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.teaching.backends import (
    add_eyes_arguments,
    add_parser_argument,
    build_detector,
    build_parser,
    build_segmenter,
)
from scripts.teaching.run import FAILED
from scripts.teaching.settings import add_settings_arguments, teacher_config
from scripts.teaching.source import add_source_arguments, open_source
from util.errors import InputError

if TYPE_CHECKING:
    from datasets.tree import LazyVideos
    from models.teacher.following import Follower
    from util.types import ReferringVideo

HELP = "write frames, boxes and sentences for a matcher that runs elsewhere"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="new folder for requests.jsonl and its pictures")
    parser.add_argument("--work", type=Path, required=True, help="folder of what the stages leave, as of `teach run`")
    add_eyes_arguments(parser)
    add_parser_argument(parser)
    add_settings_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Track every video, if that is not done, and write a line for each chosen frame and sentence.

    The folder is written whole or not at all; a killed run goes on where it was. Exit status 3 where videos failed.
    """
    from datasets import tree
    from datasets.track_store import TrackStore
    from models.teacher.following import Follower
    from models.teacher.scripted import Truth
    from models.teacher.stages import Workspace
    from util import atomic
    from util.distributed import join_world

    videos, settings = open_source(options), teacher_config(options)
    device, truth = str(join_world(options.device).device), Truth(videos)
    follower = Follower(
        build_parser(options.parser, device),
        build_detector(options.detector, settings.follow.detect.threshold, device, truth),
        build_segmenter(options.segmenter, device, truth),
        settings.follow,
        Workspace(options.work),
        TrackStore(options.work / "tracks"),
        dataset=options.source.resolve().name,
        split="train",
    )
    out = tree.new_folder(options.out)
    unfinished = out.with_name(f".{out.name}{atomic.PARTIAL}")
    shutil.rmtree(unfinished, ignore_errors=True)
    lines, failed = _write(follower, videos, unfinished, settings.judge.frames)
    atomic.swap_folder(unfinished, out)
    print(f"wrote {lines} questions about {len(videos) - len(failed)} videos to {out / 'requests.jsonl'}")
    print("".join(f"failed: {text}\n" for text in failed), end="")
    return FAILED if failed else 0


def _write(follower: Follower, videos: LazyVideos, folder: Path, most: int) -> tuple[int, list[str]]:
    """Write requests.jsonl and up to `most` pictures of each video into `folder`.

    Returns the number of lines, and of each video that could not be read why.
    """
    from tqdm import tqdm

    from datasets import tree

    lines: list[str] = []
    failed: list[str] = []
    for place, name in enumerate(tqdm(videos.ids, desc="tracking", unit="video", disable=None, dynamic_ncols=True)):
        try:
            lines += _ask(follower, videos[place], folder, most)
        except InputError as error:
            failed.append(f"{name}: {error}")
    tree.write_text(folder / "requests.jsonl", "".join(lines))
    return len(lines), failed


def _ask(follower: Follower, video: ReferringVideo, folder: Path, most: int) -> list[str]:
    """The lines of one video; its pictures are written."""
    from PIL import Image

    from models.teacher.following import pooled_nouns
    from models.teacher.match.external import requests
    from models.teacher.match.frames import choose_frames, seen_NT
    from models.teacher.stages import Stopwatch

    watch = Stopwatch()
    ingested = follower.ingest(video, watch)
    tracks = follower.track(ingested, pooled_nouns(follower.parse(video, watch)[1]), watch)
    frames = choose_frames(seen_NT(tracks), most) if len(tracks) else ()
    pictures = {frame: f"pictures/{video.id}/{video.frame_names[frame]}.png" for frame in frames}
    for frame, picture in pictures.items():
        (folder / picture).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ingested.frames[frame]).save(folder / picture)
    return [json.dumps(asked, sort_keys=True) + "\n" for asked in requests(tracks, frames, video.expressions, pictures)]
