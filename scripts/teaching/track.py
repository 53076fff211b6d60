"""`main.py teach track`: follow things through one video, told by words, boxes, points or masks; draw the result."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.teaching.backends import add_eyes_arguments, build_detector, build_segmenter
from util.errors import InputError

if TYPE_CHECKING:  # imported when the job runs: torch and transformers take seconds
    from datasets.tracks import Tracks
    from models.teacher.interfaces import Prompt, VideoSegmenter
    from models.teacher.tracking import Search
    from util.types import FrameSource

HELP = "follow things through a video, told by words, boxes, points or masks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", metavar="VIDEO", help="video file, folder of frames, or image")
    parser.add_argument("--text", default="", metavar="'DOG. RED CAR.'", help="what to look for, each with a full stop")
    parser.add_argument(
        "--at", type=int, action="append", metavar="FRAME", help="look for --text in this frame; may be given again"
    )
    parser.add_argument("--every", type=int, default=20, help="without --at: look in every N-th frame (20)")
    parser.add_argument("--box", action="append", default=[], metavar="FRAME:X0,Y0,X1,Y1", help="an object, by its box")
    parser.add_argument(
        "--point", action="append", default=[], metavar="FRAME:X,Y;X,Y,0",
        help="an object, by points on it and, with a third number 0, beside it",
    )  # fmt: skip
    parser.add_argument(
        "--mask", action="append", default=[], metavar="FRAME:FILE.png", help="an object, by its mask (not black)"
    )
    parser.add_argument(
        "--prompt-by", choices=("box", "point", "mask"), default="box",
        help="what the segmenter is told of a box: itself, points inside its mask, or its mask (box)",
    )  # fmt: skip
    parser.add_argument("--no-reverse", action="store_true", help="do not trace objects back to where they began")
    parser.add_argument("--threshold", type=float, default=0.25, help="least score of a box (0.25)")
    add_eyes_arguments(parser)
    parser.add_argument("--label-maps", action="store_true", help="also write mask_data/ and json_data/")
    parser.add_argument("--out", type=Path, help="folder for the results (default: output/ and the video's name)")
    parser.add_argument("--fps", type=float, help="frames a second of a folder of frames (24)")


def run(options: argparse.Namespace) -> int:
    """Follow, draw, write. Raises InputError for a bad video, prompt, model or folder."""
    from datasets.video import open_video
    from models.teacher.exports import write_tracks
    from models.teacher.scripted import Truth
    from models.teacher.segment.prompted_by import PromptedBy
    from scripts.segment import Bars
    from util.answer_files import check_folder
    from util.distributed import join_world

    prompts = read_prompts(options.box, options.point, options.mask)
    if options.fps is not None and not (options.fps > 0 and math.isfinite(options.fps)):
        raise InputError(f"--fps is {options.fps}; give a rate above 0")
    frames = open_video(options.video, fps=options.fps)
    folder = options.out or Path("output") / (Path(options.video).resolve().stem or "video")
    check_folder(folder, frames, 8)
    device = str(join_world(options.device).device)
    search = _search(options, len(frames), device)
    if search is None and not prompts:
        raise InputError("nothing to follow: give --text, or an object with --box, --point or --mask")
    segmenter: VideoSegmenter = build_segmenter(options.segmenter, device, Truth([]))
    if options.prompt_by != "box":
        segmenter = PromptedBy(segmenter, options.prompt_by)
    print(f"video: {len(frames)} frames of {frames.size[1]}x{frames.size[0]} at {frames.fps:g} frames/s")
    with Bars() as bars:
        tracks = follow(
            Path(options.video).stem, frames, segmenter, prompts, search,
            reverse=not options.no_reverse, threshold=options.threshold, progress=bars,
        )  # fmt: skip
        written = write_tracks(folder, frames, tracks, label_maps=options.label_maps, progress=bars)
    print(summary(tracks))
    print("\n" + "\n".join(f"{path}{'/' if path.is_dir() else ''}" for path in written))
    return 0


def follow(
    name: str,
    frames: FrameSource,
    segmenter: VideoSegmenter,
    prompts: Sequence[Prompt],
    search: Search | None,
    *,
    reverse: bool = True,
    threshold: float = 0.25,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Tracks:
    """The tracks of a video that has no sentences. `threshold`: least score that begins an object."""
    from models.teacher.sweep import SweepConfig
    from models.teacher.tracking import track_video
    from models.teacher.tracks import MergeConfig
    from util.types import ReferringVideo

    names = tuple(getattr(frames, "names", None) or (f"{t:05d}" for t in range(len(frames))))
    ticks = _Ticks(len(frames) * (1 + reverse), progress)
    return track_video(
        ReferringVideo(name, frames, names, ()),
        segmenter,
        prompts=prompts,
        search=search,
        sweep=SweepConfig(begin=threshold, backward=reverse),
        merge=MergeConfig() if search else MergeConfig(iou=1.0),  # two things that were pointed at stay two
        tick=ticks,
    )


def read_prompts(boxes: Sequence[str], points: Sequence[str], masks: Sequence[str]) -> list[Prompt]:
    """Prompts from the command line's FRAME:X0,Y0,X1,Y1, FRAME:X,Y;X,Y,LABEL and FRAME:FILE.

    Raises InputError that repeats what cannot be read.
    """
    from models.teacher.interfaces import Prompt

    found = []
    for text in boxes:
        frame, rest = _frame(text, "--box")
        left, top, right, bottom = _numbers(rest, (4,), text)
        found.append(Prompt(frame, box=(left, top, right, bottom)))
    for text in points:
        frame, rest = _frame(text, "--point")
        told = [_numbers(point, (2, 3), text) for point in rest.split(";")]
        found.append(Prompt(frame, points=tuple((p[0], p[1], int(p[2]) if len(p) == 3 else 1) for p in told)))
    for text in masks:
        frame, rest = _frame(text, "--mask")
        found.append(Prompt(frame, mask_HW=_read_mask(Path(rest))))
    return found


def summary(tracks: Tracks) -> str:
    """A line for each object: what it is and where it was seen."""
    from models.teacher.exports import noun_of

    if not len(tracks):
        return "nothing was found"
    lines = []
    for row, seen_T in enumerate(tracks.visible_NT()):
        shown = seen_T.nonzero()[0]
        where = f"frames {shown[0]} to {shown[-1]}, seen in {len(shown)}" if len(shown) else "never seen"
        lines.append(f"{row + 1}: {noun_of(tracks, row) or 'object'}, {where}")
    return "\n".join(lines)


def _search(options: argparse.Namespace, length: int, device: str) -> Search | None:
    nouns = tuple(noun.strip() for noun in options.text.split(".") if noun.strip())
    if not nouns:
        return None
    from models.teacher.scripted import Truth
    from models.teacher.tracking import Search

    if options.every < 1:
        raise InputError(f"--every is {options.every}; give a number of frames above 0")
    detector = build_detector(options.detector, options.threshold, device, Truth([]))
    return Search(detector, nouns, frozenset(options.at or range(0, length, options.every)))


def _frame(text: str, option: str) -> tuple[int, str]:
    frame, colon, rest = text.partition(":")
    if not colon or not frame.strip().isdecimal():
        raise InputError(f"{option} {text!r} does not begin with a frame number and a colon, such as 0:")
    return int(frame), rest


def _numbers(text: str, counts: tuple[int, ...], whole: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in counts or not all(math.isfinite(number) for number in numbers):
        raise InputError(f"{whole!r} needs {' or '.join(map(str, counts))} numbers with commas, not {text!r}")
    return numbers


def _read_mask(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB")).any(-1)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the mask {path}: {error}; give an image of the frame's size") from error


class _Ticks:
    """Counts the frames of both sweeps for a progress bar."""

    def __init__(self, total: int, progress: Callable[[str, int, int], None]) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def __call__(self) -> None:
        self.done += 1
        self.progress("following", self.done, self.total)
