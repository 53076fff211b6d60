"""Turn a released ReferFormer or TF-RVOS .pth into a checkpoint of ours, and say what became of every key."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from models.checkpoint import convert_released, write_checkpoint
from models.released import Tracking
from models.text_encoder import build_tokenizer
from util.errors import InputError

HELP = "convert released ReferFormer or TF-RVOS weights (.pth) to safetensors with the config inside"
REPORT_FILE = "conversion.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="IN.pth", type=Path, help="the released file")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write")
    parser.add_argument("--text-encoder", metavar="PATH|ID", help="folder or hub id of the tokenizer (roberta-base)")
    parser.add_argument(
        "--tracking", choices=("none", "rgb"), default="none", help="rgb for TF-RVOS weights; the keys are the same"
    )


def run(options: argparse.Namespace) -> int:
    return convert(options.source, options.out, options.text_encoder, options.tracking)


def convert(source: Path, out: Path, text_encoder: str | None, tracking: Tracking) -> int:
    """Write `out`/model.safetensors, tokenizer.json (with `text_encoder`) and conversion.json, and print the report."""
    config, weights, report = convert_released(source, text_encoder=text_encoder, tracking=tracking)
    # The tokenizer first: a wrong --text-encoder should not leave half a checkpoint.
    tokenizer = build_tokenizer(config.text, search=None) if text_encoder else None
    facts = {**report.facts, "sha256": _sha256(source)}
    path = write_checkpoint(weights, config, out, tokenizer, extra=facts)
    (out / REPORT_FILE).write_text(json.dumps({**report.to_dict(), "facts": facts}, indent=1), encoding="utf-8")
    print(f"{source} (sha256 {facts['sha256'][:16]}...): {config.backbone.name}, {config.queries} queries, "
          f"{config.classes} classes, tracking {config.tracking}, protocol {config.protocol.name}")  # fmt: skip
    print(report)
    print(f"wrote {path}; every key is in {out / REPORT_FILE}")
    if tokenizer is None:
        print("no tokenizer was given: roberta-base is fetched from the Hugging Face hub when the weights are used; "
              "to work offline, convert again with --text-encoder FOLDER")  # fmt: skip
    return 0


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error
