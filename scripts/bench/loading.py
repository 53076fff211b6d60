"""Loading, measured: clips a second on one core and with worker processes, and what share of it is decoding.

    python -m scripts.bench.loading                              # Ref-YouTube-VOS layout, JPEGs of 720x1280
    python -m scripts.bench.loading --layout a2d --size 320x568  # video files, read by seeking
    python -m scripts.bench.loading --root data/ref-youtube-vos  # your own files

Without --root a synthetic tree is written to a temporary folder first. Clips are drawn and augmented as the published
recipe does, batched one by one. Files come from the system's cache: a disk's speed is not in the numbers. In one
process, seconds are those that the processor worked, all threads together, so "clips/s" is per core, whatever else the
machine does; with worker processes they are the clock's.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from datasets.clips import ClipConfig, ClipDataset, collate
from datasets.loader import DataConfig, train_batches
from datasets.sources import LAYOUTS, SourceConfig, eval_videos, write_layout
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.video_list import VideoList
from util.errors import InputError
from util.report import provenance, table, write_json
from util.types import FrameSource, MaskSource, ReferringVideo

WARM_UP = 4


@dataclass
class Clock:
    """Processor seconds spent, and calls made, by what was done."""

    seconds: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def count(self, name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - began
        self.calls[name] = self.calls.get(name, 0) + 1


class TimedVideos(VideoList):
    """The same videos, with the time that opening them and decoding their frames and masks takes put on a clock."""

    def __init__(self, videos: Sequence[ReferringVideo], clock: Clock) -> None:
        self._videos, self._clock = videos, clock

    def __len__(self) -> int:
        return len(self._videos)

    def video(self, number: int) -> ReferringVideo:
        """The same, timed."""
        with self._clock.count("opening"):
            video = self._videos[number]
            _ = video.frames.size  # of a folder: from its first frame's header
        masks = video.masks and _TimedMasks(video.masks, self._clock)
        return replace(video, frames=_TimedFrames(video.frames, self._clock), masks=masks)


class _TimedFrames:
    def __init__(self, frames: FrameSource, clock: Clock) -> None:
        self._frames, self._clock = frames, clock
        self.fps, self.size = frames.fps, frames.size

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> np.ndarray:
        with self._clock.count("frames"):
            return self._frames[index]


class _TimedMasks:
    def __init__(self, masks: MaskSource, clock: Clock) -> None:
        self._masks, self._clock = masks, clock

    def read(self, index: int, object_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        with self._clock.count("masks"):
            return self._masks.read(index, object_ids)


def measure(videos: Sequence[ReferringVideo], config: ClipConfig, clips: int) -> dict[str, Any]:
    """Clips a second of one core, and the share (%) of each part; "other" is augmentation and truth."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    clock = Clock()
    dataset = ClipDataset(TimedVideos(videos, clock), config, seed=0, every_clip=True)
    for n in range(WARM_UP):
        collate([dataset[n]])
    clock.seconds.clear()
    clock.calls.clear()
    began = time.process_time()
    for n in range(WARM_UP, WARM_UP + clips):
        sample = dataset[n]
        with clock.count("batching"):
            collate([sample])
    total = time.process_time() - began
    spent = {name: clock.seconds.get(name, 0.0) for name in ("opening", "frames", "masks", "batching")}
    spent["other"] = total - sum(spent.values())
    return {
        "processes": 1,
        "clips/s": clips / total,
        "frames/s": clips * max(config.lengths) / total,
        "decoding %": 100 * (spent["frames"] + spent["masks"]) / total,
        **{f"{name} %": 100 * seconds / total for name, seconds in spent.items()},
        "ms/frame": 1e3 * spent["frames"] / max(clock.calls.get("frames", 0), 1),
        "ms/mask": 1e3 * spent["masks"] / max(clock.calls.get("masks", 0), 1),
        "frames read": clock.calls.get("frames", 0),
        "masks read": clock.calls.get("masks", 0),
    }


def measure_workers(source: SourceConfig, config: ClipConfig, workers: int, clips: int) -> dict[str, Any]:
    """Clips a second that `workers` processes deliver, as training asks for them."""
    batches = train_batches(DataConfig((source,), config, workers=workers), per_rank=1)
    for _ in range(WARM_UP + 4 * workers):  # what is prefetched meanwhile must not count
        next(batches)
    began = time.perf_counter()
    for _ in range(clips):
        next(batches)
    total = time.perf_counter() - began
    return {"processes": workers, "clips/s": clips / total, "frames/s": clips * max(config.lengths) / total}


def main() -> None:
    options = _options()
    sides = re.fullmatch(r"(\d+)x(\d+)", options.size)
    if not sides:
        raise InputError(f"--size {options.size} is not height x width; give for example 720x1280")
    height, width = (int(side) for side in sides.groups())
    config = ClipConfig(frames=options.frames, sampler="published")
    clips = 4 if options.quick else options.clips
    with tempfile.TemporaryDirectory() as folder:
        source = SourceConfig(options.layout, root=str(options.root or folder), split=options.split)
        if options.root is None:
            world = SyntheticConfig(videos=2 if options.quick else 8, frames=30, height=height, width=width)
            write_layout(options.layout, SyntheticVideos(world), folder, options.split, options.quality)
        rows = [measure(eval_videos(source), config, clips)]
        rows += [measure_workers(source, config, workers, clips) for workers in options.workers]
    print(table(rows[:1]))
    if rows[1:]:
        print(table([{"processes": row["processes"], "clips/s": row["clips/s"]} for row in rows]))
    if options.out is not None:
        about = {name: str(value) for name, value in vars(options).items() if name != "out"}
        result = write_json(
            options.out / f"loading_{options.layout}.json", {"options": about, **provenance(), "rows": rows}
        )
        print(f"wrote {result}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layout", choices=LAYOUTS, default="ref_youtube_vos")
    parser.add_argument("--root", type=Path, help="read this data set instead of a synthetic one")
    parser.add_argument("--split", default="train")
    parser.add_argument("--size", default="720x1280", metavar="HEIGHTxWIDTH", help="of the synthetic frames")
    parser.add_argument("--quality", type=int, default=95, help="of the synthetic JPEGs")
    parser.add_argument("--frames", type=int, default=5, help="of a clip")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--workers", type=int, nargs="*", default=[], help="measure with so many processes too")
    parser.add_argument("--quick", action="store_true", help="4 clips of 2 videos")
    parser.add_argument("--out", type=Path, help="folder for the JSON result")
    return parser.parse_args()


if __name__ == "__main__":
    main()
