"""The synthetic world's pixels: masks exact under occlusion, every frame on its own, one world at every resolution."""

from __future__ import annotations

import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.synthetic.render import Renderer
from datasets.synthetic.shapes import REACH, SHAPES, distance, interior
from datasets.synthetic.videos import SyntheticMasks
from util.errors import InputError
from util.types import ABSENT, PRESENT

SMALL = SyntheticConfig(seed=3, videos=10, frames=12, height=48, width=80)


def amodal(world, thing, config, frame):
    """What the thing covers within the frame where nothing is in front of it."""
    alone = Renderer(replace(world, things=(thing,)), config.height, config.width, (0,))
    return SyntheticMasks(alone, config.frames).read(frame, [thing.id])[0][0]


def test_masks_are_disjoint_and_each_pixel_shows_the_foremost_thing_that_covers_it():
    videos = SyntheticVideos(SMALL)
    occluded = 0
    for number in range(len(videos)):
        world, _ = videos.program(number)
        masks = videos[number].masks
        assert masks is not None
        for frame in range(0, SMALL.frames, 3):
            ids = [thing.id for thing in world.things]
            visible, states = masks.read(frame, ids)
            whole = np.stack([amodal(world, thing, SMALL, frame) for thing in world.things])
            assert visible.sum(axis=0).max() <= 1
            assert np.array_equal(visible.any(axis=0), whole.any(axis=0))
            for order in range(len(ids)):
                expected = whole[order] & ~whole[order + 1 :].any(axis=0)
                assert np.array_equal(visible[order], expected)
                assert states[order] == (PRESENT if expected.any() else ABSENT)
                occluded += int(whole[order].sum() - expected.sum())
    assert occluded > 400


def test_masks_follow_the_painted_pixels():
    """Another colour for the foremost thing changes its mask's pixels, and none but its soft rim outside."""
    config = replace(SMALL, height=96, width=160)
    for number in range(4):
        world, _ = SyntheticVideos(config).program(number)
        top = world.things[-1]
        recoloured = replace(top, colour="blue" if top.colour != "blue" else "red")
        first = Renderer(world, config.height, config.width, (1,))
        second = Renderer(replace(world, things=(*world.things[:-1], recoloured)), config.height, config.width, (1,))
        changed = np.abs(first.frame(1.0).astype(int) - second.frame(1.0)).max(axis=-1) > 0
        mask = first.labels(1.0) == top.id
        near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        assert mask.sum() > 100
        assert changed[mask].all()
        assert not changed[~near].any()


def test_frames_and_masks_do_not_depend_on_the_order_of_reading():
    forward, backward = SyntheticVideos(SMALL)[1], SyntheticVideos(SMALL)[1]
    assert forward.masks is not None and backward.masks is not None
    frames = {frame: forward.frames[frame] for frame in range(SMALL.frames)}
    for frame in reversed(range(SMALL.frames)):
        masks, states = backward.masks.read(frame, [3, 1])
        again, same = forward.masks.read(frame, [3, 1])
        assert np.array_equal(masks, again) and np.array_equal(states, same)
        assert np.array_equal(backward.frames[frame], frames[frame])


def test_videos_survive_pickling_after_use():
    video = SyntheticVideos(SMALL)[2]
    first = video.frames[4]
    copy = pickle.loads(pickle.dumps(video))
    assert np.array_equal(copy.frames[4], first)
    assert np.array_equal(copy.masks.read(7, [1])[0], video.masks.read(7, [1])[0])


def test_a_video_is_the_same_at_every_resolution_length_and_place_in_the_list():
    small, large = SyntheticVideos(SMALL), SyntheticVideos(replace(SMALL, height=144, width=240, frames=34, videos=900))
    for number in range(3):
        assert small[number].expressions == large[number].expressions
        # 12 and 34 frames share their moments 0, 3, 6, ...: 11 steps against 33.
        coarse = small[number].masks.read(4, [1, 2, 3])[0]
        fine = large[number].masks.read(12, [1, 2, 3])[0]
        assert np.array_equal(coarse, fine[:, 1::3, 1::3])


def test_frames_are_what_the_contract_says():
    video = SyntheticVideos(SMALL)[0]
    assert len(video.frames) == SMALL.frames == len(video.frame_names)
    assert video.frames.size == (48, 80) and video.frames.fps == SMALL.fps
    frame = video.frames[0]
    assert frame.shape == (48, 80, 3) and frame.dtype == np.uint8
    assert np.abs(frame.astype(int) - video.frames[11]).mean() > 3
    masks, states = video.masks.read(0, [2, 1])
    assert masks.shape == (2, 48, 80) and masks.dtype == bool
    assert states.dtype == np.int8 and video.masks.read(0, [])[0].shape == (0, 48, 80)
    with pytest.raises(IndexError):
        video.frames[12]
    with pytest.raises(IndexError):
        SyntheticVideos(SMALL)[10]
    assert [one.id for one in SyntheticVideos(SMALL)[8:]] == ["synthetic-3-00008", "synthetic-3-00009"]


def test_shapes_stay_within_reach_and_their_samples_lie_inside():
    axis = np.linspace(-1.6, 1.6, 65, dtype=np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    for shape in SHAPES:
        inside = distance(shape, x, y) < 0
        assert np.hypot(x, y)[inside].max() <= REACH
        points = interior(shape)
        assert (distance(shape, points[:, 0], points[:, 1]) < 0).all() and len(points) >= 30
        assert np.array_equal(inside, inside[:, ::-1]), "every shape is its own mirror image"
    with pytest.raises(ValueError, match="hexagon"):
        distance("hexagon", x, y)


@pytest.mark.parametrize(
    "bad",
    [
        {"videos": 0},
        {"height": 8},
        {"width": 1000},
        {"max_objects": 2},
        {"motion": 0.7, "no_target": 0.7},
        {"seed": -1},
    ],
)
def test_impossible_configs_are_refused(bad):
    with pytest.raises(InputError):
        SyntheticConfig(**bad)
