"""The loading benchmark: its shares add up, and what it counts is decoded for sampled frames alone."""

from __future__ import annotations

import pytest

from datasets.clips import ClipConfig
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.transforms import TransformConfig
from scripts.bench.loading import Clock, TimedVideos, measure

WORLD = SyntheticVideos(SyntheticConfig(videos=2, frames=12, height=32, width=48, no_target=0))
CLIPS = ClipConfig(frames=3, transform=TransformConfig(short_sides=(32,), max_side=48, crop=0))


def test_shares_add_up_and_only_sampled_frames_are_read() -> None:
    row = measure(WORLD, CLIPS, 6)
    shares = [row[f"{part} %"] for part in ("opening", "frames", "masks", "batching", "other")]
    assert sum(shares) == pytest.approx(100) and min(shares) >= 0
    assert row["decoding %"] == pytest.approx(row["frames %"] + row["masks %"])
    # three different frames of each of six clips, and masks of these frames only
    assert row["frames read"] == row["masks read"] == 18


def test_timing_changes_nothing_that_is_read() -> None:
    for plain, timed in zip(WORLD, TimedVideos(WORLD, Clock()), strict=True):
        assert (plain.frames[3] == timed.frames[3]).all() and plain.expressions == timed.expressions
        ids = plain.expressions[0].object_ids
        assert ids and plain.masks and timed.masks
        assert (plain.masks.read(3, ids)[0] == timed.masks.read(3, ids)[0]).all()
