"""`python main.py train`: train a network from a YAML config, or go on with a run that stopped."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from util.config import load_config

if TYPE_CHECKING:
    from datasets.sources import SourceConfig

HELP = "Train a network from a config; the same command again goes on where it stopped."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", default="configs/tiny.yaml", help="YAML file that overrides defaults")
    parser.add_argument("--output-dir", help="where checkpoints, logs and pictures go (config: output_dir)")
    parser.add_argument("--resume", help="auto (default), never, or a checkpoint's folder (config: resume)")
    parser.add_argument("--device", help="auto (default), cpu, cuda or cuda:N (config: device)")
    parser.add_argument(
        "--skip-bad", action="store_true",
        help="read all data first, set videos aside that cannot be read, and list them (config: skip_bad of a source)",
    )  # fmt: skip
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="single settings, for example optim.lr=1e-4 steps=2000"
    )


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when the run is complete, 128 + the signal when one stopped it (saved)."""
    from engine import TrainConfig, train

    named = {"output_dir": options.output_dir, "resume": options.resume, "device": options.device}
    overrides = [f"{key}={json.dumps(value)}" for key, value in named.items() if value is not None]
    config = load_config(TrainConfig, options.config, [*options.overrides, *overrides])
    if options.skip_bad:
        held_out = config.validation.source
        config = replace(
            config,
            data=replace(config.data, sources=tuple(replace(s, skip_bad=True) for s in config.data.sources)),
            validation=replace(config.validation, source=held_out and replace(held_out, skip_bad=True)),
        )
    outcome = train(config)
    _list_skipped([*config.data.sources, *([config.validation.source] if config.validation.source else [])])
    return 0 if outcome.stopped is None else 128 + outcome.stopped


def _list_skipped(sources: Sequence[SourceConfig]) -> None:
    """Print which videos were set aside, on the first rank."""
    from datasets.skipping import GoodVideos
    from datasets.sources import eval_videos

    if os.environ.get("RANK", "0") != "0":
        return
    for source in dict.fromkeys(source for source in sources if source.skip_bad):
        videos = eval_videos(source)  # known already: nothing is read again
        if isinstance(videos, GoodVideos) and videos.skipped:
            print(videos.listing())
