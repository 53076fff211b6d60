"""Inference, measured: parameters and multiply-adds by part, frames per second and peak memory by video and sentences.

    python -m scripts.bench.inference --quick
    python -m scripts.bench.inference --backbone resnet50 --size 360x640 --device cuda --out docs/benchmarks

Each cell of the table is a process of its own, so that its peak memory is its own. Frames come from memory: nothing is
decoded. Every sentence is given a key, and no frame is taken for empty, so that all the work there can be is done
whatever the weights answer.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from models.checkpoint import load_segmenter
from models.inference import InferenceConfig
from models.key_frame import segment_video
from models.segmenter import Segmenter
from scripts.bench.cost import FREE_OF_TEXT, multiply_adds, parameters, peak_memory
from scripts.bench.network import random_segmenter, sentences
from util.distributed import join_world
from util.report import provenance, table, write_json

WORDS = 12  # tokens of the sentence whose multiply-adds are counted
RING = 24  # different frames; longer videos repeat them


@dataclass(frozen=True)
class Subject:
    """What is measured: a checkpoint, or where there is none random weights on a backbone."""

    weights: str | None
    backbone: str
    mode: Literal["track", "clip"]
    size: tuple[int, int]
    window: int
    device: str

    def network(self) -> Segmenter:
        if self.weights is not None:
            return load_segmenter(self.weights, device=self.device)
        tracking: Literal["none", "feature"] = "feature" if self.mode == "track" else "none"
        return random_segmenter(self.backbone, tracking).to(self.device)


class RepeatedFrames:
    """A video of any length in the memory of 24 frames (a `FrameSource`)."""

    def __init__(self, length: int, size: tuple[int, int]) -> None:
        video = SyntheticVideos(SyntheticConfig(videos=1, frames=RING, height=size[0], width=size[1]))[0]
        self.fps, self.size, self._length = 25.0, size, length
        self._frames = [video.frames[n] for n in range(min(RING, length))]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> np.ndarray:
        return self._frames[index % len(self._frames)]


def measure(subject: Subject, asked: int, frames: int) -> dict[str, Any]:
    """One cell: `asked` sentences in a video of `frames`, in this process, after a short video to warm up."""
    network = subject.network()
    device = network.device
    short, long = min(subject.size), max(subject.size)
    config = InferenceConfig(
        mode=subject.mode, window=subject.window, short_side=short, max_side=long, presence_below=0.0
    )

    def segment(length: int) -> None:
        mask = np.zeros(subject.size, bool)
        mask[short // 4 : short // 2, short // 4 : short // 2] = True
        keys = {e: (length // 2, mask) for e in range(asked)} if subject.mode == "track" else None
        segment_video(network, RepeatedFrames(length, subject.size), sentences()[:asked], config, keys=keys)

    segment(subject.window)
    before = peak_memory(device)
    began = time.perf_counter()
    segment(frames)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - began
    return {
        "sentences": asked,
        "frames": frames,
        "seconds": seconds,
        "frames/s": frames / seconds,
        "masks/s": frames * asked / seconds,
        "peak MiB": peak_memory(device),
        "peak MiB of one window": before,
    }


def encode_once(work: dict[str, float]) -> dict[str, float]:
    """What sharing the video's features saves: the share of the work that is free of text, and for how many sentences.

    E sentences together cost free + E (1 - free) of one; the saving is over E separate runs.
    """
    free = work[FREE_OF_TEXT] / sum(work.values())
    return {"free of text": free, **{f"saved at {e} sentences": free * (e - 1) / e for e in (4, 16)}}


def main() -> None:
    options = _options()
    height, width = (int(side) for side in options.size.split("x"))
    device = str(join_world(options.device).device)
    weights = None if options.backbone else options.weights
    subject = Subject(weights, options.backbone or "", options.mode, (height, width), options.window, device)
    network = subject.network()
    counts, work = parameters(network), multiply_adds(network, options.window, (height, width), WORDS)
    del network
    rows = [
        {
            "part": part,
            "parameters (M)": counts.get(part, 0) / 1e6,
            "multiply-adds of a window (G)": work[part] / 1e9 if work else None,
        }
        for part in (work or counts)
    ]
    total = {
        "parameters (M)": sum(counts.values()) / 1e6,
        "multiply-adds of a window (G)": sum(work.values()) / 1e9 if work else None,
    }
    print(table([*rows, {"part": "all", **total}]))
    saving = encode_once(work) if work else None
    if saving:
        print("; ".join(f"{name} {100 * share:.0f} %" for name, share in saving.items()))
    else:
        print("fvcore is not installed, so multiply-adds are not counted; pip install fvcore")
    cells = []
    lengths, asked = ([50], [1, 4]) if options.quick else (options.frames, options.sentences)
    # spawned, not forked: a CUDA context does not survive a fork, and memory would be counted twice
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for frames in lengths:
            for number in asked:
                cells.append(pool.apply(measure, (subject, number, frames)))
                print(table(cells[-1:]).splitlines()[-1] if len(cells) > 1 else table(cells))
    if options.out is not None:
        about = {"subject": vars(subject), "tokens": WORDS, **provenance(device)}
        name = f"inference_{options.backbone or 'weights'}_{torch.device(device).type}.json"
        result = {**about, "parameters": counts, "multiply_adds": work, "encode_once": saving, "cells": cells}
        print(f"wrote {write_json(options.out / name, result)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", default="pretrained_weights/tiny", help="checkpoint to measure")
    parser.add_argument("--backbone", help="instead: published sizes on this backbone, random weights")
    parser.add_argument("--mode", choices=("track", "clip"), default="track")
    parser.add_argument("--size", default="96x160", help="HEIGHTxWIDTH of the frames and of the network's input")
    parser.add_argument("--window", type=int, default=5, help="frames encoded together")
    parser.add_argument("--frames", type=int, nargs="+", default=[50, 500, 2000])
    parser.add_argument("--sentences", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--quick", action="store_true", help="50 frames, 1 and 4 sentences")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="folder for the JSON result")
    return parser.parse_args()


if __name__ == "__main__":
    main()
