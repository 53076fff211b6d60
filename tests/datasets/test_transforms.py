"""Augmentation: the resize rule's goldens, mirrored sentences, boxes that fit, colours that stay colours."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.transforms import (
    TransformConfig,
    View,
    change_colours,
    clean_caption,
    draw_view,
    flip_caption,
    turn_hue,
)
from util.boxes import masks_to_boxes
from util.protocol import CORRECTED, PUBLISHED
from util.resize import resized


@pytest.mark.parametrize(
    "width, height, short, longest, expected",
    [
        (1280, 720, 512, 640, (360, 640)),
        (1280, 720, 288, 640, (288, 512)),
        (854, 480, 512, 640, (360, 640)),
        (640, 480, 512, 640, (480, 640)),
        (1920, 800, 360, None, (360, 864)),
        (1920, 800, 360, 640, (267, 640)),
        (500, 375, 768, 800, (600, 800)),
    ],
)
def test_resize_rule(width: int, height: int, short: int, longest: int | None, expected: tuple[int, int]) -> None:
    assert resized((height, width), short, longest) == expected
    assert resized((width, height), short, longest) == expected[::-1]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_frames_are_resized_as_pil_does() -> None:
    frames = noise(2, 45, 80, 3)
    ours = View((45, 80), (20, 35)).frames(frames).permute(0, 2, 3, 1).numpy()
    pil = np.stack([np.array(Image.fromarray(f).resize((35, 20), Image.Resampling.BILINEAR)) for f in frames])
    assert np.abs(ours.astype(int) - pil).max() <= 1


def test_flip_is_its_own_inverse() -> None:
    frames, masks = noise(2, 8, 10, 3), noise(1, 2, 8, 10) > 128
    view = View((8, 10), (8, 10), flip=True)
    once = view.frames(frames)
    assert torch.equal(once, torch.from_numpy(frames[:, :, ::-1].copy()).permute(0, 3, 1, 2))
    assert torch.equal(view.masks(masks), torch.from_numpy(masks[..., ::-1].copy()))


@pytest.mark.parametrize("flip", [False, True])
def test_window_shows_the_same_place_in_frames_masks_and_boxes(flip: bool) -> None:
    frames = np.zeros((1, 40, 60, 3), np.uint8)
    frames[0, 10:20, 30:50] = 255
    masks = frames[None, ..., 0] > 0
    view = View((40, 60), (48, 60), flip, before=(80, 120), window=(10, 30, 64, 80))
    mask = view.masks(masks)[0, 0]
    seen = view.frames(frames)[0, 0] > 127
    assert mask.any() and (mask ^ seen).float().mean() < 0.02
    moved = view.boxes(masks_to_boxes(torch.from_numpy(masks)))[0, 0]
    assert (moved - masks_to_boxes(mask)).abs().max() <= 1


def test_drawn_views_keep_the_recipes_bounds() -> None:
    config = TransformConfig()
    sizes, flips, cuts = set(), 0, 0
    for n in range(300):
        view = draw_view((720, 1280), config, np.random.default_rng(n))
        assert max(view.size) <= 640
        sizes.add(view.size)
        flips += view.flip
        cuts += view.window is not None
        if view.window is not None and view.before is not None:
            top, left, height, width = view.window
            assert min(view.before) in config.crop_from
            assert min(height, width) >= 384 and max(height, width) <= 600
            assert top + height <= view.before[0] and left + width <= view.before[1]
        else:
            assert view.size in {resized((720, 1280), short, 640) for short in config.short_sides}
    assert len(sizes) > 50 and 110 < flips < 190 and 110 < cuts < 190


def test_windows_may_have_their_own_sizes() -> None:
    """As in RefCOCO's recipe: whole images become larger than windows."""
    config = TransformConfig((480, 768), 800, cropped_short_sides=(296, 512), cropped_max_side=640)
    for n in range(100):
        view = draw_view((480, 640), config, np.random.default_rng(n))
        of, shorts, longest = (480, 640), (480, 768), 800
        if view.window is not None:
            of, shorts, longest = view.window[2:], (296, 512), 640
        assert view.size in {resized(of, short, longest) for short in shorts}


