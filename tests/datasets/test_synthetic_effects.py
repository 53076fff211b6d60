"""Hard videos: the same exact masks as plain drawing, whatever is done to the picture; occluders hide things."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from datasets.synthetic import SyntheticConfig, SyntheticVideos
from datasets.synthetic.draw import Draw
from datasets.synthetic.effects import smear
from datasets.synthetic.hard_backdrop import HardBackdrop
from datasets.synthetic.layout import COLOURS
from datasets.synthetic.occluders import Occluder
from datasets.synthetic.paths import Route, profile
from datasets.synthetic.render import PAINT, Renderer
from datasets.synthetic.textures import Images, noise
from datasets.synthetic.videos import SyntheticMasks
from datasets.synthetic.world import Camera, Thing, World
from util.errors import InputError
from util.types import ABSENT, PRESENT

HARD = SyntheticConfig(seed=4, videos=8, frames=12, height=64, width=112, split="mixed", hard=True)


def disc(number, start, way=((1.0, 0.0, 0.0),), colour="red", radius=0.15):
    return Thing(number, "circle", colour, "plain", radius, 0.0, 0.0, "made", Route(start, profile(*way)))


def test_effects_change_every_frame_and_no_mask():
    for number in range(4):
        world, _ = SyntheticVideos(HARD).program(number)
        hard, plain = (Renderer(world, 64, 112, (number,), (0.0, 0.5, 1.0), hard=hard) for hard in (True, False))
        for u in (0.0, 0.5, 1.0):
            assert np.abs(hard.frame(u).astype(int) - plain.frame(u)).mean() > 4
            assert np.array_equal(hard.labels(u), plain.labels(u))


def test_hard_frames_do_not_depend_on_the_order_of_reading():
    forward, backward = SyntheticVideos(HARD)[1], SyntheticVideos(HARD)[1]
    frames = [forward.frames[frame] for frame in range(HARD.frames)]
    for frame in reversed(range(HARD.frames)):
        assert np.array_equal(backward.frames[frame], frames[frame])


def test_the_colour_that_names_a_thing_can_be_told_in_hard_videos():
    """Of plain things, nearest by its share of red, green and blue among all names, in most frames."""
    named = {name: np.array(PAINT[name][0], float) / sum(PAINT[name][0]) for name in COLOURS}
    right = total = 0
    for number in range(24):
        world, _ = SyntheticVideos(replace(HARD, split="easy", videos=24)).program(number)
        renderer = Renderer(world, 64, 112, (number,), (0.0, 0.5, 1.0), hard=True)
        for u in (0.0, 0.5, 1.0):
            frame, labels = renderer.frame(u).astype(float), renderer.labels(u)
            for thing in world.things:
                inner = cv2.erode((labels == thing.id).astype(np.uint8), np.ones((3, 3))) > 0
                if thing.texture == "plain" and inner.sum() >= 20:
                    mean = frame[inner].mean(axis=0)
                    near = min(
                        named, key=lambda name: np.abs(mean / mean.sum() - named[name] / named[name].sum()).sum()
                    )
                    right, total = right + (near == thing.colour), total + 1
    assert total > 40 and right / total > 0.85, (right, total)


def test_blur_follows_the_way_of_a_thing():
    """A thing that crosses the picture is smeared to its sides and not up and down; one that stands is not smeared."""
    moments = (0.0, 0.25, 0.5, 0.75, 1.0)
    softness = {}
    for name, way in {"still": ((1.0, 0.0, 0.0),), "moving": ((1.0, 1.0, 0.0),)}.items():
        world = World(1.75, (disc(1, (0.4, 0.5), way),), Camera((0.0, 0.0), 0.0, 0.0))
        renderer = Renderer(world, 192, 336, (3,), moments, hard=True)
        frame = renderer.frame(0.5).astype(float)
        mask = renderer.labels(0.5) > 0
        y, x = np.argwhere(mask).mean(axis=0).round().astype(int)
        red = frame[..., 0] - frame[..., 2]
        softness[name] = np.abs(np.diff(red[y])).max(), np.abs(np.diff(red[:, x])).max()
    assert softness["moving"][0] < 0.5 * softness["still"][0]
    assert softness["moving"][1] > 0.6 * softness["still"][1]


def test_smear_is_the_mean_over_the_way():
    patch = np.zeros((9, 11, 1), np.float32)
    patch[4, 5] = 6
    assert np.array_equal(smear(patch, 0.3, -0.4), patch)
    along = smear(patch, 4, 0)[..., 0]
    assert np.allclose(along[4, 3:8], 6 / 5) and along.sum() == pytest.approx(6)
    assert np.array_equal(smear(patch, 0, 4)[..., 0].sum(axis=1), along.sum(axis=0)[1:10])
    assert np.allclose(smear(patch, 3, 2), smear(patch, -3, -2))
    assert smear(patch, 60, 50).shape == patch.shape


def test_occluders_hide_things_and_have_no_mask():
    hidden, beside = disc(1, (0.5, 0.5), radius=0.1), disc(2, (1.2, 0.5), radius=0.1)
    away = disc(3, (3.0, 0.5), radius=0.1)
    pillar = Occluder("pillar", ((0.5, 0.5, 0.2),))
    bush = Occluder("foliage", ((1.2, 0.6, 0.1), (1.3, 0.5, 0.05)))
    camera = Camera((0.0, 0.0), 0.0, 0.0)
    open_world = World(1.75, (hidden, beside, away), camera)
    world = replace(open_world, occluders=(pillar, bush))
    masks = SyntheticMasks(Renderer(world, 96, 168, (0,), hard=True), 3)
    free = SyntheticMasks(Renderer(open_world, 96, 168, (0,)), 3)
    assert [masks.state(1, number) for number in (1, 2, 3)] == ["occluded", "present", "absent"]
    assert [free.state(1, number) for number in (1, 2, 3)] == ["present", "present", "absent"]
    assert np.array_equal(masks.whole(1, [2, 1, 3]), free.read(1, [2, 1, 3])[0])
    visible, states = masks.read(1, [1, 2, 3])
    assert states.tolist() == [ABSENT, PRESENT, ABSENT]
    assert 0.1 < visible[1].sum() / masks.whole(1, [2]).sum() < 0.9
    assert world.tracks[1].seen_T.max() == 0
    share = visible[1].sum() / masks.whole(1, [2]).sum()
    assert world.tracks[2].seen_T[12] == pytest.approx(share, abs=0.12)


def test_a_zooming_camera_moves_ground_and_things_alike():
    camera = Camera((0.06, 0.02), 0.004, 1.0, zoom=0.08, shake=0.003)
    world = World(1.75, (disc(1, (0.3, 0.3), radius=0.1), disc(2, (1.5, 0.7), radius=0.1)), camera)
    poses = world.poses(np.array([0.0, 1.0]))
    apart = np.hypot(*(poses[1, :2] - poses[0, :2]))
    assert apart[1] / apart[0] == pytest.approx(1.04 / 0.96, rel=1e-4)
    assert poses[0, 2, 1] / poses[0, 2, 0] == pytest.approx(1.04 / 0.96, rel=1e-4)
    backdrop = HardBackdrop((1,), 96, 168, camera, None)
    points = np.array([[60, 40], [120, 70]], np.float32)
    shifts, scales = camera.at(np.array([0.0, 1.0])), camera.scale(np.array([0.0, 1.0]))
    before, after = (backdrop.view(shifts[:, end], float(scales[end])) for end in (0, 1))
    for x, y in points:
        # Where the ground that is at (x, y) at first lies at the end.
        scene = (np.array([x, y]) / 96 - [0.875, 0.5]) / 0.96 + [0.875, 0.5] + shifts[:, 0]
        later = ((scene - shifts[:, 1] - [0.875, 0.5]) * 1.04 + [0.875, 0.5]) * 96
        first = cv2.getRectSubPix(before, (9, 9), (float(x - 0.5), float(y - 0.5)))
        last = cv2.getRectSubPix(after, (9, 9), (float(later[0] - 0.5), float(later[1] - 0.5)))
        wrong = cv2.getRectSubPix(after, (9, 9), (float(x - 0.5), float(y - 0.5)))
        assert np.abs(first - last).mean() < 0.6 * np.abs(first - wrong).mean()


def test_images_of_the_user_texture_ground_and_things(tmp_path):
    stripes = np.zeros((80, 120, 3), np.uint8)
    stripes[:, ::8] = 255
    cv2.imwrite(str(tmp_path / "stripes.png"), stripes)
    cv2.imwrite(str(tmp_path / "grey.jpg"), np.full((50, 50), 128, np.uint8))
    (tmp_path / "notes.txt").write_text("not an image")
    textured = SyntheticVideos(replace(HARD, textures=str(tmp_path)))
    plain = SyntheticVideos(HARD)
    assert textured[0].expressions == plain[0].expressions
    assert np.array_equal(textured[0].masks.read(3, [1, 2])[0], plain[0].masks.read(3, [1, 2])[0])
    assert not np.array_equal(textured[0].frames[3], plain[0].frames[3])
    patch = Images(str(tmp_path)).patch(Draw(1), 40, 60)
    assert patch.shape == (40, 60) and patch.dtype == np.float32 and abs(patch.mean()) < 0.2


def test_folders_without_usable_images_are_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="no images"):
            Images(str(folder))
    broken = tmp_path / "more"
    broken.mkdir()
    (broken / "cut.png").write_bytes(b"\x89PNG and no more")
    with pytest.raises(InputError, match=r"cut\.png"):
        Images(str(broken))


def test_noise_is_smooth_and_of_the_asked_fineness():
    coarse, fine = (noise(Draw(1), 64, 96, cells) for cells in (4, 32))
    assert coarse.shape == (64, 96) and np.abs(coarse).max() <= 1
    assert np.abs(np.diff(coarse, axis=0)).mean() < 0.4 * np.abs(np.diff(fine, axis=0)).mean()
