"""`main.py teach video`: one video and sentences; an overlay, a contact sheet and the masks."""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.teaching.backends import add_backend_arguments, build_backends
from scripts.teaching.settings import add_settings_arguments, teacher_config
from util.errors import InputError

HELP = "find what sentences mean in one video, with foundation models; an overlay, masks and scores"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", type=Path, metavar="VIDEO", help="video file, folder of frames, or image")
    parser.add_argument(
        "-e", "--expression", action="append", required=True, metavar="SENTENCE",
        help="what to look for; give it again for another, all are answered together",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder for the results (default: output/teach and the video's name)")
    parser.add_argument("--fps", type=float, help="frames a second of a folder of frames (default: 24)")
    parser.add_argument("--doubtful", action="store_true", help="show the best answer even where it is rejected")
    add_backend_arguments(parser)
    add_settings_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Answer, draw, write. What the stages found is kept beside it: one more sentence of its nouns is quick."""
    from datasets.video import open_video
    from models.teacher.answer import TaughtAnswer, summary
    from models.teacher.pipeline import Teacher
    from models.teacher.stages import Stopwatch
    from scripts.segment import Bars
    from util.answer_files import check_folder, write_answer
    from util.types import Expression, ReferringVideo

    frames = open_video(options.video, fps=options.fps)
    name = options.video.resolve().stem or "video"
    folder = options.out or Path("output") / "teach" / name
    check_folder(folder, frames, len(options.expression))
    expressions = tuple(Expression(str(place), text, None) for place, text in enumerate(options.expression))
    if not all(text.strip() for text in options.expression):
        raise InputError("a sentence is empty; say what to look for")
    names = tuple(getattr(frames, "names", None) or (f"{t:05d}" for t in range(len(frames))))
    video = ReferringVideo(name, frames, names, expressions)
    config = teacher_config(options)
    backends = build_backends(options, config, [video])
    print(f"video: {len(frames)} frames of {frames.size[1]}x{frames.size[0]} at {frames.fps:g} frames/s")
    for role, info in backends.roles().items():
        print(f"{role}: {info.backend}, {info.model_id} (licence: {info.licence})")
    facts = {"video": options.video.name, "models": {role: vars(info) for role, info in backends.roles().items()}}
    with Bars() as bars:
        watch = Stopwatch(progress=bars)
        taught = Teacher(backends, config, folder / "work").teach(video, watch)
        answer = TaughtAnswer(taught, doubtful=options.doubtful)
        written = write_answer(folder, taught.ingested.frames, names, answer, facts, progress=bars)
    print("seconds: " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in watch.seconds.items()))
    print("\n".join(["", *summary(taught), "", *(f"{path}{'/' if path.is_dir() else ''}" for path in written)]))
    return 0
