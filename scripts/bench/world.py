"""The synthetic world's speed: processor seconds for whole hard clips, and for what training streams.

    python -m scripts.bench.world                 # clips of 24 frames at 192x320, every frame, mask and sentence
    python -m scripts.bench.world --size 64x112   # as configs/ablation.yaml trains

Videos are of all splits in turn, so every kind counts alike. Seconds are those that one core worked, so a thousand
clips on two cores take `1,000 clips` minutes whatever else the machine does, up to what sharing its caches costs.
"""

from __future__ import annotations

import argparse
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.synthetic.scenes import SPLITS
from util.errors import InputError
from util.report import provenance, table, write_json


@dataclass
class Seconds:
    """Processor seconds spent on worlds with their sentences, on frames and on masks, and how many of each."""

    videos: float = 0.0
    frames: float = 0.0
    masks: float = 0.0
    videos_made: int = 0
    frames_made: int = 0


def main() -> None:
    options = _options()
    if not re.fullmatch(r"\d+x\d+", options.size):
        raise InputError(f"--size {options.size!r} is not HEIGHTxWIDTH, such as 192x320")
    height, width = (int(side) for side in options.size.split("x"))
    cv2.setNumThreads(1)
    config = SyntheticConfig(seed=1, videos=options.videos, frames=options.frames, height=height, width=width)
    rows = [row(name, measure(replace(config, hard=name == "hard"))) for name in ("plain", "hard")]
    print(table(rows))
    if options.out:
        content = {"size": options.size, "frames": options.frames, "rows": rows, "provenance": provenance()}
        print(f"wrote {write_json(options.out / f'world_{options.size}.json', content)}")


def measure(config: SyntheticConfig) -> Seconds:
    """All frames, and all masks of all that is spoken of, of `config.videos` clips of each split, read once."""
    seconds = Seconds()
    for split in SPLITS:
        videos = SyntheticVideos(replace(config, split=split))
        for number in range(config.videos):
            begin = time.process_time()
            video = videos[number]
            made = time.process_time()
            for frame in range(config.frames):
                video.frames[frame]
            drawn = time.process_time()
            ids = sorted({one for expression in video.expressions for one in expression.object_ids or ()})
            assert video.masks is not None
            for frame in range(config.frames):
                video.masks.read(frame, ids)
            end = time.process_time()
            seconds.videos += made - begin
            seconds.frames += drawn - made
            seconds.masks += end - drawn
            seconds.videos_made += 1
            seconds.frames_made += config.frames
    return seconds


def row(name: str, seconds: Seconds) -> dict[str, str]:
    clip = (seconds.videos + seconds.frames + seconds.masks) / seconds.videos_made
    return {
        "world": name,
        "world and sentences, ms a video": f"{1e3 * seconds.videos / seconds.videos_made:.1f}",
        "ms a frame": f"{1e3 * seconds.frames / seconds.frames_made:.2f}",
        "ms a frame's masks": f"{1e3 * seconds.masks / seconds.frames_made:.2f}",
        "core-seconds a clip": f"{clip:.3f}",
        "1,000 clips on 2 cores, minutes": f"{clip * 1000 / 2 / 60:.1f}",
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", default="192x320", metavar="HEIGHTxWIDTH", help="of the frames")
    parser.add_argument("--frames", type=int, default=24, help="of a clip")
    parser.add_argument("--videos", type=int, default=10, help="of each split")
    parser.add_argument("--out", type=Path, help="folder for the JSON result")
    return parser.parse_args()


if __name__ == "__main__":
    main()
