"""What a student learns from masklets of different worth, beside one that learns from true labels.

    python -m scripts.bench.students --workers 2 --out docs/benchmarks

Every arm (scripts/bench/student_data.py) is a data set of the same synthetic videos, and a training of its own by
`main.py train`: the same config, seed and number of steps, about ten minutes of one core. Then `main.py eval` asks all
students about the same held-out videos, beside an answer that reads no sentence: a random object's true mask.

The same command goes on where it stopped: data sets, trainings and scores that are whole are not made again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scripts.bench.student_data import ARMS, FAULTLESS, Plan, make, worth, write_true
from scripts.evidence.training import TrainingRun, check, curve, hash_of, train
from util.config import read_config, to_dict
from util.errors import InputError
from util.report import ROOT, provenance, table, write_json


@dataclass(frozen=True)
class Study:
    """config: what students are trained with; overrides: single settings of it, as KEY=VALUE; work: where it goes."""

    plan: Plan
    config: Path
    overrides: tuple[str, ...]
    work: Path

    @property
    def held_out(self) -> Path:
        return self.work / f"asked-{hash_of(to_dict(self.plan.asked))}"

    def plan_of(self, arm: str) -> Plan:
        """Without the rate of faults where there are none, so that arms without serve every rate."""
        return replace(self.plan, rate=0.0) if arm in FAULTLESS else self.plan

    def data(self, arm: str) -> Path:
        """Folder of an arm's data set and of what it is made from."""
        return self.work / f"data-{hash_of(to_dict(self.plan_of(arm)))}"

    def training(self, arm: str, seed: int) -> TrainingRun:
        """Of an arm. Its folder's name is a hash of the config and of the plan."""
        said = read_config(self.config, self.overrides)
        sources = [{"kind": "masklets", "root": str((self.data(arm) / arm).resolve())}]
        key = hash_of([said, to_dict(self.plan_of(arm))])
        folder = self.work / f"{arm}-{key}" / f"seed{seed}"
        data = said.get("data", {}) | {"sources": sources, "seed": 1000 + seed}
        return TrainingRun(arm, seed, said | {"data": data, "seed": seed, "output_dir": str(folder)}, key, folder)


def prepare(study: Study, arms: Sequence[str]) -> dict[str, dict[str, float]]:
    """Make the data sets of the arms and of the held-out videos; what each arm's labels are worth."""
    write_true(study.plan.asked, study.held_out, "valid")
    found = {}
    for arm in arms:
        root = make(arm, study.plan_of(arm), study.data(arm))
        known = root.with_name(f"{arm}.worth.json")
        if not known.is_file():
            write_json(known, worth(root, study.plan.world))
        found[arm] = json.loads(known.read_text(encoding="utf-8"))
        say(f"{arm}: {', '.join(f'{name} {value:.3f}' for name, value in found[arm].items())}")
    return found


def learn(study: Study, run: TrainingRun) -> dict[str, Any]:
    """Train and ask, where it is not done: the summary of `main.py eval`. Raises InputError where either fails.

    Its "other" is J&F of the student asked another sentence of the same video: what it scores without reading.
    """
    train(run, processes=1, device="cpu", deadline=math.inf, say=say)
    student = ["--weights", str(run.model.resolve())]
    other = ask(study, [*student, "--sentence", "other"], run.folder / "other")
    return ask(study, student, run.folder / "asked") | {"other": other["J&F"]}


def ask(study: Study, answer: Sequence[str], out: Path) -> dict[str, Any]:
    """`main.py eval` of an answer on the held-out videos, kept in `out`: its summary. Raises InputError on failure."""
    results = out / f"{study.held_out.name}.json"
    if not results.is_file():
        words = ["main.py", "eval", *answer, "--data", "masklets", "--split", "valid", "--device", "cpu"]
        where = ["--root", str(study.held_out.resolve()), "--out", str(out.resolve())]
        done = subprocess.run([sys.executable, *words, *where], cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise InputError(f"main.py eval stopped with status {done.returncode}; its messages are above")
        (out / "results.json").replace(results)
    summary: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))["summary"]
    return summary


def row(
    arm: str, labels: dict[str, float], runs: Sequence[TrainingRun], asked: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """An arm's line: its labels, and means over the seeds of what its students scored."""
    scores = [summary["J&F"] for summary in asked]
    minutes = [json.loads((run.folder / "finished.json").read_text(encoding="utf-8"))["seconds"] / 60 for run in runs]
    return {
        "labels": arm, **labels,
        **{name: float(np.mean([summary[name] for summary in asked])) for name in ("J&F", "J", "F", "other")},
        "lowest": min(scores), "highest": max(scores), "minutes": float(np.mean(minutes)),
    }  # fmt: skip


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def study_arms(study: Study, arms: Sequence[str], seeds: Sequence[int], workers: int) -> dict[str, Any]:
    """Everything that is missing is made; `rows` of the table, curves of the losses, and what needs no student."""
    for arm in arms:
        check(study.training(arm, seeds[0]))  # before anything is made
    labels = prepare(study, arms)
    trivial = ask(study, ["--baseline", "random"], study.work / "random")
    runs = {arm: [study.training(arm, seed) for seed in seeds] for arm in arms}
    with ThreadPoolExecutor(workers) as pool:
        # seed by seed, so that a table of all arms is there as early as possible
        waiting = {(arm, n): pool.submit(learn, study, runs[arm][n]) for n in range(len(seeds)) for arm in arms}
        asked = {place: future.result() for place, future in waiting.items()}
    rows = [row(arm, labels[arm], runs[arm], [asked[arm, n] for n in range(len(seeds))]) for arm in arms]
    return {
        "rows": rows,
        "random object": {name: trivial[name] for name in ("J&F", "J", "F")},
        "sentences asked": trivial["expressions"],
        "curves": {arm: curve(runs[arm][0]) for arm in arms},
    }


def main() -> None:
    plan = Plan()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="(default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the trainings (default: 0)")
    parser.add_argument("--videos", type=int, default=plan.world.videos, help="to learn (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=plan.rate, help="of each fault (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="trainings at a time (default: %(default)s)")
    parser.add_argument("--config", type=Path, default=Path("configs/student.yaml"), help="(default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("output/students"), help="folder (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for students.json")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one setting of the config, such as steps=100"
    )
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that are started: one core each
    plan = replace(plan, world=replace(plan.world, videos=options.videos), rate=options.rate)
    study = Study(plan, options.config, tuple(options.set), options.work)
    found = study_arms(study, options.arms, options.seeds, options.workers)
    print(table(found["rows"]))
    print(table([{"answer": "a random object's true mask", **found["random object"]}]))
    if options.out:
        about = {"plan": to_dict(plan), "arms": ARMS, "seeds": options.seeds, "config": options.config.as_posix()}
        print(write_json(options.out / "students.json", {**provenance(), **about, **found}))


if __name__ == "__main__":
    main()
