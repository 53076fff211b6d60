"""`main.py teach validate`: read a data set of masklets from end to end and say what is wrong with it."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "check a data set of masklets: schema, masks and states, quality, licences, evaluation videos"
WRONG = 4  # exit status where something is


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", type=Path, metavar="FOLDER", help="of the data set")


def run(options: argparse.Namespace) -> int:
    """Print the report. Raises InputError where there are no masklets."""
    from datasets.check.run import check

    report = check(options.root, kind="masklets", progress=True)
    print(report.page())
    return WRONG if report.faulty else 0