def test_window_is_never_larger_than_the_picture() -> None:
    config = TransformConfig(short_sides=(24,), max_side=48, crop=1.0, crop_from=(20,), crop_sides=(384, 600))
    view = draw_view((30, 40), config, np.random.default_rng(0))
    assert view.window == (0, 0, 20, 26)


# ---- sentences


@pytest.mark.parametrize(
    "text, mirrored",
    [
        ("the dog on the left", "the dog on the right"),
        ("left of the right car", "right of the left car"),
        ("the leftmost of three", "the rightmost of three"),
        ("moving leftwards, then rightward", "moving rightwards, then leftward"),
        ("the right-hand lane", "the left-hand lane"),
        ("turning clockwise", "turning anticlockwise"),
        ("turning anticlockwise", "turning clockwise"),
        ("turning counter-clockwise", "turning clockwise"),
        ("LEFT and Right", "RIGHT and Left"),
        ("a bright upright lamp", "a bright upright lamp"),
        ("a cleft in the copyright", "a cleft in the copyright"),
        ("the man who left the room", "the man who left the room"),
        ("the cat that has left", "the cat that has left"),
        ("the child right behind the car", "the child right behind the car"),
        ("the one on the right behind the car", "the one on the left behind the car"),
        ("a duck swimming away", "a duck swimming away"),
    ],
)
def test_mirrored_sentences(text: str, mirrored: str) -> None:
    assert flip_caption(text) == mirrored


def test_mirroring_twice_gives_the_sentence_back() -> None:
    for text in ("the left dog right of the leftmost clockwise wheel", "anticlockwise rightwards", "the dog who left"):
        assert flip_caption(flip_caption(text)) == text


def test_published_mirroring_goes_into_words() -> None:
    substring = replace(CORRECTED, caption_flip="substring")
    assert flip_caption("a bright upright lamp left of it", substring) == "a bleft upleft lamp right of it"
    assert flip_caption("turning clockwise", substring) == "turning clockwise"


def test_clean_caption() -> None:
    assert clean_caption("  The  DOG\ton the left\n") == "the dog on the left"


# ---- colours


def changed(frames: np.ndarray, seed: int) -> np.ndarray:
    return change_colours(frames, np.random.default_rng(seed))


def test_colours_are_drawn_once_per_clip() -> None:
    still = np.repeat(noise(1, 6, 8, 3), 4, axis=0)
    different = 0
    for seed in range(20):
        clip = changed(still, seed)
        assert all(np.array_equal(clip[0], frame) for frame in clip)
        different += not np.array_equal(clip[0], still[0])
    assert different > 15


def test_published_colours_flicker() -> None:
    still = np.repeat(noise(1, 6, 8, 3), 4, axis=0)
    clip = change_colours(still, np.random.default_rng(0), replace(CORRECTED, photometric="frame"))
    assert len({frame.tobytes() for frame in clip}) == 4


def test_white_stays_bright_and_black_dark() -> None:
    white, black = np.full((1, 4, 4, 3), 255, np.uint8), np.zeros((1, 4, 4, 3), np.uint8)
    for seed in range(200):
        assert changed(white, seed).min() > 100
        assert changed(black, seed).max() < 60


def test_published_white_wraps_to_black() -> None:
    white = np.full((1, 4, 4, 3), 255, np.uint8)
    lowest = min(change_colours(white, np.random.default_rng(seed), PUBLISHED).min() for seed in range(200))
    assert lowest < 30


def test_red_is_never_turned_blue() -> None:
    red = np.zeros((1, 4, 4, 3), np.uint8)
    red[..., 0] = 200
    for seed in range(200):
        pixel = changed(red, seed)[0, 0, 0].astype(int)
        assert pixel[0] > pixel[1] and pixel[0] > pixel[2]


def test_hue_and_saturation_are_those_of_hsv() -> None:
    pixels = noise(1, 8, 8, 3).astype(np.float32)
    ours = turn_hue(pixels, 1.3, 12.0, published=False)
    for pixel, found in zip(pixels.reshape(-1, 3), ours.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255))
        # the recipe reads RGB as BGR, which turns the hue circle round
        expected = colorsys.hsv_to_rgb((hue - 12 / 360) % 1, min(saturation * 1.3, 1), value)
        assert np.abs(found - 255 * np.array(expected)).max() < 0.5
