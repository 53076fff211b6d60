"""The check of a data set: find out what it is, read all of it on all cores, compare its parts, report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from datasets.check.detect import detect
from datasets.check.findings import Finding, Report, SplitCounts, fault
from datasets.check.layouts import compare_parts
from datasets.check.reading import labelled_frames, read_video
from datasets.sources import reader
from util.errors import InputError
from util.types import ReferringVideo


def check(
    root: Path,
    *,
    kind: str | None = None,
    split: str | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Report:
    """Read all of a data set and report what is wrong with it.

    `kind` and `split` are found out where they are not given. Frames are decoded by `workers` threads (default: one
    for each core). Raises InputError only when no data set is recognised at `root`; every other fault is a finding.
    """
    if workers is not None and workers < 1:
        raise InputError(f"{workers} workers cannot read anything; give at least 1")
    kind, splits = detect(root, kind, split)
    counts, findings = [], []
    for folder, name in splits:
        try:
            videos = reader(kind)(folder, name)
        except InputError as error:
            counts.append(SplitCounts(name))
            findings.append(fault(error))
            continue
        counted, found = _read_split(name, videos, workers or os.cpu_count() or 1, progress)
        counts.append(counted)
        findings += found
        findings += compare_parts(kind, folder, name, videos)
    return Report(root, kind, tuple(counts), tuple(dict.fromkeys(findings)))


def _read_split(
    split: str, videos: Sequence[ReferringVideo], workers: int, progress: bool
) -> tuple[SplitCounts, list[Finding]]:
    def read(index: int) -> tuple[SplitCounts, list[Finding]]:
        try:
            video = videos[index]
        except InputError as error:
            return SplitCounts(split), [fault(error)]
        no_target = sum(expression.object_ids == () for expression in video.expressions)
        sizes = (1, len(video.frames), len(labelled_frames(video)), len(video.expressions), no_target)
        return SplitCounts(split, *sizes), list(read_video(video))

    numbers = range(len(videos))
    # the first is read alone: what all videos share (a file of all masks) is then loaded once, not by every thread
    alone = map(read, numbers[:1])
    with ThreadPoolExecutor(workers) as pool:
        both = chain(alone, pool.map(read, numbers[1:])) if len(videos) > 1 else alone
        results = list(tqdm(both, split, len(videos), unit="video", disable=None if progress else True))
    sums = (sum(getattr(one, name) for one, _ in results) for name in _SUMMED)
    return SplitCounts(split, *sums), [finding for _, found in results for finding in found]


_SUMMED = ("videos", "frames", "labelled", "sentences", "no_target")
