"""`main.py teach stream`: follow things in a camera's picture, or in a video as if it came live; record it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.teaching.backends import add_eyes_arguments, build_detector, build_segmenter
from util.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from models.teacher.stream import StreamFrame

HELP = "follow things in a camera's picture, or in a video as if it came live"
CAMERA_FPS = 25.0  # where a camera does not say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="CAMERA|VIDEO", help="number of a camera, or a video that OpenCV opens")
    parser.add_argument("--text", required=True, metavar="'DOG. RED CAR.'", help="what to look for, with full stops")
    parser.add_argument("--every", type=int, default=20, help="the detector looks in every N-th frame (20)")
    parser.add_argument("--forget", type=int, default=100, help="frames after which a lost object is forgotten (100)")
    parser.add_argument("--frames", type=int, default=300, help="stop after so many frames (300)")
    parser.add_argument("--threshold", type=float, default=0.25, help="least score of a box (0.25)")
    parser.add_argument("--out", type=Path, default=Path("output/stream"), help="folder for the results")
    add_eyes_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Write overlay.mp4 and objects.jsonl, a line for each frame. Raises InputError when nothing can be read."""
    from models.teacher.scripted import Truth
    from models.teacher.stream import ObjectStream
    from models.teacher.sweep import SweepConfig
    from util.distributed import join_world
    from util.drawing import overlay
    from util.video_writer import VideoWriter

    nouns = [noun.strip() for noun in options.text.split(".") if noun.strip()]
    device = str(join_world(options.device).device)
    fps, frames = _open(options.source, options.frames)
    stream = ObjectStream(
        build_segmenter(options.segmenter, device, Truth([])),
        build_detector(options.detector, options.threshold, device, Truth([])),
        nouns,
        every=options.every,
        fps=fps,
        sweep=SweepConfig(begin=options.threshold, give_up=options.forget, backward=False),
    )
    listed, film = options.out / "objects.jsonl", options.out / "overlay.mp4"
    seen = 0
    with VideoWriter(film, fps=fps) as video, listed.open("w", encoding="utf-8") as lines:
        for frame_HW3 in frames:
            shown = stream.push(frame_HW3)
            masks_NHW, names = _coloured(shown)
            video.write(overlay(frame_HW3, masks_NHW, names))
            lines.write(json.dumps(_line(shown)) + "\n")
            lines.flush()
            seen += 1
            print(f"\rframe {seen}: {len(shown.ids)} objects  ", end="", flush=True)
    stream.close()
    print(f"\n{film}\n{listed}")
    return 0


def _open(source: str, most: int) -> tuple[float, Iterator[np.ndarray]]:
    """The rate, and the frames as RGB. Raises InputError when the source gives none."""
    import cv2

    capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    good, first = capture.read()
    if not good:
        raise InputError(f"{source} gives no picture; is the camera in use, or the path wrong?")
    rate = capture.get(cv2.CAP_PROP_FPS)

    def frames() -> Iterator[Any]:
        good, image = True, first
        for _ in range(most):
            if not good:
                break
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            good, image = capture.read()
        capture.release()

    return (rate if rate > 0 else CAMERA_FPS), frames()


def _coloured(shown: StreamFrame) -> tuple[np.ndarray, list[str]]:
    """Masks and labels in rows whose colours are those of the ids, whoever else is there; rows between are empty."""
    import numpy as np

    from util.drawing import PALETTE

    rows: list[int] = []
    for id_ in shown.ids:
        row = (id_ - 1) % len(PALETTE)
        while row in rows:
            row += len(PALETTE)
        rows.append(row)
    masks = np.zeros((max(rows, default=-1) + 1, *shown.masks_NHW.shape[1:]), bool)
    names = [""] * len(masks)
    for row, id_, noun, mask in zip(rows, shown.ids, shown.nouns, shown.masks_NHW, strict=True):
        masks[row], names[row] = mask, f"{id_}: {noun}"
    return masks, names


def _line(shown: StreamFrame) -> dict[str, Any]:
    from util import rle

    objects = [
        {"id": id_, "noun": noun, "box": list(box), "score": round(score, 6), "mask": rle.encode(mask)}
        for id_, noun, box, score, mask in zip(
            shown.ids, shown.nouns, shown.boxes, shown.scores, shown.masks_NHW, strict=True
        )
    ]
    return {"frame": shown.frame, "objects": objects}
