"""J and F, measured: frames per second beside davis2017-evaluation on the same masks, and with more processes.

    git clone https://github.com/davisvideochallenge/davis2017-evaluation ../davis2017-evaluation
    pip install scikit-image pandas
    python -m scripts.bench.scores --reference ../davis2017-evaluation --out docs/benchmarks

Masks are synthetic objects at 480x854 with a prediction a few pixels off, or those of two folders of PNGs with the same
names (`--predictions`, `--truth`). All masks are in memory before the clock starts. One process and one thread each for
the comparison; then our own with more processes, each scoring the same frames. The reference is imported from where it
lies; without it only ours is measured.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from util.errors import InputError
from util.metrics import j_and_f
from util.report import provenance, table, write_json

Pair = tuple[np.ndarray, np.ndarray]  # predicted and true masks bool [T, H, W]
Scores = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def synthetic_masks(frames: int, size: tuple[int, int]) -> Pair:
    """Masks of a video's first object, and the same moved by three pixels with a rough edge."""
    video = SyntheticVideos(SyntheticConfig(videos=1, frames=frames, height=size[0], width=size[1]))[0]
    assert video.masks is not None
    ids = next(expression.object_ids for expression in video.expressions if expression.object_ids)
    truth = np.stack([video.masks.read(t, ids)[0].any(0) for t in range(frames)])
    rng = np.random.default_rng(0)
    noise = [cv2.GaussianBlur(rng.standard_normal(size, np.float32), (0, 0), 4) for _ in range(frames)]
    soft = [cv2.GaussianBlur(np.roll(mask, 3, 1).astype(np.float32), (0, 0), 3) for mask in truth]
    predicted = np.stack([blurred + rough > 0.5 for blurred, rough in zip(soft, noise, strict=True)])
    return predicted, truth


def folder_masks(predictions: Path, truth: Path) -> Pair:
    """Masks of all PNGs that lie under both folders at the same place. Raises InputError when there are none."""
    names = sorted(path.relative_to(predictions) for path in predictions.rglob("*.png"))
    names = [name for name in names if (truth / name).is_file()]
    if not names:
        raise InputError(f"{predictions} and {truth} have no PNG in common; give folders with the same names")
    pairs = [[np.asarray(Image.open(root / name).convert("L")) > 0 for name in names] for root in (predictions, truth)]
    first = pairs[0][0].shape
    same = [n for n in range(len(names)) if pairs[0][n].shape == pairs[1][n].shape == first]
    return np.stack([pairs[0][n] for n in same]), np.stack([pairs[1][n] for n in same])


def reference_scores(folder: Path) -> Scores:
    """J and F of davis2017-evaluation. Raises InputError when it is not there or lacks a package."""
    sys.path.insert(0, str(folder))
    try:
        from davis2017.metrics import db_eval_boundary, db_eval_iou
        from skimage.morphology import disk  # noqa: F401  # which it imports while the clock runs
    except ImportError as error:
        raise InputError(f"cannot import davis2017-evaluation from {folder}: {error}") from error
    return lambda predicted, truth: (db_eval_iou(truth, predicted), db_eval_boundary(truth, predicted))


def seconds(scores: Scores, pair: Pair, repeats: int) -> float:
    """CPU time of the fastest of several runs over all frames, after a frame to warm up."""
    scores(pair[0][:1], pair[1][:1])
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        scores(*pair)
        taken.append(time.process_time() - began)
    return min(taken)


def in_processes(pair: Pair, processes: int, repeats: int) -> float:
    """Frames per second of all processes together, each scoring all frames after the others are ready."""
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(processes), context.Queue()

    def work() -> None:
        j_and_f(pair[0][:1], pair[1][:1])
        barrier.wait()
        began = time.perf_counter()
        for _ in range(repeats):
            j_and_f(*pair)
        queue.put((began, time.perf_counter()))

    workers = [context.Process(target=work) for _ in range(processes)]
    for worker in workers:
        worker.start()
    spans = [queue.get() for _ in workers]
    for worker in workers:
        worker.join()
    wall = max(end for _, end in spans) - min(began for began, _ in spans)
    return processes * repeats * len(pair[0]) / wall


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="checkout of davis2017-evaluation")
    parser.add_argument("--predictions", type=Path, help="folder of PNGs, with --truth")
    parser.add_argument("--truth", type=Path, help="folder of PNGs")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--size", default="480x854", help="HEIGHTxWIDTH (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--processes", type=int, nargs="*", help="default: 1, 2, 4, ... up to the cores")
    parser.add_argument("--out", type=Path, help="folder for scores.json")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.predictions and options.truth:
        pair = folder_masks(options.predictions, options.truth)
    else:
        height, width = (int(side) for side in options.size.split("x"))
        pair = synthetic_masks(options.frames, (height, width))
    report = compared(pair, options.reference, options.repeats)
    counts = options.processes or [2**n for n in range(16) if 2**n <= (os.cpu_count() or 1)]
    report["processes"] = [{"processes": n, "frames/s": in_processes(pair, n, options.repeats)} for n in counts]
    for row in report["processes"]:
        row["of linear"] = row["frames/s"] / row["processes"] / report["processes"][0]["frames/s"] * counts[0]
    print(table(report["one process"]), table(report["processes"]), sep="\n\n")
    if options.out is not None:
        print(f"wrote {write_json(options.out / 'scores.json', report | provenance())}")
    return 0


def compared(pair: Pair, reference: Path | None, repeats: int) -> dict[str, Any]:
    """CPU milliseconds per frame of both, how many times faster ours is, and how far the numbers lie apart."""
    frames, height, width = pair[0].shape
    ours = 1000 * seconds(j_and_f, pair, repeats) / frames
    row: dict[str, Any] = {"masks": f"{frames} of {height}x{width}", "ours ms/frame": ours}
    if reference is not None:
        official = reference_scores(reference)
        row["reference ms/frame"] = 1000 * seconds(official, pair, repeats) / frames
        row["times faster"] = row["reference ms/frame"] / ours
        differences = [np.abs(a - b).max() for a, b in zip(j_and_f(*pair), official(*pair), strict=True)]
        row |= {"largest difference J": f"{differences[0]:.1e}", "F": f"{differences[1]:.1e}"}
    return {"one process": [row]}


if __name__ == "__main__":
    sys.exit(main())
