"""`python main.py train`: train a network from a YAML config, or go on with a run that stopped."""

from __future__ import annotations

import argparse
import json

from util.config import load_config

HELP = "Train a network from a config; the same command again goes on where it stopped."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", default="configs/tiny.yaml", help="YAML file that overrides defaults")
    parser.add_argument("--output-dir", help="where checkpoints, logs and pictures go (config: output_dir)")
    parser.add_argument("--resume", help="auto (default), never, or a checkpoint's folder (config: resume)")
    parser.add_argument("--device", help="auto (default), cpu, cuda or cuda:N (config: device)")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="single settings, for example optim.lr=1e-4 steps=2000"
    )


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when the run is complete, 128 + the signal when one stopped it (saved)."""
    from engine import TrainConfig, train

    named = {"output_dir": options.output_dir, "resume": options.resume, "device": options.device}
    overrides = [f"{key}={json.dumps(value)}" for key, value in named.items() if value is not None]
    outcome = train(load_config(TrainConfig, options.config, [*options.overrides, *overrides]))
    return 0 if outcome.stopped is None else 128 + outcome.stopped
