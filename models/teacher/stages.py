"""What the stages of the teacher leave on disk: one file for each (stage, video, key), found again or made again.

    WORK/STAGE/VIDEO/KEY.json      {"content": ..., "sha256": ...}: a stage's answer; KEY is a hash of all it depends on
    WORK/manifest/I-of-N.jsonl     a line for each video that a worker went through: status, seconds, memory, error
    WORK/locks/VIDEO.lock          held by the worker that has the video

A key covers the stage, its version, its settings, its models and the keys of what it reads, so a setting that changes
makes anew what depends on it and nothing else, and a run that was killed finds what is finished.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from datasets import tree
from models.teacher.interfaces import ModelInfo
from util import atomic
from util.errors import InputError

Status = Literal["ok", "empty", "error"]
T = TypeVar("T")


def stage_key(
    stage: str, version: int, *, settings: Mapping[str, Any], models: Sequence[ModelInfo], inputs: Sequence[str]
) -> str:
    """sha256 of everything that a stage's answer depends on. `version` is raised when its code answers differently."""
    description = {
        "stage": stage, "stage_version": version, "settings": settings, "inputs": list(inputs),
        "models": [asdict(model) for model in models],
    }  # fmt: skip
    return atomic.sha256(atomic.canonical(description))


def shard_of(video_id: str, shards: int) -> int:
    """Which of `shards` workers a video belongs to; the same on every machine."""
    return int.from_bytes(hashlib.sha256(video_id.encode()).digest()[:8], "big") % shards


@dataclass(frozen=True)
class Shard:
    """One of several workers that share the videos: number `index` of `count`, from 0."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "i/n". Raises InputError for another form."""
        parts = text.split("/")
        if len(parts) != 2 or not all(part.isascii() and part.isdecimal() for part in parts):
            raise InputError(f"--shard {text} is not i/n; of four workers the first is 0/4")
        index, count = int(parts[0]), int(parts[1])
        if not index < count:
            raise InputError(f"--shard {text}: of {count} workers the numbers are 0 to {count - 1}")
        return cls(index, count)

    def has(self, video_id: str) -> bool:
        return shard_of(video_id, self.count) == self.index


class Stopwatch:
    """Seconds by stage, of those that were run and not found. A stage that asks for another is not charged for it.

    `progress` is told (stage, done, total) when a stage begins, with a total of 0, and by those stages that count.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    ) -> None:
        self._clock, self._progress = clock, progress
        self.stage = ""
        self.seconds: dict[str, float] = {}
        self._lent = 0.0  # time of the stages that the current one asked for

    def run(self, stage: str, work: Callable[[], T]) -> T:
        """`work()`, timed."""
        self.stage, lent, self._lent = stage, self._lent, 0.0
        self._progress(stage, 0, 0)
        began = self._clock()
        try:
            return work()
        finally:
            taken = self._clock() - began
            self.seconds[stage] = self.seconds.get(stage, 0.0) + taken - self._lent
            self._lent = lent + taken

    def counted(self, items: Sequence[T]) -> Iterator[T]:
        """The items, each reported when it is done with."""
        for done, item in enumerate(items, 1):
            yield item
            self._progress(self.stage, done, len(items))

    def ticks(self, total: int) -> Callable[[], None]:
        """What to call `total` times, to report as often."""
        numbers = count(1)
        return lambda: self._progress(self.stage, next(numbers), total)


@dataclass
class Workspace:
    """The answers of all stages under one folder. `damaged` lists files that were there and could not be used."""

    root: Path
    damaged: list[Path] = field(default_factory=list)

    def path(self, stage: str, video_id: str, key: str) -> Path:
        return self.root / stage / tree.plain_name(video_id, self.root) / f"{key[:16]}.json"

    def read(self, stage: str, video_id: str, key: str) -> Any | None:
        """The answer; None where there is none, or where it is not what was written."""
        path = self.path(stage, video_id, key)
        try:
            stored = json.loads(path.read_bytes())
            if stored["key"] == key and stored["sha256"] == atomic.sha256(atomic.canonical(stored["content"])):
                return stored["content"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self.damaged.append(path)
        return None

    def write(self, stage: str, video_id: str, key: str, content: Any) -> Any:
        """Keep an answer; gives it as it will be read. Raises ValueError for NaN, which JSON has not."""
        text = atomic.canonical(content)
        whole = atomic.canonical({"content": content, "key": key, "sha256": atomic.sha256(text)})
        atomic.write_bytes(self.path(stage, video_id, key), whole.encode())
        return json.loads(text)

    def stage(self, stage: str, video_id: str, key: str, work: Callable[[], Any], watch: Stopwatch) -> Any:
        """The answer of a stage, found or made by `work`; what is made is given as it will be found."""
        found = self.read(stage, video_id, key)
        if found is not None:
            return found
        return watch.run(stage, lambda: self.write(stage, video_id, key, work()))


@dataclass(frozen=True)
class Outcome:
    """How a video ended.

    key  of its answers; stage  the last one begun; seconds  by stage, of those that were run
    """

    video_id: str
    status: Status
    key: str
    stage: str
    seconds: Mapping[str, float]
    peak_bytes: int
    error: Mapping[str, str] | None = None


def attempt(video_id: str, work: Callable[[Stopwatch], tuple[bool, str]], watch: Stopwatch | None = None) -> Outcome:
    """Run one video; whatever it raises becomes an outcome, so that the others go on.

    `work` gives whether anything is kept, and the key of the answers. What says that the machine, not the video, is at
    fault goes through: an interrupt, and a full disk.
    """
    watch = watch or Stopwatch()
    error, status, key = None, cast(Status, "error"), ""
    try:
        kept, key = work(watch)
        status = "ok" if kept else "empty"
    except Exception as fault:
        if isinstance(fault, OSError) and fault.errno in atomic.FULL:
            raise
        trace = "" if isinstance(fault, InputError) else traceback.format_exc()
        error = {"type": type(fault).__name__, "message": str(fault), "traceback": trace}
    seconds = {stage: round(taken, 3) for stage, taken in watch.seconds.items()}
    return Outcome(video_id, status, key, watch.stage, seconds, peak_bytes(), error)


def note(root: Path, shard: Shard, outcome: Outcome, run: str) -> None:
    """Append a line to the worker's manifest. `run` tells settings and models apart."""
    path = root / "manifest" / f"{shard.index}-of-{shard.count}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        # a line that a kill cut short must not swallow this one
        file.write("\n" + atomic.canonical({"run": run, **asdict(outcome)}) + "\n")


def noted(root: Path, run: str) -> dict[str, dict[str, Any]]:
    """What became of each video in a run, of all workers; the last line of a worker about a video counts."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((root / "manifest").glob("*.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue  # an empty line, or one that a kill cut short
            if isinstance(line, dict) and line.get("run") == run:
                found[line["video_id"]] = line
    return found


def peak_bytes() -> int:
    """The most memory that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
