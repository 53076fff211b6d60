"""Which rows and seeds are done, which are missing, and what identifies a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from models.inference import InferenceConfig
from scripts.evidence import analysis
from scripts.evidence.exam import SEED, Exam
from scripts.evidence.results import Results, State
from scripts.evidence.rows import Row, chosen_rows
from scripts.evidence.training import TrainingRun, hash_of, inference_of, training_run
from util.config import load_config, read_config
from util.errors import InputError


@dataclass(frozen=True)
class Work:
    """A training, and the rows that are to be asked of it."""

    training: TrainingRun
    rows: dict[str, Row] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """The rows of the grid on one base config, asked `videos` held-out videos of each split."""

    base: Path
    out: Path
    results: Results
    videos: int

    @cached_property
    def exam(self) -> Exam:
        """Raises InputError when the base config does not train on the synthetic world."""
        from engine import TrainConfig

        if self.videos < 1:
            raise InputError(f"{self.videos} videos of each split are to be asked; give at least 1")
        world = load_config(TrainConfig, self.base).data.sources[0].synthetic
        if world is None:
            raise InputError(
                f"the first source of {self.base} is not the synthetic world, of which the splits are made"
            )
        return Exam(world, self.videos)

    def training(self, row: Row, seed: int) -> TrainingRun:
        """The training that a row asks: clip mode has no tracks to choose among."""
        return training_run(row.training, seed, self.base, self.out, chooses=row.inference.get("mode") != "clip")

    def key(self, row: Row, training: TrainingRun) -> str:
        """A hash of everything that a row's numbers follow from, the code and the seed aside."""
        return hash_of([training.key, self.answer_key(row), exam_key(self.exam)])

    @cached_property
    def inference(self) -> InferenceConfig:
        """How networks are asked unless a row says otherwise."""
        from engine import TrainConfig

        return load_config(TrainConfig, self.base).validation.inference

    def answer_key(self, row: Row) -> str:
        """A hash of how a row asks its network."""
        other = [] if row.videos == "held-out" else [row.videos]
        return hash_of([self.asked(row), row.key, row.tracking, *other])

    def asked(self, row: Row) -> dict[str, Any]:
        """What the base config and the row say about inference."""
        return inference_of(read_config(self.base)) | dict(row.inference)

    @property
    def bounds_key(self) -> str:
        """A hash of the videos that all rows are asked about."""
        said = read_config(self.base)
        return hash_of([said.get("data", {}).get("sources"), exam_key(self.exam)])

    def state(self, name: str, row: Row, training: TrainingRun) -> State:
        return self.results.state(name, training.seed, self.key(row, training))

    def missing(self, names: Sequence[str], seeds: Sequence[int] | None) -> list[Work]:
        """What is to be done, the first seed of all rows before the second; rows that share a training together."""
        works: dict[tuple[int, str], Work] = {}
        for name, row in chosen_rows(names).items():
            for seed in seeds or range(row.seeds):
                training = self.training(row, seed)
                if self.state(name, row, training) != "done":
                    works.setdefault((seed, training.key), Work(training)).rows[name] = row
        return sorted(works.values(), key=lambda work: work.training.seed)

    def overview(self, names: Sequence[str], seeds: Sequence[int] | None) -> list[dict[str, Any]]:
        """A line for each row: what it is, which training it uses, what is done."""
        lines = []
        for name, row in chosen_rows(names).items():
            runs = [self.training(row, seed) for seed in seeds or range(row.seeds)]
            states = ", ".join(f"{run.seed}: {self.state(name, row, run)}" for run in runs)
            lines.append({
                "row": name, "what": row.about, "training": f"{row.training}-{runs[0].key}",
                "trained here": f"{sum(run.finished for run in runs)} of {len(runs)}", "seeds": states,
            })  # fmt: skip
        return lines


def exam_key(exam: Exam) -> str:
    """A hash of what is asked and how it is counted; the world itself is part of the training's key."""
    return hash_of([exam.videos, SEED, analysis.DISTANCE, analysis.SINCE, analysis.RIGHT])
