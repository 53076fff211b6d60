"""What the motion stream must hold to: nothing at first, likeness where the picture went, neighbours on both sides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import build, words

from models.inference import InferenceConfig
from models.motion import REACH, SPAN, LevelMotion, Motion, correlation
from models.session import VideoSession


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def opened(module):
    """With last layers that say something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for level in module.levels if isinstance(module, Motion) else [module]:
            level.read[-1].weight.copy_(torch.randn(level.read[-1].weight.shape, generator=generator) * 0.1)
    return module


def test_correlation_is_the_inner_product_with_every_place_around():
    here, there = noise(2, 5, 4, 6), noise(2, 5, 4, 6, seed=1)
    found = correlation(here, there).view(2, SPAN, SPAN, 4, 6)
    for y, x, dy, dx in [(0, 0, 0, 0), (1, 2, 2, 3), (3, 5, -3, -1), (2, 2, 1, -2), (0, 0, -1, 0), (3, 5, 0, 1)]:
        inside = 0 <= y + dy < 4 and 0 <= x + dx < 6
        wanted = (here[:, :, y, x] * there[:, :, y + dy, x + dx]).sum(1) if inside else torch.zeros(2)
        torch.testing.assert_close(found[:, REACH + dy, REACH + dx, y, x], wanted)


@pytest.mark.parametrize("step", [(0, 2), (-1, 0), (3, -3)])
def test_the_likest_place_is_where_the_picture_went(step):
    picture = torch.nn.functional.normalize(noise(1, 32, 12, 14), dim=1)
    likeness = correlation(picture, picture.roll(step, (2, 3)))[0, :, 4:8, 4:10]
    place = likeness.flatten(1).argmax(0)
    assert ((place // SPAN - REACH == step[0]) & (place % SPAN - REACH == step[1])).all()


@torch.no_grad()
def test_it_starts_as_nothing():
    moving, still = build(motion=True), build()
    for level in moving.motion.levels:
        level.read[-1].weight.zero_()
        level.read[-1].bias.zero_()
    still.load_state_dict({k: v for k, v in moving.state_dict().items() if not k.startswith("motion.")})
    clip = noise(1, 3, 3, 64, 96)
    for a, b in zip(moving.encode_video(clip).projected, still.encode_video(clip).projected, strict=True):
        assert torch.equal(a, b)
    fresh = Motion((8, 16, 32), 64)
    levels = [noise(2, c, h, h + 1) for c, h in ((8, 8), (16, 4), (32, 2))]
    masks = [torch.zeros(1, h, h + 1, dtype=torch.bool) for h in (8, 4, 2)]
    assert all(not found.any() for found in fresh(levels, masks, torch.tensor([[0.0, 1.0]])))


@torch.no_grad()
def test_a_frame_knows_its_two_neighbours_and_no_other():
    level = opened(LevelMotion(6, 16))
    features, times = noise(5, 6, 5, 7), torch.arange(5.0)[None]
    mask = torch.zeros(1, 5, 7, dtype=torch.bool)
    before = level(features, mask, times)
    changed = features.clone()
    changed[2] = noise(6, 5, 7, seed=9)
    differs = (level(changed, mask, times) - before).abs().amax((1, 2, 3)) > 1e-6
    assert differs.tolist() == [False, True, True, True, False]


@torch.no_grad()
def test_time_matters():
    """A reversed clip looks different in every frame, and so does the same clip in half the time."""
    level = opened(LevelMotion(6, 16))
    features, mask = noise(3, 6, 5, 7), torch.zeros(1, 5, 7, dtype=torch.bool)
    times = torch.tensor([[0.0, 0.5, 1.0]])
    forward = level(features, mask, times)
    backward = level(features.flip(0), mask, times).flip(0)
    faster = level(features, mask, times / 2)
    for other in (backward, faster):
        assert ((forward - other).abs().amax((1, 2, 3)) > 1e-4).all()


@torch.no_grad()
def test_clips_do_not_mix():
    level = opened(LevelMotion(6, 16))
    features, mask = noise(6, 6, 5, 7), torch.zeros(2, 5, 7, dtype=torch.bool)
    times = torch.tensor([[0.0, 1.0, 2.0], [0.0, 3.0, 4.0]])
    together = level(features, mask, times)
    for clip in range(2):
        rows = slice(3 * clip, 3 * clip + 3)
        alone = level(features[rows], mask[:1], times[clip : clip + 1])
        torch.testing.assert_close(together[rows], alone, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_padding_is_like_nothing():
    """A place beside the padding has the likenesses that it would have at the frame's border."""
    level = opened(LevelMotion(6, 16))
    features, times = noise(2, 6, 5, 7), torch.tensor([[0.0, 1.0]])
    padded = torch.nn.functional.pad(features, (0, 3, 0, 2), value=2.0)
    mask = torch.ones(1, 7, 10, dtype=torch.bool)
    mask[:, :5, :7] = False
    seen = []
    level.read[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    level(features, torch.zeros(1, 5, 7, dtype=torch.bool), times)
    level(padded, mask, times)
    torch.testing.assert_close(seen[1][..., :5, :7], seen[0], atol=1e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("spread", [1, 2])
def test_a_stream_reads_motion_against_the_frame_a_window_would(spread):
    model = build(motion=True, tracking="feature")
    opened(model.motion)
    model.tokenizer, text = None, words(model, 1, 1)
    model.encode_text = lambda captions: text
    rng = np.random.default_rng(0)
    shown = [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(4)]
    session = VideoSession(model, InferenceConfig(window=2, spread=spread, short_side=64), fps=2.0)
    session.add_sentence("it")
    encoded = []
    plain = model.encode_expressions
    model.encode_expressions = lambda video, told: encoded.append(video) or plain(video, told)
    for frame in shown:
        session.step(frame)
    inference = session._inference
    for n in range(4):
        clip = [n - spread, n] if n >= spread else [0, n] if n else [n]
        window = model.encode_video(inference.pixels([shown[k] for k in clip]), inference.times(clip, 2.0))
        # the fourth level is one cell here, and its norm over two numbers makes much of the last bit
        for level, wanted in zip(encoded[n].projected[:3], window.projected[:3], strict=True):
            torch.testing.assert_close(level[0], wanted[-1], atol=1e-5, rtol=1e-5)
