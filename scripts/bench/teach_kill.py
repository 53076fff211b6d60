"""Killing the teacher at random moments: it must go on where it was, and end with the same bytes.

    python -m scripts.bench.teach_kill --kills 40 > docs/benchmarks/teach_kill.log

A run over synthetic videos with scripted models is made once undisturbed. Then, again and again from nothing: a child
process runs the same command, is sent SIGKILL at a moment drawn uniformly from the processor time that an undisturbed
run takes, and the command is run again to its end. Every file of the data set and of the track store must be the same.
Linux alone tells the processor time of another process.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from scripts import data
from scripts import teach as teaching
from util.report import commit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=30, help="runs that are killed (default: %(default)s)")
    parser.add_argument("--videos", type=int, default=4, help="videos of the run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")


def write_source(folder: Path, videos: int, frames: int = 12) -> Path:
    """A small labelled data set, which scripted models answer from."""
    words = f"--layout mevis --videos {videos} --frames {frames} --size 48x64 --seed 7"
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        assert command(data, ["synth", "--out", str(folder), *words.split()]) == 0
    return folder


def teach(source: Path, out: Path) -> int:
    """The command that is killed."""
    scripted = ["--detector", "scripted", "--segmenter", "scripted", "--matcher", "scripted", "--device", "cpu"]
    return command(teaching, ["run", str(source), "--out", str(out), *scripted])


def command(module: Any, words: list[str]) -> int:
    """What `main.py` does with a command's words."""
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(words)))


def begin(work: Callable[[], int]) -> int:
    """Run `work` in a child process without output; gives its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
                status = work()
        finally:
            os._exit(status)
    return child


def end(child: int) -> int:
    """Wait for a child; gives its exit status, or minus the signal that ended it."""
    status = os.waitpid(child, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def digest(out: Path) -> dict[str, str]:
    """sha256 of every file of the data set and of the track store, by name."""
    found = {}
    for root in (out, out.with_name(out.name + ".work") / "tracks"):
        for path in sorted(root.rglob("*")):
            if path.is_file():
                found[f"{root.name}/{path.relative_to(root)}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def different(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """Names of files that only one of two digests has, or that differ."""
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def clear(out: Path) -> None:
    """Remove a run and everything it left."""
    for path in out.parent.glob(f"*{out.name}*"):
        shutil.rmtree(path)


def progress(out: Path) -> str:
    """How far a run had come: files of each stage."""
    work = out.with_name(out.name + ".work")
    stages = {stage: len(list((work / stage).rglob("*.json"))) for stage in ("ingest", "detect", "match", "score")}
    stages["track"] = len(list(work.glob("tracks/*/*/*/DONE")))
    half = len(list(work.rglob("*.partial"))) + len(list(out.parent.glob(f".{out.name}.partial")))
    return ", ".join(f"{name} {count}" for name, count in stages.items()) + f", half-written {half}"


def children_used() -> float:
    """Processor seconds of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def kill_once(source: Path, out: Path, after: float) -> tuple[bool, str]:
    """Kill a run after some processor seconds; whether it was still running, and how far it had come."""
    clear(out)
    child = begin(lambda: teach(source, out))
    while used(child) < after and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    return end(child) == -signal.SIGKILL, progress(out)


def used(child: int) -> float:
    """Processor seconds that a child process has used."""
    return int(Path(f"/proc/{child}/schedstat").read_text().split()[0]) / 1e9


def run(options: argparse.Namespace) -> int:
    """Kill as often as asked; exit status 1 where a resumed run differs."""
    draw, kills, differing = random.Random(options.seed), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        source, whole, out = (
            write_source(Path(folder) / "source", options.videos),
            Path(folder) / "whole",
            Path(folder) / "out",
        )
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            assert teach(source, whole) == 0  # in this process, so that no child spends its time on imports
        clear(whole)
        began = children_used()
        assert end(begin(lambda: teach(source, whole))) == 0
        seconds, expected = children_used() - began, digest(whole)
        print(f"# {sys.argv[0].rsplit('/', 1)[-1]} {' '.join(sys.argv[1:])}; commit {commit()}")
        print(f"undisturbed: {seconds:.2f} processor seconds, {len(expected)} files", flush=True)
        while kills < options.kills:
            after = draw.uniform(0, seconds)
            running, reached = kill_once(source, out, after)
            if not running:
                continue  # it had ended already: not a kill
            kills += 1
            status = end(begin(lambda: teach(source, out)))
            found = {name.replace("out", "whole", 1): value for name, value in digest(out).items()}
            same = status == 0 and found == expected
            differing += not same
            print(
                f"kill {kills:3} after {after:6.3f} s ({reached}): {'identical' if same else 'DIFFERENT'}", flush=True
            )
    print(f"{kills} kills, {differing} differing")
    return int(differing > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    sys.exit(run(parser.parse_args()))
