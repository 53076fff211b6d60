"""Pseudo-videos: the image once, masks that move with their pixels, clips that follow from seed and number alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.clips import ClipConfig
from datasets.loader import DataConfig, samples_per_epoch, train_batches
from datasets.pseudo_video import BLUR_SIZES, Copy, draw_copy, pseudo_video
from datasets.refcoco import read_refcoco, write_refcoco
from datasets.sources import SourceConfig
from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.transforms import TransformConfig
from datasets.video import MemoryVideo
from util.errors import InputError
from util.types import ABSENT, IGNORE, Expression, ReferringVideo

SIZE = (60, 90)


class Square:
    """One object, and a second one whose place is not known."""

    mask = np.zeros(SIZE, bool)
    mask[20:40, 30:60] = True

    def read(self, index: int, object_ids) -> tuple[np.ndarray, np.ndarray]:
        assert index == 0
        masks = np.zeros((len(object_ids), *SIZE), bool)
        for place, object_id in enumerate(object_ids):
            masks[place] = self.mask & (object_id == 1)
        return masks, np.array([1 if i == 1 else IGNORE for i in object_ids], np.int8)


def image() -> ReferringVideo:
    pixels = np.where(Square.mask[..., None], np.uint8(200), np.uint8(60)).repeat(3, axis=2)
    sentences = (Expression("0", "the square", (1,)), Expression("1", "the other", (2,)))
    return ReferringVideo("image", MemoryVideo([pixels], fps=1.0), ("image",), sentences, Square())


def test_the_image_is_there_once_in_any_place_and_the_copies_differ() -> None:
    places = set()
    for seed in range(20):
        video = pseudo_video(image(), 4, np.random.default_rng(seed))
        frames = [video.frames[index] for index in range(4)]
        same = [np.array_equal(frame, image().frames[0]) for frame in frames]
        assert sum(same) == 1 and len({frame.tobytes() for frame in frames}) == 4
        places.add(same.index(True))
        assert np.array_equal(video.masks.read(same.index(True), [1])[0][0], Square.mask)
        assert all(np.array_equal(frame, video.frames[index]) for index, frame in enumerate(frames))  # asked again
        again = pseudo_video(image(), 4, np.random.default_rng(seed))
        assert all(np.array_equal(frame, again.frames[index]) for index, frame in enumerate(frames))
    assert places == {0, 1, 2, 3}


def test_masks_move_with_their_pixels() -> None:
    """The bright square is where the mask is: only pixels on its edge may disagree."""
    shares = []
    for seed in range(30):
        copy = draw_copy(SIZE, np.random.default_rng(seed))
        mask, frame = copy.mask(Square.mask), Copy(0, 0, copy.warp_33, None).frame(image().frames[0])
        bright = frame[..., 0] > 130
        assert mask.any() and (mask ^ bright).sum() <= 0.5 * np.sqrt(mask.sum())
        shares.append(mask.sum() / Square.mask.sum())
    assert min(shares) > 0.9 and 1.05 < np.mean(shares) < 1.6  # the perspective magnifies, never shrinks


def test_draws_are_those_of_the_recipe() -> None:
    copies = [draw_copy(SIZE, np.random.default_rng(seed)) for seed in range(400)]
    brightness, hue = np.array([(c.brightness, c.hue_saturation) for c in copies]).T
    assert (brightness.min(), brightness.max()) == (-40, 40) and (hue.min(), hue.max()) == (-5, 5)
    assert (
        0.2 < np.mean(brightness == 0) < 0.33 and 0.25 < np.mean(hue == 0) < 0.42
    )  # each stays in a quarter of copies
    blurred = [c.blur for c in copies if c.blur is not None]
    assert 0.2 < len(blurred) / 400 < 0.3 and {kernel.shape[0] for kernel in blurred} == set(BLUR_SIZES)
    assert all(abs(kernel.sum() - 1) < 1e-5 and kernel.min() >= 0 for kernel in blurred)
    centres = np.array([c.warp_33 @ (SIZE[1] / 2, SIZE[0] / 2, 1) for c in copies])
    moved = np.abs(centres[:, :2] / centres[:, 2:] / (SIZE[1], SIZE[0]) - 0.5)
    assert 0.1 < moved.max() < 0.4


def test_colours_stay_in_range_and_grey_stays_grey() -> None:
    still = np.eye(3)
    bright = Copy(40, 0, still, None).frame(np.full((8, 8, 3), 240, np.uint8))
    assert (bright == 255).all()
    grey = Copy(0, -5, still, None).frame(np.full((8, 8, 3), 77, np.uint8))
    assert (grey == 77).all()
    red = np.zeros((8, 8, 3), np.uint8) + np.array([200, 20, 20], np.uint8)
    turned = Copy(0, 5, still, None).frame(red)[0, 0].astype(int)
    assert abs(turned[0] - 200) < 3 and 15 < turned[1] - turned[2] < 30  # 7 degrees from red towards yellow


def test_what_leaves_the_picture_is_absent_and_the_unknown_stays_unknown() -> None:
    away = np.array([[1, 0, 1000], [0, 1, 0], [0, 0, 1]], float)
    video = pseudo_video(image(), 2, np.random.default_rng(0))
    index = next(i for i in range(2) if video.frames._copies[i] is not None)
    object.__setattr__(video.frames._copies[index], "warp_33", away)
    masks, states = video.masks.read(index, [1, 2])
    assert not masks.any() and states.tolist() == [ABSENT, IGNORE]
    assert video.masks.read(index, [])[0].shape == (0, *SIZE)


def config(root: Path, **options) -> DataConfig:
    small = TransformConfig(short_sides=(32,), max_side=64, crop=0.0)
    clip = ClipConfig(frames=(1, 3), sampler="published", transform=small)
    source = SourceConfig("refcoco", root=str(root), split="refcoco+/train", pseudo_videos=True)
    return DataConfig((source,), clip, seed=2, **options)


def test_joint_training_reads_images_as_clips(tmp_path: Path) -> None:
    world = SyntheticVideos(SyntheticConfig(seed=3, videos=4, frames=1, height=48, width=80))
    write_refcoco(world, tmp_path, "refcoco+/train")
    sentences = sum(len(video.expressions) for video in read_refcoco(tmp_path, "refcoco+/train"))
    assert samples_per_epoch(config(tmp_path, workers=0)) == sentences
    stream = train_batches(config(tmp_path, workers=0), per_rank=1)
    batches = [next(stream) for _ in range(sentences)]
    for start, workers in ((0, 1), (5, 0)):  # from a worker, and after a resume
        again = next(train_batches(config(tmp_path, workers=workers), per_rank=1, start=start))
        assert torch.equal(again.frames_BTCHW, batches[start].frames_BTCHW)
        assert torch.equal(again.targets.masks_BENTHW, batches[start].targets.masks_BENTHW)
    clips = [batch for batch in batches if batch.frames_BTCHW.shape[1] == 3]
    assert clips and len(clips) < sentences
    for batch in clips:
        first, second, third = batch.frames_BTCHW[0]
        assert not torch.equal(first, second) and not torch.equal(second, third)
        assert torch.allclose(batch.times_BT[0], torch.arange(3) / 6)
        assert batch.targets.states_BENT.bool().any()


def test_videos_are_refused(tmp_path: Path) -> None:
    world = SyntheticVideos(SyntheticConfig(frames=2, height=32, width=48))
    with pytest.raises(InputError, match="is a video of 2 frames"):
        pseudo_video(world[0], 3, np.random.default_rng(0))
