"""`main.py teach requests`: what to ask a matcher that runs elsewhere; `--matcher external` then reads its answers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from scripts.teaching.backends import add_eyes_arguments, build_detector, build_segmenter
from scripts.teaching.settings import add_settings_arguments, teacher_config
from scripts.teaching.source import add_source_arguments, open_source

HELP = "write frames, boxes and sentences for a matcher that runs elsewhere"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="new folder for requests.jsonl and its pictures")
    parser.add_argument("--work", type=Path, required=True, help="folder of what the stages leave, as of `teach run`")
    add_eyes_arguments(parser)
    add_settings_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Track every video, if that is not done, and write a line for each chosen frame and sentence."""
    from PIL import Image

    from datasets import tree
    from datasets.track_store import TrackStore
    from models.teacher.following import Follower, pooled_nouns
    from models.teacher.match.external import requests
    from models.teacher.match.frames import choose_frames, seen_NT
    from models.teacher.parser import RuleParser
    from models.teacher.scripted import Truth
    from models.teacher.stages import Stopwatch, Workspace
    from util.distributed import join_world

    videos, settings = open_source(options), teacher_config(options)
    device, truth = str(join_world(options.device).device), Truth(videos)
    detector = build_detector(options.detector, settings.follow.detect.threshold, device, truth)
    segmenter = build_segmenter(options.segmenter, device, truth)
    store, source = TrackStore(options.work / "tracks"), options.source.resolve().name
    follower = Follower(
        RuleParser(),
        detector,
        segmenter,
        settings.follow,
        Workspace(options.work),
        store,
        dataset=source,
        split="train",
    )
    pictures = tree.new_folder(options.out) / "pictures"
    lines = []
    for number in range(len(videos)):
        video, watch = videos[number], Stopwatch()
        ingested = follower.ingest(video, watch)
        tracks = follower.track(ingested, pooled_nouns(follower.parse(video, watch)[1]), watch)
        frames = choose_frames(seen_NT(tracks), settings.judge.frames) if len(tracks) else ()
        names = {frame: f"pictures/{video.id}/{video.frame_names[frame]}.png" for frame in frames}
        for frame, name in names.items():
            (pictures / video.id).mkdir(parents=True, exist_ok=True)
            Image.fromarray(ingested.frames[frame]).save(options.out / name)
        lines += [
            json.dumps(line, sort_keys=True) + "\n" for line in requests(tracks, frames, video.expressions, names)
        ]
    tree.write_text(options.out / "requests.jsonl", "".join(lines))
    print(f"wrote {len(lines)} questions about {len(videos)} videos to {options.out / 'requests.jsonl'}")
    return 0
