"""Batches do not depend on workers, ranks or where training was resumed; sources mix in exact shares."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import signal
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.clips import ClipConfig
from datasets.loader import DataConfig, interleave, samples_per_epoch, train_batches
from datasets.mevis import write_mevis
from datasets.ref_youtube_vos import write_ref_youtube_vos
from datasets.sources import SourceConfig, eval_videos
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.transforms import TransformConfig
from util.errors import InputError
from util.types import ClipBatch

WORLD = SyntheticConfig(videos=6, frames=6, height=32, width=48, expressions=3)
SMALL = TransformConfig(short_sides=(24, 32), max_side=48, crop_from=(32, 40), crop_sides=(20, 40))
CLIP = ClipConfig(frames=(1, 3), expressions=2, transform=SMALL)
CONFIG = DataConfig((SourceConfig(synthetic=WORLD),), CLIP, workers=0, seed=3)


def take(count: int, config: DataConfig = CONFIG, **options: int) -> list[ClipBatch]:
    return list(islice(train_batches(config, **{"per_rank": 2, **options}), count))


def assert_equal(one: ClipBatch, other: ClipBatch) -> None:
    assert one.captions == other.captions and one.identity == other.identity
    for name in ("frames_BTCHW", "sizes_B2", "times_BT"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    for name, value in vars(one.targets).items():
        assert torch.equal(value, getattr(other.targets, name)), name


def test_workers_do_not_change_the_data() -> None:
    with_workers = DataConfig(CONFIG.sources, CLIP, workers=2, seed=3)
    for one, other in zip(take(5), take(5, with_workers), strict=True):
        assert_equal(one, other)


def test_workers_survive_the_signals_that_the_training_process_answers() -> None:
    batches = train_batches(DataConfig(CONFIG.sources, CLIP, workers=1, seed=3), per_rank=2)
    next(batches)
    (worker,) = multiprocessing.active_children()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid, number)
    for _ in range(8):  # more than are prefetched
        next(batches)
    batches.close()
    worker.join(20)
    assert worker.exitcode == 0


@pytest.mark.parametrize("kind", ["synthetic", "mevis", "ref_youtube_vos"])
def test_sources_reach_workers_that_are_started_afresh(kind: str, tmp_path: Path) -> None:
    """Where processes are spawned instead of forked, they get the videos by pickle."""
    write = {"mevis": write_mevis, "ref_youtube_vos": write_ref_youtube_vos}.get(kind)
    if write:
        write(SyntheticVideos(WORLD)[:1], tmp_path, "train")
    videos = eval_videos(SourceConfig(kind, root=str(tmp_path), synthetic=WORLD))
    ours, copied = videos[0], pickle.loads(pickle.dumps(videos))[0]
    ids = sorted({i for e in ours.expressions for i in e.object_ids})
    assert ours.expressions == copied.expressions and ids
    assert np.array_equal(ours.frames[1], copied.frames[1])
    assert np.array_equal(ours.masks.read(1, ids)[0], copied.masks.read(1, ids)[0])


def test_starting_at_a_step_is_resuming() -> None:
    for one, other in zip(take(6)[4:], take(2, start=4), strict=True):
        assert_equal(one, other)


def test_two_ranks_of_two_see_what_one_of_four_sees() -> None:
    whole = take(4, per_rank=4)
    parts = [take(4, per_rank=2, rank=rank, world=2) for rank in (0, 1)]
    for step, batch in enumerate(whole):
        assert batch.identity == parts[0][step].identity + parts[1][step].identity
        assert batch.captions == parts[0][step].captions + parts[1][step].captions
        # padding is each rank's own, so clips are compared inside their frames
        for place, (height, width) in enumerate(batch.sizes_B2.tolist()):
            part = parts[place // 2][step]
            assert part.sizes_B2[place % 2].tolist() == [height, width]
            inside = (place % 2, ..., slice(height), slice(width))
            assert torch.equal(part.frames_BTCHW[inside], batch.frames_BTCHW[place, ..., :height, :width])


def test_all_clips_of_a_step_have_the_same_length_and_both_lengths_come() -> None:
    lengths = [batch.frames_BTCHW.shape[1] for batch in take(12)]
    assert set(lengths) == {1, 3}


def test_the_process_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    take(2)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_gives_other_clips() -> None:
    other = take(3, DataConfig(CONFIG.sources, CLIP, workers=0, seed=4))
    assert [b.identity for b in take(3)] != [b.identity for b in other]


def test_interleaving_is_exact_and_numbers_each_source_without_gaps() -> None:
    weights = [Fraction(3), Fraction(1, 2), Fraction(3, 2)]
    drawn = [interleave(n, weights) for n in range(1000)]
    for source, share in enumerate((600, 100, 300)):
        numbers = [number for which, number in drawn if which == source]
        assert numbers == list(range(share))
        for upto in (10, 137, 500):  # evenly spread, not in blocks
            count = sum(which == source for which, _ in drawn[:upto])
            assert abs(count - upto * share / 1000) <= 2


def test_sources_mix(tmp_path: Path) -> None:
    write_mevis(
        SyntheticVideos(SyntheticConfig(seed=9, videos=2, frames=5, height=32, width=48)), tmp_path / "m", "train"
    )
    tree = SourceConfig("mevis", root=str(tmp_path / "m"), weight=1.0)
    config = DataConfig((SourceConfig(synthetic=WORLD, weight=3.0), tree), CLIP, workers=0)
    named = [name for batch in take(8, config, per_rank=1) for name in batch.identity]
    assert sum("synthetic-9-" in name for name in named) == 2
    sentences = sum(len(video.expressions) for video in eval_videos(tree))
    # the world counts its videos, a tree every pair of sentences at every 3 of its 5 frames
    pairs = sum(-(-len(video.expressions) // 2) * 2 for video in eval_videos(tree))
    assert sentences > 0 and samples_per_epoch(config) == 6 + pairs


def test_sources_without_weights_are_concatenated() -> None:
    worlds = [
        SyntheticConfig(seed=seed, videos=videos, frames=3, height=32, width=48) for seed, videos in ((1, 2), (9, 5))
    ]
    config = DataConfig(tuple(SourceConfig(synthetic=w, weight=None) for w in worlds), CLIP, workers=0)
    named = " ".join(name for batch in take(7, config, per_rank=1) for name in batch.identity)
    seen = [len(set(re.findall(rf"synthetic-{world.seed}-\d+", named))) for world in worlds]
    assert samples_per_epoch(config) == 7 and seen == [2, 5]


def test_a_pass_over_a_tree_visits_every_sentence_and_stretch(tmp_path: Path) -> None:
    write_mevis(SyntheticVideos(SyntheticConfig(videos=2, frames=5, height=32, width=48)), tmp_path / "m", "train")
    source = SourceConfig("mevis", root=str(tmp_path / "m"))
    clip = ClipConfig(frames=2, sampler="published", transform=SMALL)
    config = DataConfig((source,), clip, workers=0)
    total = samples_per_epoch(config)
    captions = [c for batch in take(total, config, per_rank=1) for (c,) in batch.captions]
    expected = [e.id for video in eval_videos(source) for e in video.expressions]
    assert total == 3 * len(expected) == len(captions)


def test_a_bad_file_is_one_clear_error_also_from_a_worker(tmp_path: Path) -> None:
    write_mevis(SyntheticVideos(SyntheticConfig(videos=1, frames=2, height=32, width=48)), tmp_path / "m", "train")
    for frame in (tmp_path / "m/train/JPEGImages").rglob("*.jpg"):
        frame.write_bytes(frame.read_bytes()[:200])
    for workers in (0, 1):
        config = DataConfig((SourceConfig("mevis", root=str(tmp_path / "m")),), CLIP, workers=workers)
        with pytest.raises(InputError, match=r"^cannot read .*jpg"):
            take(1, config)


@pytest.mark.parametrize(
    "config, message",
    [
        (DataConfig(()), "no data sources"),
        (DataConfig(seed=-1), "seed"),
        (DataConfig((SourceConfig(weight=0.0),)), "weight"),
        (DataConfig((SourceConfig(weight=None), SourceConfig())), "all of them one, or none"),
        (DataConfig((SourceConfig("mevis"),)), "no root"),
        (DataConfig((SourceConfig("ref_youtube_vos", root="/nowhere"),)), "meta_expressions.json"),
    ],
)
def test_bad_sources_are_refused(config: DataConfig, message: str) -> None:
    with pytest.raises(InputError, match=message):
        train_batches(config, per_rank=1)


def test_bad_ranks_are_refused() -> None:
    with pytest.raises(InputError, match="rank"):
        train_batches(CONFIG, per_rank=1, rank=2, world=2)
