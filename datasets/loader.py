"""Training batches from one or several data sources, the same for any number of workers, ranks or restarts.

Global clip n belongs to step n // (per_rank * world); its source, video, frames and augmentation follow from
(seed, n) alone. Resuming is starting at a step.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from datasets.clips import ClipConfig, ClipDataset, ClipSample, collate, frames_at
from datasets.sources import SourceConfig, eval_videos
from util.errors import InputError
from util.types import ClipBatch


@dataclass(frozen=True)
class DataConfig:
    """What to train on."""

    sources: tuple[SourceConfig, ...] = (SourceConfig(),)
    clip: ClipConfig = field(default_factory=ClipConfig)
    workers: int = 2  # processes per rank that make clips; 0 = in the training process
    seed: int = 42


def samples_per_epoch(config: DataConfig) -> int:
    """Clips of one epoch, over all ranks: the sum of one pass over each source (see `ClipDataset`)."""
    return sum(len(dataset) for dataset in _MixedClips(config, per_step=1).datasets)


def train_batches(
    config: DataConfig, *, per_rank: int, rank: int = 0, world: int = 1, start: int = 0
) -> Iterator[ClipBatch]:
    """Batches of `per_rank` clips without end, beginning with global step `start`.

    Clip i of a step is number step * per_rank * world + rank * per_rank + i, so two ranks of 2 see what one of 4 sees.
    Raises InputError for bad sources, and while iterating for bad files.
    """
    if per_rank < 1 or not 0 <= rank < world:
        raise InputError(f"need per_rank >= 1 and 0 <= rank < world, not {per_rank}, {rank}, {world}")
    clips = _MixedClips(config, per_step=per_rank * world)
    loader = DataLoader(
        _Guarded(clips),
        batch_sampler=_Numbers(per_rank, rank, world, start),
        num_workers=config.workers,
        collate_fn=_collate_guarded,
        worker_init_fn=_start_worker if config.workers else None,
        prefetch_factor=4 if config.workers else None,
        generator=torch.Generator(),  # else starting (or resuming) draws from the global one
    )
    return _unguarded(loader)


# ---- mixing sources --------------------------------------------------------------------------------------------------


class _MixedClips:
    """Clip n of all sources together."""

    def __init__(self, config: DataConfig, *, per_step: int) -> None:
        if not config.sources:
            raise InputError("no data sources; give at least one under data.sources")
        weights = [source.weight for source in config.sources]
        if any(weight is not None and weight <= 0 for weight in weights):
            raise InputError("the weight of a data source must be above 0; leave out sources you do not want")
        if None in weights and set(weights) != {None}:
            raise InputError("some data sources have a weight and others null; give all of them one, or none")
        if config.seed < 0:
            raise InputError(f"data.seed must be 0 or more, not {config.seed}")
        self.config, self.per_step = config, per_step
        self.datasets = [
            ClipDataset(
                eval_videos(source),
                config.clip,
                seed=int(np.random.SeedSequence([config.seed, place]).generate_state(1)[0]),
                every_clip=source.kind != "synthetic",
                pseudo_videos=source.pseudo_videos,
            )
            for place, source in enumerate(config.sources)
        ]
        self.weights = [
            Fraction(len(dataset)) if weight is None else Fraction(weight).limit_denominator(10**6)
            for weight, dataset in zip(weights, self.datasets, strict=True)
        ]

    def __getitem__(self, n: int) -> ClipSample:
        source, number = interleave(n, self.weights)
        frames = frames_at(self.config.clip, self.config.seed, n // self.per_step)
        return self.datasets[source].sample(number, frames)


def interleave(n: int, weights: Sequence[Fraction]) -> tuple[int, int]:
    """Which source clip n comes from and its number there, spread evenly and exact: no draw decides.

    Of the first n clips source 0 has floor(n w0 / sum w); the rest is shared among the others in the same way.
    """
    left = sum(weights, Fraction(0))
    for source, weight in enumerate(weights[:-1]):
        share = weight / left
        before, after = int(n * share), int((n + 1) * share)
        if after > before:
            return source, before
        n, left = n - before, left - weight
    return len(weights) - 1, n


# ---- workers ---------------------------------------------------------------------------------------------------------


class _Numbers:
    """Lists of this rank's clip numbers, step after step."""

    def __init__(self, per_rank: int, rank: int, world: int, start: int) -> None:
        self.per_rank, self.rank, self.world, self.start = per_rank, rank, world, start

    def __iter__(self) -> Iterator[list[int]]:
        step = self.start
        while True:
            first = (step * self.world + self.rank) * self.per_rank
            yield list(range(first, first + self.per_rank))
            step += 1


class _Guarded(Dataset[ClipSample | InputError]):
    """Hands an InputError on as a value: a worker's exception would reach the user wrapped in its traceback."""

    def __init__(self, clips: _MixedClips) -> None:
        self.clips = clips

    def __getitem__(self, n: int) -> ClipSample | InputError:
        try:
            return self.clips[n]
        except InputError as error:
            return error


def _collate_guarded(samples: list[ClipSample | InputError]) -> ClipBatch | InputError:
    for sample in samples:
        if isinstance(sample, InputError):
            return sample
    return collate([sample for sample in samples if isinstance(sample, ClipSample)])


def _unguarded(loader: DataLoader[ClipSample | InputError]) -> Iterator[ClipBatch]:
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        yield batch


def _start_worker(_: int) -> None:
    """One thread per worker; signals to the process group are for the training process, which ends its workers."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
