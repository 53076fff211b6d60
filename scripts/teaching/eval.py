"""`main.py teach eval`: masklets beside labels: J&F, coverage, and at which step each sentence was lost."""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.teaching.source import open_data_set

HELP = "score masklets against labels, and say at which step the rest was lost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", type=Path, metavar="FOLDER", help="of the masklets, as `teach run` wrote it")
    parser.add_argument("--gt", type=Path, required=True, metavar="LABELLED", help="data set with the true masks")
    parser.add_argument("--layout", help="of the labels (default: found out)")
    parser.add_argument("--split", help="of the labels (default: train, or the only one)")
    parser.add_argument("--work", type=Path, help="what the stages left (default: FOLDER.work if there is one)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON to write the numbers to")


def run(options: argparse.Namespace) -> int:
    """Print the report. Raises InputError where masklets and labels are not of the same videos."""
    from models.teacher.evaluating import evaluate
    from util.errors import InputError
    from util.report import provenance, write_json

    labelled = open_data_set(options.gt, options.layout, options.split)
    beside = options.root.with_name(options.root.name + ".work")
    work = options.work or (beside if beside.is_dir() else None)
    if work is not None and not (work / "tracks").is_dir():
        raise InputError(f"{work} holds no tracks; give the --work of the `teach run` that wrote the masklets")
    found = evaluate(options.root, labelled, work)
    print(found.page())
    if options.out:
        print(f"wrote {write_json(options.out, {**found.to_dict(), **provenance()})}")
    return 0
