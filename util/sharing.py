"""Work on the videos of a data set, dealt out to the ranks of a run and to processes, in the videos' order again."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar, cast

import cv2
from tqdm import tqdm

from util.distributed import World
from util.errors import InputError

T = TypeVar("T")

_work: Callable[[int], object] | None = None  # of a forked process: a function cannot be sent to it


def share(
    work: Callable[[int], T],
    count: int,
    world: World,
    *,
    limit: int | None = None,
    processes: int = 1,
    progress: bool = False,
) -> list[T]:
    """`work(n)` of videos 0 .. count - 1, or of the first `limit`, in their order and the same on every rank.

    Rank r takes videos r, r + size, ..., and has `processes` forked processes share them; above 1, `work` must use no
    GPU. Raises InputError for a limit below 1, and what `work` raises.
    """
    if limit is not None and limit < 1:
        raise InputError(f"{limit} videos are to be scored; give at least 1")
    numbers = range(world.rank, min(count, limit or count), world.size)
    done = _forked(work, numbers, processes) if min(processes, len(numbers)) > 1 else map(work, numbers)
    shown = tqdm(done, desc="videos", total=len(numbers), disable=None if progress and world.is_main else True)
    mine = list(zip(numbers, shown, strict=True))
    found = sorted((item for part in world.gather(mine) for item in part), key=lambda item: item[0])
    return [result for _, result in found]


def _forked(work: Callable[[int], T], numbers: range, processes: int) -> Iterator[T]:
    global _work
    _work = work
    pool = ProcessPoolExecutor(min(processes, len(numbers)), multiprocessing.get_context("fork"), _single_threaded)
    try:
        yield from cast(Iterator[T], pool.map(_call, numbers))
    finally:
        _work = None
        pool.shutdown(cancel_futures=True)


def _call(number: int) -> object:
    assert _work is not None
    return _work(number)


def _single_threaded() -> None:
    cv2.setNumThreads(0)
