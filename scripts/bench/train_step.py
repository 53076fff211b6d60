"""Training, measured: seconds of an optimizer step, time spent waiting for data, peak memory, work by part.

    python -m scripts.bench.train_step --config configs/tiny.yaml --quick
    python -m scripts.bench.train_step --config configs/ref_youtube_vos_r50.yaml --synthetic 360x640 --device cuda

With --synthetic nothing is fetched or read from disk: the data are the synthetic world's at that size, and the weights
are random, those of the text encoder too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from datasets.loader import train_batches
from datasets.sources import SourceConfig
from datasets.synthetic import SyntheticConfig
from engine import TrainConfig, optimise, start
from scripts.bench.cost import multiply_adds, parameters, peak_memory
from scripts.bench.network import published_text
from util.config import load_config, to_dict
from util.distributed import join_world, leave_world
from util.report import provenance, table, write_json

WARM_UP = 2
WORDS = 12


def without_files(config: TrainConfig, size: tuple[int, int]) -> TrainConfig:
    """The same recipe on synthetic videos of `size` (height, width), from random weights."""
    world = SyntheticConfig(height=size[0], width=size[1])
    data = replace(config.data, sources=(SourceConfig(kind="synthetic", synthetic=world),))
    text = replace(published_text(), freeze=config.model.text.freeze)
    model = replace(config.model, text=text)
    return replace(config, data=data, model=model, weights=None, backbone_weights=None)


def measure(config: TrainConfig, steps: int) -> dict[str, Any]:
    """Medians over `steps` optimizer steps after a warm-up, on this process's share of the batch."""
    world = join_world(config.device)
    run = start(config, world)
    batches = train_batches(
        config.data, per_rank=config.batch // world.size, rank=world.rank, world=world.size, start=run.step
    )
    waits, works, frames = [], [], 0
    for step in range(WARM_UP + steps):
        began = time.perf_counter()
        batch = next(batches)
        loaded = time.perf_counter()
        optimise(run, batch)
        if world.device.type == "cuda":
            torch.cuda.synchronize(world.device)
        if step >= WARM_UP:
            waits.append(loaded - began)
            works.append(time.perf_counter() - loaded)
            frames += batch.times_BT.numel()
    peak = peak_memory(world.device)
    height, width = batch.frames_BTCHW.shape[-2:]
    run.segmenter.eval()
    work = multiply_adds(run.segmenter, batch.times_BT.shape[1], (height, width), WORDS)
    counts = parameters(run.segmenter)
    run.log.close()
    seconds = statistics.median(works)
    row = {
        "clips/step": config.batch,
        "canvas": f"{height}x{width}",
        "s/step": seconds,
        "waiting for data s": statistics.median(waits),
        "clips/s": config.batch / seconds,
        "frames/s": frames * world.size / (sum(waits) + sum(works)),
        "peak MiB": peak,
    }
    return {"row": row, "seconds": works, "parameters": counts, "multiply_adds_forward": work, "ranks": world.size}


def main() -> None:
    options = _options()
    config = load_config(TrainConfig, options.config, options.overrides)
    if options.synthetic:
        height, width = (int(side) for side in options.synthetic.split("x"))
        config = without_files(config, (height, width))
    steps = 3 if options.quick else options.steps
    with tempfile.TemporaryDirectory() as folder:
        config = replace(
            config, output_dir=Path(folder), resume="never", device=options.device, steps=10**6, epochs=None,
            validation=replace(config.validation, source=None),
        )  # fmt: skip
        measured = measure(config, steps)
    print(table([measured["row"]]))
    work = measured["multiply_adds_forward"]
    if work:
        print(f"forward, one clip: {sum(work.values()) / 1e9:.1f} G multiply-adds; backward about twice as much")
    if options.out is not None:
        told = to_dict(replace(config, output_dir=Path()))  # the folder is gone
        about = {"config": told, "file": options.config, **provenance(join_world(options.device).device)}
        name = f"train_step_{Path(options.config).stem}.json"
        print(f"wrote {write_json(options.out / name, {**about, **measured})}")
    leave_world()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="configs/tiny.yaml")
    parser.add_argument(
        "--synthetic", metavar="HEIGHTxWIDTH", help="synthetic data and random weights: nothing is read"
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="3 steps")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="folder for the JSON result")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="single settings of the config")
    return parser.parse_args()


if __name__ == "__main__":
    main()
