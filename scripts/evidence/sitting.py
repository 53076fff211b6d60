"""Working off the grid: train, ask, write the result; whatever is cut short goes on at the next sitting.

What a network answers is kept split by split in its training's folder, so that a kill costs one split at most.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from datasets.synthetic.scenes import SPLITS, Split
from scripts.evidence.analysis import Trace, analyse
from scripts.evidence.bounds import bounds_of
from scripts.evidence.exam import Candidate
from scripts.evidence.grid import Grid, Work, exam_key
from scripts.evidence.rows import Row
from scripts.evidence.training import TrainingRun, check, curve, facts, train
from util.distributed import World
from util.report import provenance, write_json
from util.sharing import share
from util.types import ReferringVideo

if TYPE_CHECKING:
    from models.segmenter import Segmenter


@dataclass(frozen=True)
class Sitting:
    """`deadline` of `time.monotonic()`; `processes` train together, and share the videos where there is no GPU."""

    grid: Grid
    processes: int
    device: torch.device
    deadline: float

    def work_off(self, works: Sequence[Work]) -> bool:
        """Do it all; False when the time was over before. Raises InputError for configs and trainings that fail."""
        for work in works:
            check(work.training)
        self._bound()
        for number, work in enumerate(works, 1):
            run = work.training
            say(f"[{number} of {len(works)}] {run.name}, seed {run.seed}: {', '.join(work.rows)}")
            finished = time.monotonic() < self.deadline and train(
                run, processes=self.processes, device=str(self.device), deadline=self.deadline, say=say
            )
            if not finished or not self._ask(run, work.rows):
                return False
            for name, row in work.rows.items():
                say(f"  wrote {self._write(name, row, run)}")
        return True

    def _bound(self) -> None:
        """Measure what needs no network, once for all rows: a minute."""
        grid = self.grid
        if grid.results.bounds_key() != grid.bounds_key:
            say("measuring what true masks alone reach")
            content = bounds_of(grid.exam, grid.bounds_key, grid.base, self.processes)
            say(f"  wrote {grid.results.write_bounds(content)}")

    def _ask(self, run: TrainingRun, rows: Mapping[str, Row]) -> bool:
        """Ask what has not been asked yet; every video is read once for all rows."""
        from models.checkpoint import load_segmenter

        open_: dict[Split, dict[str, Row]] = {}
        for split in SPLITS:
            for name, row in rows.items():
                if not _answers(self.grid, run, row, split).is_file():
                    open_.setdefault(split, {})[name] = row
        if not open_:
            return True
        segmenter = load_segmenter(str(run.model), device=self.device)
        for split, asked in open_.items():
            if time.monotonic() >= self.deadline:
                return False
            self._ask_split(segmenter, run, asked, split)
        return True

    def _ask_split(self, segmenter: Segmenter, run: TrainingRun, rows: Mapping[str, Row], split: Split) -> None:
        for asked in dict.fromkeys(row.videos for row in rows.values()):
            alike = [row for row in rows.values() if row.videos == asked]
            videos = self.grid.exam.videos_of(split, asked)

            def answered(
                number: int, videos: Sequence[ReferringVideo] = videos, alike: Sequence[Row] = alike
            ) -> list[list[Trace]]:
                video = videos[number]
                if not video.expressions:
                    return [[] for _ in alike]
                candidate = Candidate(segmenter, video, self.grid.inference)
                return [candidate.traces(row) for row in alike]

            began = time.monotonic()
            processes = 1 if self.device.type == "cuda" else self.processes
            found = share(answered, len(videos), World(0, 1, self.device), processes=processes, progress=True)
            seconds = time.monotonic() - began
            for place, row in enumerate(alike):
                traces = [trace for video in found for trace in video[place]]
                numbers = analyse(traces) if traces else {}  # a control may have nothing to ask of a split
                write_json(_answers(self.grid, run, row, split), numbers)
            say(f"  {split}, {asked}: {len(videos)} videos, {len(alike)} rows, {seconds:.1f} s")

    def _write(self, name: str, row: Row, run: TrainingRun) -> Path:
        grid = self.grid
        paths = {split: _answers(grid, run, row, split) for split in SPLITS}
        about = {
            "row": name, "about": row.about, "key": grid.key(row, run), "training": facts(run, grid.base),
            "asked": {"inference": grid.asked(row), "key": row.key, "tracking": row.tracking,
                      "of": row.videos, "videos": grid.videos},
            "made": provenance(self.device),
        }  # fmt: skip
        splits = {split: json.loads(path.read_text(encoding="utf-8")) for split, path in paths.items()}
        asked = {split: numbers for split, numbers in splits.items() if numbers}
        content: dict[str, Any] = {**about, "splits": asked, "curve": curve(run)}
        return grid.results.write(name, run.seed, content)


def _answers(grid: Grid, run: TrainingRun, row: Row, split: Split) -> Path:
    """Where the numbers of a row on a split wait for those of the other splits."""
    return run.folder / "answers" / f"{grid.answer_key(row)}-{exam_key(grid.exam)}-{split}.json"


def say(message: str) -> None:
    print(message, flush=True)
