"""The teacher over many videos: whose they are, what became of each, and going on when one is bad."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from models.teacher.stages import Outcome, Shard, Stopwatch, attempt, note
from util import atomic
from util.errors import InputError
from util.types import ReferringVideo

Work = Callable[[ReferringVideo, Stopwatch], tuple[bool, str]]  # whether anything is kept, and the answers' key


@dataclass(frozen=True)
class Report:
    """What became of the videos that this worker took. `busy`: left to another worker, which has them now."""

    outcomes: tuple[Outcome, ...]
    busy: tuple[str, ...]
    seconds: float

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.status == "error")

    def page(self) -> str:
        """A summary: how many, how long in which stage, and what failed."""
        counts = Counter(outcome.status for outcome in self.outcomes)
        lines = [
            f"{len(self.outcomes)} videos in {self.seconds:.1f} s: {counts['ok']} with masklets, "
            f"{counts['empty']} without, {counts['error']} failed"
        ]
        stages: Counter[str] = Counter()
        for outcome in self.outcomes:
            stages.update(outcome.seconds)
        if stages:
            lines.append("seconds: " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in stages.items()))
        for outcome in self.failed:
            assert outcome.error is not None
            lines.append(f"failed: {outcome.video_id} in {outcome.stage or 'reading'}: {outcome.error['message']}")
        if self.busy:
            lines.append(f"left to another worker, which has them now: {', '.join(self.busy)}")
        return "\n".join(lines)


def video_ids(videos: Sequence[ReferringVideo]) -> list[str]:
    """Ids of all videos, without making one where the list knows them."""
    known = getattr(videos, "ids", None)
    return list(known) if known is not None else [videos[number].id for number in range(len(videos))]


def chosen(ids: Sequence[str], shard: Shard) -> list[int]:
    """Places of the videos that are this shard's."""
    return [place for place, video_id in enumerate(ids) if shard.has(video_id)]


def work_through(
    videos: Sequence[ReferringVideo], work: Work, root: Path, *, shard: Shard | None = None, run: str = ""
) -> Report:
    """Run `work` on this shard's videos, each under a lock, and note what became of each in the manifest of the `run`.

    A video that raises is noted and left; the next time it is tried again. `root` is the folder of the stages. Raises
    InputError where two videos have one id.
    """
    shard, began = shard or Shard(), time.perf_counter()
    ids = video_ids(videos)
    if len(set(ids)) < len(ids):
        raise InputError("two videos have one id; rename one, so that their results are kept apart")
    outcomes, busy = [], []
    # progress and the time that is left, where someone watches
    bar = tqdm(chosen(ids, shard), desc="teaching", unit="video", disable=None, dynamic_ncols=True)
    for place in bar:
        with atomic.locked(root / "locks" / f"{ids[place]}.lock") as mine:
            if not mine:
                busy.append(ids[place])
                continue
            watch = Stopwatch(progress=partial(_show, bar, ids[place]))
            outcome = attempt(ids[place], partial(_one, videos, place, work), watch)
            note(root, shard, outcome, run)
            outcomes.append(outcome)
    return Report(tuple(outcomes), tuple(busy), time.perf_counter() - began)


def _one(videos: Sequence[ReferringVideo], place: int, work: Work, watch: Stopwatch) -> tuple[bool, str]:
    return work(videos[place], watch)


def _show(bar: tqdm[Any], video_id: str, stage: str, done: int, total: int) -> None:
    """Beside the bar: which video is where, since one may take an hour."""
    bar.set_postfix_str(f"{video_id}: {stage}" + (f" {done}/{total}" if total else ""))
