"""`main.py teach JOB`: foundation models label videos for a student; each job is one file of scripts/teaching."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

HELP = "label videos with foundation models: tracks, masks of sentences, data sets to train on"

JOBS = Path(__file__).resolve().parent / "teaching"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A sub-parser for each job: the files with a line of HELP. They import nothing heavy before they run."""
    jobs = parser.add_subparsers(dest="job", metavar="JOB", required=True)
    for path in sorted(JOBS.glob("*.py")):
        job = importlib.import_module(f"scripts.teaching.{path.stem}")
        if hasattr(job, "HELP"):
            subparser = jobs.add_parser(path.stem.replace("_", "-"), help=job.HELP, description=job.HELP)
            job.add_arguments(subparser)
            subparser.set_defaults(run_job=job.run)


def run(options: argparse.Namespace) -> int:
    """Run the job asked for; returns the exit status."""
    return int(options.run_job(options))
