"""`main.py segment`: a video file, folder of frames or image, and sentences; a mask for each sentence and frame."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datasets.video import open_video
from models.checkpoint import load_segmenter, read_info
from models.key_frame import InferenceConfig, VideoResult, segment_video
from models.segmenter import Segmenter
from util import rle
from util.answer_files import check_folder, write_answer
from util.config import from_dict
from util.distributed import join_world
from util.errors import InputError
from util.report import hardware

HELP = "segment what sentences refer to in a video, a folder of frames or an image"
WEIGHTS = "pretrained_weights/tiny"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", metavar="VIDEO", help="video file, folder of frames, or image")
    parser.add_argument(
        "-e", "--expression", action="append", required=True, metavar="SENTENCE",
        help="what to look for; give it again for another, all are segmented together",
    )  # fmt: skip
    parser.add_argument("--weights", default=WEIGHTS, help="checkpoint folder, .safetensors, released .pth, or hub id")
    parser.add_argument("--text-encoder", help="folder or hub id, for released weights that come without a tokenizer")
    parser.add_argument(
        "--tracking", choices=("none", "rgb"), default="none", help="of a released .pth: rgb if it is TF-RVOS's"
    )
    parser.add_argument("--mode", choices=("track", "clip"), help="default: track if the weights can")
    parser.add_argument("--out", type=Path, help="folder for the results (default: output/ and the video's name)")
    parser.add_argument("--short-side", type=int, help="pixels of the network's input (default: the weights' own)")
    parser.add_argument("--fps", type=float, help="frames a second of a folder of frames (default: 24)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def run(options: argparse.Namespace) -> int:
    """Segment, draw, write. Raises InputError for a bad video, sentence, checkpoint or folder."""
    return segment(
        options.video,
        options.expression,
        weights=options.weights,
        text_encoder=options.text_encoder,
        tracking=options.tracking,
        mode=options.mode,
        out=options.out,
        short_side=options.short_side,
        fps=options.fps,
        device=options.device,
    )


def segment(
    video: str,
    sentences: Sequence[str],
    *,
    weights: str,
    text_encoder: str | None,
    tracking: Any,
    mode: Any,
    out: Path | None,
    short_side: int | None,
    fps: float | None,
    device: str,
) -> int:
    """The command, with plain values."""
    if fps is not None and not (fps > 0 and math.isfinite(fps)):
        raise InputError(f"--fps is {fps}; give a rate above 0")
    frames = open_video(video, fps=fps)
    folder = out or Path("output") / (Path(video).resolve().stem or "video")
    check_folder(folder, frames, len(sentences))
    placed = join_world(device).device
    print(f"device: {placed} ({hardware(placed)})")
    segmenter = load_segmenter(weights, text_encoder=text_encoder, tracking=tracking, device=placed)
    config = with_size(stored_settings(weights), short_side)
    config = replace(config, mode=mode or config.mode)
    print(f"video: {len(frames)} frames of {frames.size[1]}x{frames.size[0]} at {frames.fps:g} frames/s")
    began = time.perf_counter()
    with Bars() as bars:
        result = segment_video(segmenter, frames, sentences, config, progress=bars)
        seconds = time.perf_counter() - began
        names: Sequence[str] = getattr(frames, "names", None) or [f"{t:05d}" for t in range(len(frames))]
        facts = {"video": Path(video).name, **about(segmenter, weights, result)}
        written = write_answer(folder, frames, names, result, facts, progress=bars)
    print(f"segmented in {seconds:.1f} s, {len(frames) / seconds:.1f} frames/s ({result.mode} mode)\n")
    print(summary(result))
    print("\n" + "\n".join(f"{path}{'/' if path.is_dir() else ''}" for path in written))
    return 0


def stored_settings(weights: str) -> InferenceConfig:
    """The inference settings that the checkpoint was validated with; the defaults for a released .pth."""
    if Path(weights).suffix in (".pth", ".pt"):
        return InferenceConfig()
    return from_dict(InferenceConfig, read_info(weights).extra.get("inference", {}), where="inference")


def with_size(config: InferenceConfig, short_side: int | None) -> InferenceConfig:
    """The settings at another input size, the longest side allowed growing with the short one."""
    if short_side is None:
        return config
    return replace(config, short_side=short_side, max_side=round(config.max_side * short_side / config.short_side))


def about(segmenter: Segmenter, weights: str, result: VideoResult) -> dict[str, Any]:
    """What made the masks, for masks.json."""
    return {"weights": weights, "protocol": segmenter.config.protocol.name, "mode": result.mode}


def summary(result: VideoResult) -> str:
    """A line per sentence: where it was found, and from which frame."""
    lines = []
    frames = len(result.masks[0])
    for sentence, key, masks_T in zip(result.sentences, result.key_E, result.masks, strict=True):
        found = sum(rle.area(mask) > 0 for mask in masks_T)
        where = f"in {found} of {frames} frames" if found else "not found"
        start = f", tracked from frame {key}" if key >= 0 and frames > 1 else ""
        lines.append(f"{sentence!r}: {where}{start}")
    return "\n".join(lines)


class Bars:
    """A progress bar per stage, one below the other: call it with (stage, done, total); a total of 0: not known yet."""

    def __init__(self) -> None:
        self._bars: dict[str, tqdm[Any]] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._bars:
            self._close()
            self._bars[stage] = tqdm(
                desc=stage, unit=" masks" if stage == "tracking" else " frames", dynamic_ncols=True,
                total=total or None, bar_format=None if total else "{desc} ...",
            )  # fmt: skip
        bar = self._bars[stage]
        if total:
            bar.total, bar.bar_format = total, None
        bar.update(done - bar.n)

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def _close(self) -> None:
        for bar in self._bars.values():
            bar.close()
