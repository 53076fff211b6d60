"""`main.py teach convert`: original files of SAM 2 (.pt) and Grounding DINO (.pth) as folders for transformers."""

from __future__ import annotations

import argparse
from pathlib import Path

from util.errors import InputError

HELP = "turn Meta's SAM 2 (.pt) or the original Grounding DINO (.pth) into a folder that every job takes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="IN.pt|IN.pth", type=Path, help="the original file")
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder to write")
    parser.add_argument("--tokenizer", metavar="PATH|ID", help="of Grounding DINO's text (bert-base-uncased)")


def run(options: argparse.Namespace) -> int:
    """Convert and say what it was. Raises InputError when the file is none of them or does not fit key for key."""
    if options.source.suffix == ".pt":
        from models.teacher.convert.sam2 import convert_sam2

        name = convert_sam2(options.source, options.out)
    elif options.source.suffix == ".pth":
        from models.teacher.convert.grounding_dino import BERT, convert_grounding_dino

        name = convert_grounding_dino(options.source, options.out, tokenizer=options.tokenizer or BERT)
    else:
        raise InputError(f"{options.source} is neither a .pt file of SAM 2 nor a .pth file of Grounding DINO")
    print(f"{options.source}: {name}, every weight in its place\nwrote {options.out}/")
    return 0
